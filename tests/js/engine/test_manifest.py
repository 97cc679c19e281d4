"""The browser's reader of manifests refuses what Python's refuses, and reads the same."""

import base64
import copy
import json
import random
import zlib

import pytest

from diffusion.packaging.manifest import MAX_MANIFEST_BYTES, ManifestError, read_manifest
from tests.diffusion.conftest import kl_folder
from tests.diffusion.packaging.conftest import packages
from tests.diffusion.packaging.hostile import (
    GROUPED,
    HOSTILE,
    NO_MANIFESTS,
    OTHER_VARIANTS,
    VECTOR,
    changed,
    places,
    put,
)

__all__ = ["kl_folder", "packages"]

READ = """
const unpacked = async (text) => {
  const packed = new Blob([Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0))]);
  const stream = packed.stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};
return (await Promise.all(args[0].map(unpacked))).map((data) => {
  try {
    const manifest = m.readManifest(data);
    const entries = (map) => Object.fromEntries(map);
    return { ...manifest, configs: entries(manifest.configs), files: entries(manifest.files),
             tensors: entries(manifest.tensors), wgsl: entries(manifest.wgsl) };
  } catch (error) {
    return [error.name, error.code, error.message];
  }
});
"""


@pytest.fixture(scope="module")
def read(engine):
    def call(*manifests: bytes) -> list:
        packed = [base64.b64encode(zlib.compress(data, 1)).decode() for data in manifests]
        return engine("manifest", READ, packed)

    return call


@pytest.fixture(scope="module")
def document(packages):
    return json.loads((packages["int4"].path / "manifest.json").read_bytes())


def refused(answer: object) -> bool:
    return isinstance(answer, list) and answer[:2] == ["ManifestError", "manifest"]


@pytest.mark.parametrize("variant", ["f32", "f16", "int8", "int4", "int4-f16-f16"])
def test_a_manifest_is_read_as_python_reads_it(read, packages, variant):
    data = (packages[variant].path / "manifest.json").read_bytes()
    theirs = read_manifest(data)
    [ours] = read(data)
    assert ours["modelId"] == theirs.model_id
    assert ours["variant"] == theirs.variant == variant
    assert ours["dtypes"] == theirs.dtypes
    assert ours["about"] == theirs.about
    assert ours["configs"] == theirs.configs
    assert ours["preview"] == theirs.preview
    assert ours["plan"] == theirs.plan
    assert ours["wgsl"] == theirs.wgsl
    assert ours["shards"] == [{"sha256": s.sha256, "bytes": s.nbytes} for s in theirs.shards]
    assert ours["files"] == {
        name: {"bytes": sum(p.nbytes for p in pieces), "pieces": as_json(pieces)}
        for name, pieces in theirs.files.items()
    }
    assert ours["tensors"] == {
        name: {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "bytes": tensor.layout.nbytes,
            "pieces": as_json(tensor.pieces),
        }
        for name, tensor in theirs.tensors.items()
    }


def as_json(pieces) -> list[dict[str, int]]:
    return [{"shard": p.shard, "offset": p.offset, "bytes": p.nbytes} for p in pieces]


def test_what_python_refuses_is_refused(read, document):
    hostile = {what: changed(document, change) for what, change in HOSTILE.items()}
    for member in document:
        if member not in ("preview", "plan"):  # null says the same
            hostile[f"no {member}"] = {k: v for k, v in document.items() if k != member}
    for variant in OTHER_VARIANTS:
        hostile[f"the variant {variant!r}"] = changed(document, put("variant", value=variant))
    answers = read(*(json.dumps(each).encode() for each in hostile.values()))
    assert [
        what for what, answer in zip(hostile, answers, strict=True) if not refused(answer)
    ] == []
    assert all(answer[2].endswith(".") and len(answer[2]) < 300 for answer in answers)


def test_what_is_no_manifest_is_refused(read):
    assert all(refused(answer) for answer in read(*NO_MANIFESTS))


def test_a_manifest_of_many_megabytes_is_not_even_read(read):
    [answer] = read(b" " * (MAX_MANIFEST_BYTES + 1))
    assert refused(answer)
    assert f"{MAX_MANIFEST_BYTES + 1} bytes" in answer[2]


def refused_here(data: bytes) -> bool:
    try:
        read_manifest(data)
    except ManifestError:
        return True
    return False


def test_python_and_the_browser_agree_on_anything_in_any_place(read, document):
    kept = {name: document["tensors"][name] for name in (GROUPED, VECTOR)}
    small = document | {"tensors": kept, "configs": {"vae/config.json": {"a": [1, None]}}}
    values = [None, True, -1, 0, 1, 2, 256, 2**53, 1.5, "", "f16", "vae/x", "a" * 64, [], [0, 0, 4],
              [[0, 0, 4]], {}, {"a": 1}, {"bytes": 0, "pieces": []}]  # fmt: skip
    chance = random.Random(5)
    documents = []
    for place in range(len(places(small))):
        for value in chance.sample(values, 6):
            made = copy.deepcopy(small)
            container, key = places(made)[place]
            container[key] = value
            documents.append(json.dumps(made).encode())
    answers = read(*documents)
    for data, answer in zip(documents, answers, strict=True):
        assert refused(answer) == refused_here(data), (answer, data)
    assert 0.1 < sum(map(refused, answers)) / len(answers) < 0.9


def test_names_that_every_object_has_are_names_like_others(read, document):
    vector = document["tensors"][VECTOR]
    names = ["vae/__proto__", "vae/constructor"]
    text = json.dumps(document | {"tensors": dict.fromkeys(names, vector), "wgsl": {}})
    text = text.replace('"wgsl": {}', f'"wgsl": {{"__proto__": "{"a" * 64}"}}')
    [answer] = read(text.encode())
    assert list(answer["tensors"]) == names
    assert list(read_manifest(text.encode()).wgsl) == ["__proto__"]
