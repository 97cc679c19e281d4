"""A manifest from anywhere: what is right is read, all else is refused."""

import contextlib
import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion.packaging import manifest as manifests
from diffusion.packaging.manifest import (
    ManifestError,
    dtypes_of,
    package_id,
    read_manifest,
    variant_name,
    write_manifest,
)


def written(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def document(packages):
    return json.loads((packages["int4"].path / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def few_tensors(document):
    kept = {name: document["tensors"][name] for name in (GROUPED, VECTOR)}
    return document | {"tensors": kept, "configs": {}}


GROUPED = "text_encoder/embed_tokens.weight"
VECTOR = "text_encoder/norm.weight"
FILE = "tokenizer/tokenizer.json"


@pytest.mark.parametrize("variant", ["f32", "f16", "int8", "int4", "int4-f16-f16"])
def test_a_manifest_read_and_written_again_is_the_same(packages, variant):
    data = (packages[variant].path / "manifest.json").read_bytes()
    assert write_manifest(read_manifest(data)) == data
    assert package_id(data) == packages[variant].package_id


def test_it_says_what_a_reader_would_otherwise_compute(document):
    tensor = document["tensors"][GROUPED]
    rows, columns = tensor["shape"]
    groups = -(-columns // 32)
    assert tensor["group"] == 32
    assert tensor["scales"] == -(-rows * groups * 16 // 256) * 256
    assert tensor["bytes"] >= tensor["scales"] + 2 * rows * groups
    assert "group" not in document["tensors"][VECTOR]


@pytest.mark.parametrize(
    ("variant", "parts"),
    [
        ("f16", ("f16", "f16", "f16")),
        ("int4-f16-f16", ("int4", "f16", "f16")),
        ("f32-int8-f32", ("f32", "int8", "f32")),
    ],
)
def test_variants_name_the_types_of_the_parts(variant, parts):
    dtypes = dict(zip(("text_encoder", "transformer", "vae"), parts, strict=True))
    assert variant_name(dtypes) == variant
    assert dtypes_of(variant) == dtypes


@pytest.mark.parametrize("variant", ["", "f8", "f16-f16-f16", "int4-f16", "f16-", "..", "a-b-c"])
def test_other_variants_are_refused(variant):
    with pytest.raises(ManifestError):
        dtypes_of(variant)


def put(*path, value):
    def change(document):
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


def with_tensor(**fields):
    return lambda document: document["tensors"][GROUPED].update(fields)


HOSTILE = {
    "another format": put("format", value="p2pweb-plan"),
    "another version": put("version", value=2),
    "a version that equals 1": put("version", value=True),
    "a variant of other dtypes": put("variant", value="f16"),
    "a model id that is no hash": put("model_id", value="../../etc"),
    "an upper case hash": lambda d: d["shards"][0].update(sha256="A" * 64),
    "a hash that is a path": lambda d: d["shards"][0].update(sha256="../" * 21 + "x"),
    "a shard of more than 16 MiB": lambda d: d["shards"][0].update(bytes=16 * 2**20 + 1),
    "an empty shard": lambda d: d["shards"][0].update(bytes=0),
    "a shard of half a byte": lambda d: d["shards"][0].update(bytes=0.5),
    "a shard of NaN bytes": lambda d: d["shards"][0].update(bytes=float("nan")),
    "shards that are no list": put("shards", value={}),
    "too many shards": lambda d: d.update(shards=d["shards"][:1] * (2**16 + 1)),
    "a piece of no shard": with_tensor(pieces=[[99, 0, 16]]),
    "a piece before its shard": with_tensor(pieces=[[0, -256, 512]]),
    "a piece that is no list": with_tensor(pieces=[7]),
    "a piece of two numbers": with_tensor(pieces=[[0, 0]]),
    "no pieces": with_tensor(pieces=[]),
    "a piece beyond its shard": lambda d: d["tensors"][GROUPED]["pieces"][0].__setitem__(1, 2**26),
    "a piece that starts anywhere": lambda d: d["tensors"][GROUPED]["pieces"][0].__setitem__(1, 4),
    "fewer bytes than the shape needs": with_tensor(shape=[10**6, 48]),
    "a shape of nothing": with_tensor(shape=[0, 48]),
    "a negative shape": with_tensor(shape=[-448, -48]),
    "a shape of truth": with_tensor(shape=[True, 48]),
    "a huge shape": with_tensor(shape=[2**52, 2**52]),
    "many axes": with_tensor(shape=[1] * 7 + [448, 48]),
    "an unknown dtype": with_tensor(dtype="int2"),
    "a dtype that is a list": with_tensor(dtype=["int4"]),
    "other groups": with_tensor(group=64),
    "scales elsewhere": with_tensor(scales=0),
    "a tensor of another part": lambda d: d["tensors"].update(x=d["tensors"][VECTOR]),
    "a tensor named as a path": lambda d: d["tensors"].update({"vae/../x": d["tensors"][VECTOR]}),
    "a file named as a path": lambda d: d["files"].update({"../x": d["files"][FILE]}),
    "a file from the root": lambda d: d["files"].update({"/x": d["files"][FILE]}),
    "a file of other bytes": lambda d: d["files"][FILE].update(bytes=1),
    "a plan that is not there": put("plan", value="plan.json"),
    "a plan that is a list": put("plan", value=[]),
    "a shader without hash": put("wgsl", value={"a.wgsl": None}),
    "configs that are no objects": put("configs", "vae/config.json", value=[]),
    "a preview that is a text": put("preview", value="x"),
}  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_not_consistent_is_refused(document, change):
    changed = copy.deepcopy(document)
    change(changed)
    with pytest.raises(ManifestError):
        read_manifest(written(changed))


def test_every_member_is_needed(document):
    for member in document:
        if member in ("preview", "plan"):  # null says the same
            continue
        with pytest.raises(ManifestError):
            read_manifest(written({k: v for k, v in document.items() if k != member}))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": "p2pweb-package"}']
)
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(ManifestError):
        read_manifest(data)


def test_a_manifest_of_many_megabytes_is_not_even_read(monkeypatch):
    monkeypatch.setattr(manifests.json, "loads", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ManifestError, match="bytes"):
        read_manifest(b" " * (manifests.MAX_MANIFEST_BYTES + 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


def places(inner: object) -> list[tuple[object, object]]:
    """Every container with each of its keys."""
    keys = (
        inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
    )
    return [place for key in keys for place in [(inner, key), *places(inner[key])]]


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1, exclude_max=True), json_values)
def test_anything_in_any_place_is_read_or_refused_never_a_crash(few_tensors, where, value):
    changed = copy.deepcopy(few_tensors)
    everywhere = places(changed)
    container, key = everywhere[int(where * len(everywhere))]
    container[key] = value
    with contextlib.suppress(ManifestError):
        read_manifest(json.dumps(changed).encode(errors="surrogatepass"))
