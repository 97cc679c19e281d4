"""How far honest workers may be from each other, by what they say of themselves."""

import pytest

from diffusion import likeness


@pytest.mark.parametrize(
    ("variant", "kernels", "expected"),
    [
        ("f16", "", "f16"),
        ("f16", "baseline", "f16"),
        ("f16", "few 64x128x8x2, many 64x64x16", "f16"),
        ("f16", "few 64x128x8x2, many 128x128x16f16", "f16 half"),
        ("int8", "many 128x128x16f16, attention 64x64x16", "int8 half"),
        ("", "attention 128x64x16f16", "half"),
    ],
)
def test_who_multiplies_in_f16_is_known(variant: str, kernels: str, expected: str) -> None:
    assert likeness.precision(variant, kernels) == expected


@pytest.mark.parametrize("stage", ["encode", "denoise", "decode"])
def test_the_coarser_of_both_decides(stage: likeness.Stage) -> None:
    limits = likeness.LIMITS[stage]
    assert limits["f16"] < limits["half"] < limits["int8"]
    assert likeness.limit(stage, "f16", "f32") == limits["f16"]
    assert likeness.limit(stage, "f16 half", "f32") == limits["half"]
    assert likeness.limit(stage, "f16 half", "int8") == limits["int8"]
    assert likeness.limit(stage, "", "half") == limits["half"]
    with pytest.raises(ValueError, match="f17"):
        likeness.limit(stage, "f17")
