"""Tables of cosines and sines, made once in f64: GPUs need not know those of large angles."""

import numpy as np
from numpy.typing import NDArray


def turns(places: int, size: int, theta: float) -> NDArray[np.float32]:
    """f32 [places, size / 2, 2]: cosine and sine of place * theta^(-2 i / size).

    The angles are those of diffusers' PRX (transformer_prx.py, in f64).
    """
    speed = theta ** -(np.arange(0, size, 2, dtype=np.float64) / size)
    angle = np.arange(places, dtype=np.float64)[:, None] * speed
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)


def turns_f32(places: int, size: int, theta: float) -> NDArray[np.float32]:
    """The same from angles in f32, as transformers computes Gemma's."""
    half = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    speed = (np.float32(1) / np.float32(theta) ** half).astype(np.float32)
    angle = (np.arange(places, dtype=np.float32)[:, None] * speed).astype(np.float32)
    exact = angle.astype(np.float64)
    return np.stack([np.cos(exact), np.sin(exact)], axis=-1).astype(np.float32)
