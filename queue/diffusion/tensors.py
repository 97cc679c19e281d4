"""Tensors as they cross the network and the disk: safetensors, and nothing taken on trust."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

Shape = tuple[int | range, ...]  # a range says which lengths an axis may have
_MAX_HEADER_BYTES: Final = 4096


class TensorError(ValueError):
    """Bytes that are not the tensors they should be."""


def to_bytes(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Named f32 tensors as one safetensors file. Raises TensorError for another type."""
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise TensorError(f"{name} is {tensor.dtype}, not float32")
    data: bytes = safetensors_numpy.save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    )
    return data


def from_bytes(data: bytes, expect: Mapping[str, Shape]) -> dict[str, NDArray[np.float32]]:
    """The tensors named in `expect`, exactly these, f32, finite, each of its expected shape.

    `{"latent": (16, 32, 32)}`, or `{"prompt": (range(257), 256)}` for 0 to 256 tokens. Raises
    TensorError for anything else, before parsing when there are more bytes than could be right.
    """
    largest = sum(4 * _largest(shape) for shape in expect.values()) + _MAX_HEADER_BYTES
    if len(data) > largest:
        raise TensorError(f"{len(data)} bytes, at most {largest} can be right")
    try:
        tensors = safetensors_numpy.load(data)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise TensorError(f"not safetensors: {error}") from error
    if tensors.keys() != expect.keys():
        raise TensorError(f"tensors {sorted(tensors)}, expected {sorted(expect)}")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise TensorError(f"{name} is {tensor.dtype}, not float32")
        if not _fits(tensor.shape, expect[name]):
            raise TensorError(f"{name} has shape {tensor.shape}, expected {expect[name]}")
        if not np.isfinite(tensor).all():
            raise TensorError(f"{name} holds a number that is not finite")
    return tensors


def _largest(shape: Shape) -> int:
    elements = 1
    for axis in shape:
        elements *= axis if isinstance(axis, int) else max(axis)
    return elements


def _fits(shape: tuple[int, ...], expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        length == axis if isinstance(axis, int) else length in axis
        for length, axis in zip(shape, expected, strict=True)
    )
