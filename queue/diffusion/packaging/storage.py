"""How a tensor lies in a package, byte by byte, and back.

A tensor is a matrix here: `rows` is its first axis, `columns` all others flattened in their order;
a vector is one row. Everything is little-endian.

- f32, f16: the values, row after row.
- int8, int4: codes, then scales. Each row is cut into groups of 32 columns (the input dimension);
  a group has one f16 scale, and a value is code * scale. Rows are padded with zero codes to whole
  groups, so that every group starts at a multiple of 16 bytes.
  - int8: the code is a signed byte, -127..127.
  - int4: the code is a nibble minus 8, -8..7. Column 2k lies in the low nibble of byte k, 2k + 1
    in the high one: in a little-endian word, column j at bit 4 j.
  - scales: [rows, groups] f16, from the first multiple of 256 behind the codes.

The end is padded with zeros to a multiple of 4. A scale may be negative, and is 0 for a group of
zeros. It is never a subnormal f16, which a GPU may take for 0.

No zero point: at 4.5 bits a weight, symmetric codes in groups of 32 err by 8.3 %, codes with an f16
minimum in groups of 64 by 8.7 % (docs/measurements.md).
"""

import math
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

DType = Literal["f32", "f16", "int8", "int4"]
DTYPES: Final[tuple[DType, ...]] = get_args(DType)

GROUP: Final = 32  # columns that share a scale
ALIGNMENT: Final = 256  # of scales, and of tensors in shards: minStorageBufferOffsetAlignment

_EDGES: Final = ("img_in", "txt_in", "time_in", "final_layer.linear", "conv_in", "conv_out")

_SMALLEST_SCALE: Final = 2.0**-14  # the smallest normal f16
_LARGEST_F16: Final = 65504.0
# int4: the outermost weight of a group is put on code -8 times each of these; the best stays.
# Below 1 the outermost weight is clipped and the others come out finer.
_STRETCHES: Final = (0.8, 0.875, 0.95, 1.025, 1.1)

Floats = NDArray[np.float32]


class StorageError(ValueError):
    """A weight that cannot be stored: not finite, or too large for f16."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of one stored tensor lie, in bytes from its start."""

    dtype: DType
    rows: int
    columns: int

    @property
    def groups(self) -> int:
        """Groups a row; 0 without any."""
        return -(-self.columns // GROUP) if self.dtype in ("int8", "int4") else 0

    @property
    def row_bytes(self) -> int:
        """From one row of values or codes to the next."""
        match self.dtype:
            case "f32":
                return 4 * self.columns
            case "f16":
                return 2 * self.columns
            case "int8":
                return GROUP * self.groups
            case "int4":
                return GROUP // 2 * self.groups

    @property
    def scales(self) -> int | None:
        """Offset of the scales."""
        return round_up(self.rows * self.row_bytes, ALIGNMENT) if self.groups else None

    @property
    def nbytes(self) -> int:
        """Of the whole tensor."""
        if self.scales is None:
            return round_up(self.rows * self.row_bytes, 4)
        return round_up(self.scales + 2 * self.rows * self.groups, 4)


def layout_of(dtype: DType, shape: tuple[int, ...]) -> Layout:
    rows, columns = as_matrix(shape)
    return Layout(dtype, rows, columns)


def stored_as(name: str, shape: tuple[int, ...], dtype: DType) -> DType:
    """The type that a weight gets in a component of this type; name: without the component.

    Vectors are f32 in every variant: they are below 0.3 % of the bytes. In int8 and int4 what comes
    first and last in a part stays f16: 1 % of the bytes of a large transformer, and two fifths of
    an int4 step's error in PRX-Emoji.
    """
    if len(shape) < 2:
        return "f32"
    if dtype in ("int8", "int4") and any(edge in name for edge in _EDGES):
        return "f16"
    return dtype


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) of a tensor of any shape."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def encode(matrix: Floats, dtype: DType) -> tuple[bytes, bytes]:
    """Values or codes, and scales (empty for f32 and f16), of some rows [rows, columns].

    Raises StorageError for values that are not finite or do not fit.
    """
    largest = float(np.abs(matrix).max(initial=0.0))
    if not math.isfinite(largest):  # a NaN anywhere makes the maximum one
        raise StorageError("a weight is not a finite number")
    if largest > _LARGEST_F16 and dtype != "f32":
        raise StorageError(f"a weight of {largest:g} is too large for {dtype}")
    match dtype:
        case "f32":
            return matrix.astype("<f4").tobytes(), b""
        case "f16":
            return matrix.astype("<f2").tobytes(), b""
        case "int8":
            codes, scales = _int8(_in_groups(matrix))
            return codes.tobytes(), scales.tobytes()
        case "int4":
            codes, scales = _int4(_in_groups(matrix))
            nibbles = (codes + 8).astype(np.uint8)
            packed = nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)
            return packed.tobytes(), scales.tobytes()


