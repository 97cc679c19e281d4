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
from tests.diffusion.packaging.hostile import (
    GROUPED,
    HOSTILE,
    NO_MANIFESTS,
    OTHER_VARIANTS,
    VECTOR,
    changed,
    places,
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


@pytest.mark.parametrize("variant", OTHER_VARIANTS)
def test_other_variants_are_refused(variant):
    with pytest.raises(ManifestError):
        dtypes_of(variant)


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_not_consistent_is_refused(document, change):
    with pytest.raises(ManifestError):
        read_manifest(written(changed(document, change)))


def test_every_member_is_needed(document):
    for member in document:
        if member in ("preview", "plan"):  # null says the same
            continue
        with pytest.raises(ManifestError):
            read_manifest(written({k: v for k, v in document.items() if k != member}))


@pytest.mark.parametrize("data", NO_MANIFESTS)
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


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1, exclude_max=True), json_values)
def test_anything_in_any_place_is_read_or_refused_never_a_crash(few_tensors, where, value):
    document = copy.deepcopy(few_tensors)
    everywhere = places(document)
    container, key = everywhere[int(where * len(everywhere))]
    container[key] = value
    with contextlib.suppress(ManifestError):
        read_manifest(json.dumps(document).encode(errors="surrogatepass"))
