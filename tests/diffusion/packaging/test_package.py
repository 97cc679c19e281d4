"""Reading packages: nothing is used that does not have its hash."""

import shutil
from pathlib import Path

import pytest

from diffusion.packaging.package import Package, PackageError


@pytest.fixture
def copy(packages, tmp_path) -> Path:
    return Path(shutil.copytree(packages["int8"].path, tmp_path / "copy"))


def shard_of(package: Package, name: str) -> Path:
    piece = package.manifest.tensors[name].pieces[-1]
    return package.path / package.manifest.shards[piece.shard].file_name


NAME = "transformer/blocks.1.up_proj.weight"


def test_a_damaged_shard_is_never_used(copy):
    package = Package(copy)
    shard = shard_of(package, NAME)
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(PackageError, match=f"{shard.name} is damaged"):
        package.tensor(NAME)
    assert package.tensor("text_encoder/norm.weight").size  # in another shard


def test_a_missing_shard_is_named(copy):
    package = Package(copy)
    shard = shard_of(package, NAME)
    shard.unlink()
    with pytest.raises(PackageError, match=shard.name):
        package.tensor(NAME)


def test_a_folder_without_a_manifest_is_no_package(tmp_path):
    with pytest.raises(PackageError, match=r"manifest.json"):
        Package(tmp_path)


def test_a_broken_manifest_is_refused(copy):
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(PackageError, match=r"manifest.json: not p2pweb-package"):
        Package(copy)


def test_what_it_does_not_hold_is_a_key_error(copy):
    package = Package(copy)
    for call in (package.tensor, package.file):
        with pytest.raises(KeyError):
            call("transformer/nothing")
