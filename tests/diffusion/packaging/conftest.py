import hashlib
from pathlib import Path

import pytest

from diffusion.packaging.manifest import dtypes_of
from diffusion.packaging.pack import pack_model
from diffusion.packaging.package import Package

SMALL_SHARDS = 64 * 1024


def pack(folder: Path, out: Path, variant: str = "int8", **options) -> Package:
    pack_model(folder, out, dtypes_of(variant), **{"max_shard": SMALL_SHARDS, **options})
    return Package(out)


def contents(folder: Path) -> dict[str, str]:
    """Every file below the folder with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def packages(kl_folder, tmp_path_factory) -> dict[str, Package]:
    """The tiny model in some variants, in shards so small that tensors lie across them."""
    root = tmp_path_factory.mktemp("packages")
    variants = ("f32", "f16", "int8", "int4", "int4-f16-f16")
    return {variant: pack(kl_folder, root / variant, variant) for variant in variants}