def store(matrix: Floats, dtype: DType) -> bytes:
    """The whole of a tensor [rows, columns], as it lies in a package. Raises StorageError."""
    return join(Layout(dtype, *matrix.shape), *encode(matrix, dtype))


def join(layout: Layout, values: bytes, scales: bytes) -> bytes:
    """Values or codes of all rows, and their scales, put where `layout` has them."""
    if layout.scales is not None:
        values = values.ljust(layout.scales, b"\0") + scales
    return values.ljust(layout.nbytes, b"\0")


def decode(data: bytes | memoryview, dtype: DType, shape: tuple[int, ...]) -> Floats:
    """The tensor in f32, of `shape`. Raises ValueError when `data` has not the layout's length."""
    layout = layout_of(dtype, shape)
    if len(data) != layout.nbytes:
        raise ValueError(f"{len(data)} bytes, a tensor {shape} in {dtype} has {layout.nbytes}")
    rows, columns = layout.rows, layout.columns
    if layout.scales is None:
        values = np.frombuffer(data, "<f4" if dtype == "f32" else "<f2", rows * columns)
        return values.astype(np.float32).reshape(shape)
    stored = np.frombuffer(data, np.uint8, rows * layout.row_bytes)
    if dtype == "int8":
        codes = stored.view(np.int8)
    else:
        codes = np.empty(2 * stored.size, np.int8)
        codes[0::2] = (stored & 15).astype(np.int8) - 8
        codes[1::2] = (stored >> 4).astype(np.int8) - 8
    scales = np.frombuffer(data, "<f2", rows * layout.groups, layout.scales)
    grouped = codes.reshape(rows, layout.groups, GROUP).astype(np.float32)
    grouped *= scales.astype(np.float32).reshape(rows, layout.groups, 1)
    return grouped.reshape(rows, -1)[:, :columns].reshape(shape)


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _in_groups(matrix: Floats) -> Floats:
    """[rows, columns] -> [rows, groups, 32], padded with zeros."""
    rows, columns = matrix.shape
    groups = -(-columns // GROUP)
    if groups * GROUP != columns:
        padded = np.zeros((rows, groups * GROUP), np.float32)
        padded[:, :columns] = matrix
        matrix = padded
    return matrix.reshape(rows, groups, GROUP)


def _int8(grouped: Floats) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Codes [rows, groups, 32] and scales [rows, groups]."""
    scales = _as_scale(np.abs(grouped).max(axis=-1, keepdims=True) / np.float32(127))
    codes = np.rint(grouped / _divisor(scales)).clip(-127, 127).astype(np.int8)
    return codes, scales[..., 0].astype("<f2")


def _int4(grouped: Floats) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    outermost = np.abs(grouped).argmax(axis=-1, keepdims=True)
    extreme = np.take_along_axis(grouped, outermost, axis=-1)
    best_codes: Floats | None = None
    for stretch in _STRETCHES:
        scales = _as_scale(extreme * np.float32(-stretch / 8))
        codes = np.rint(grouped / _divisor(scales)).clip(-8, 7)
        difference = codes * scales
        difference -= grouped
        error = np.einsum("rgc,rgc->rg", difference, difference)[..., None]
        if best_codes is None:
            best_codes, best_scales, best_error = codes, scales, error
        else:
            better = error < best_error
            best_codes = np.where(better, codes, best_codes)
            best_scales = np.where(better, scales, best_scales)
            best_error = np.where(better, error, best_error)
    assert best_codes is not None
    return best_codes.astype(np.int8), best_scales[..., 0].astype("<f2")


def _as_scale(wanted: Floats) -> Floats:
    """Rounded to f16, away from its subnormals; 0 stays 0."""
    floor = np.where(wanted == 0, 0, np.float32(_SMALLEST_SCALE))
    kept = np.copysign(np.maximum(np.abs(wanted), floor), wanted)
    return cast(Floats, kept.astype(np.float16).astype(np.float32))


def _divisor(scales: Floats) -> Floats:
    return np.where(scales == 0, np.float32(1), scales)
