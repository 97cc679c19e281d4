"""How alike two computations of the same thing are, and how alike honest ones have to be.

No two devices give the same bits, so a result is compared with another one of the same input and
not with a hash. What is compared is what a range of steps has changed, because the latent itself is
mostly what it was before: 3 % of noise, or weights in int8, would be lost in it.

The limits are measured (`benchmarks/spot_checks.py`, docs/measurements.md): honest workers lie well
below, and a worker that stores weights more coarsely than it says lies above. Between the two they
are nearer to the liar: to shut an honest one out is the worse mistake.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from diffusion.backends import Conditioning
from diffusion.packaging.manifest import dtypes_of
from diffusion.packaging.source import Component

Array = NDArray[np.float32]
Stage = Literal["encode", "denoise", "decode"]

# Of the computed latent's length: the least that counts as what a range has changed. The last step
# changes next to nothing (its noise is a thousandth), and is next to nothing of the picture.
SMALLEST_CHANGE: Final = 0.01

COMPONENT_OF: Final[dict[Stage, Component]] = {
    "encode": "text_encoder", "denoise": "transformer", "decode": "vae",
}  # fmt: skip
# Weights as exact as in f16, but multiplied in f16 too
HALF: Final = "half"
_HALF_KERNELS: Final = "f16"  # how the names of variants of kernels end that do so
# Relative L2, by how the coarser of both workers stores the weights. Of pictures it is that of the
# pixels, where 50 dB of a mid-grey one are 0.006.
LIMITS: Final[dict[Stage, dict[str, float]]] = {
    "encode": {
        "f32": 2.5e-3, "f16": 2.5e-3, HALF: 5e-3, "bf16": 0.04, "int8": 0.06, "int4": 0.6,
    },
    "denoise": {
        "f32": 2.5e-3, "f16": 2.5e-3, HALF: 0.02, "bf16": 0.12, "int8": 0.06, "int4": 0.6,
    },
    "decode": {
        "f32": 3e-3, "f16": 3e-3, HALF: 6e-3, "bf16": 0.02, "int8": 0.02, "int4": 0.15,
    },
}  # fmt: skip


def precision(variant: str, kernels: str) -> str:
    """What `limit` must know of a worker. variant: how it stores weights; kernels: what it says of
    its WebGPU kernels, such as "many 128x128x16f16"."""
    half = any(name.rstrip(",").endswith(_HALF_KERNELS) for name in kernels.split()[1::2])
    return f"{variant} {HALF}".lstrip() if half else variant


def limit(stage: Stage, *variants: str) -> float:
    """The largest distance of honest workers of these precisions: names of variants, as packages
    have them ("f16", "int4-f16-f16"), several of one worker after each other, or "" for one of the
    server's own, whose precision is its backend's own; with "half" where `precision` says so.

    Raises ValueError for a variant that nobody has.
    """
    dtypes = [_stored(stage, name) for variant in variants for name in variant.split() or ["f16"]]
    return max(LIMITS[stage][dtype] for dtype in dtypes)


def _stored(stage: Stage, variant: str) -> str:
    if variant in ("bf16", HALF):  # bf16: of torch. Packages have neither
        return variant
    return str(dtypes_of(variant)[COMPONENT_OF[stage]])


def distance_of_steps(given: Array, claimed: Array, computed: Array) -> float:
    """Of two latents f32 [C, h, w] after the same steps from `given`: how far they are apart,
    relative to what the steps have changed."""
    changed = max(_length(computed - given), SMALLEST_CHANGE * _length(computed))
    return _ratio(_length(claimed - computed), changed)


def distance_of_texts(claimed: Conditioning, computed: Conditioning) -> float:
    """The worst of the texts; infinite where they have not the same tokens."""
    if claimed.keys() != computed.keys():
        return float("inf")
    return max(_distance(claimed[half], computed[half]) for half in computed)


def distance_of_pictures(claimed: NDArray[np.uint8], computed: NDArray[np.uint8]) -> float:
    """Of pixels [H, W, 3]."""
    return _distance(claimed.astype(np.float32), computed.astype(np.float32))


def _distance(claimed: Array, computed: Array) -> float:
    if claimed.shape != computed.shape:
        return float("inf")
    return _ratio(_length(claimed - computed), _length(computed))


def _length(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def _ratio(off: float, whole: float) -> float:
    if off == 0:
        return 0.0
    return off / whole if whole else float("inf")
