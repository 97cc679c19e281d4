"""Tensors as they cross the network and the disk: safetensors, and nothing taken on trust."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

Shape = tuple[int | range, ...]  # a range says which lengths an axis may have


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where bytes are expected (u8), and not f32."""

    shape: Shape


Expected = Mapping[str, Shape | Pixels]

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


def most_bytes(expect: Expected) -> int:
    """How many bytes a file of these tensors may have."""
    return sum(_most_bytes(form) for form in expect.values()) + _MAX_HEADER_BYTES


def from_bytes(data: bytes, expect: Expected) -> dict[str, NDArray[Any]]:
    """The tensors named in `expect`, exactly these, each of its expected type and shape, finite.

    `{"latent": (16, 32, 32)}` is f32, as is `{"prompt": (range(257), 256)}` for 0 to 256 tokens;
    `{"picture": Pixels((64, 64, 3))}` is u8. Raises TensorError for anything else, before parsing
    when there are more bytes than could be right.
    """
    largest = most_bytes(expect)
    if len(data) > largest:
        raise TensorError(f"{len(data)} bytes, at most {largest} can be right")
    try:
        tensors = safetensors_numpy.load(data)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise TensorError(f"not safetensors: {error}") from error
    if tensors.keys() != expect.keys():
        raise TensorError(f"tensors {sorted(tensors)}, expected {sorted(expect)}")
    for name, tensor in tensors.items():
        shape, dtype = _shape_and_type(expect[name])
        if tensor.dtype != dtype:
            raise TensorError(f"{name} is {tensor.dtype}, not {dtype}")
        if not _fits(tensor.shape, shape):
            raise TensorError(f"{name} has shape {tensor.shape}, expected {shape}")
        if not np.isfinite(tensor).all():
            raise TensorError(f"{name} holds a number that is not finite")
    return tensors


def _shape_and_type(form: Shape | Pixels) -> tuple[Shape, np.dtype[Any]]:
    if isinstance(form, Pixels):
        return form.shape, np.dtype(np.uint8)
    return form, np.dtype(np.float32)


def _most_bytes(form: Shape | Pixels) -> int:
    shape, dtype = _shape_and_type(form)
    nbytes = dtype.itemsize
    for axis in shape:
        nbytes *= axis if isinstance(axis, int) else max(axis)
    return nbytes


def _fits(shape: tuple[int, ...], expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        length == axis if isinstance(axis, int) else length in axis
        for length, axis in zip(shape, expected, strict=True)
    )
