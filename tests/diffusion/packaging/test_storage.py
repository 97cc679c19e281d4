"""The bytes of a stored tensor: there and back, and as docs/packages.md has a kernel read them."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion.packaging.storage import (
    ALIGNMENT,
    DTYPES,
    GROUP,
    StorageError,
    as_matrix,
    decode,
    encode,
    layout_of,
)

SHAPES = [(), (1,), (5,), (3, 31), (7, 32), (4, 33), (1, 100), (6, 3, 3, 3), (130, 64)]


def stored(tensor: np.ndarray, dtype: str) -> bytes:
    """As a package holds it: the two parts at their places."""
    layout = layout_of(dtype, tensor.shape)
    codes, scales = encode(tensor.reshape(as_matrix(tensor.shape)), dtype)
    if layout.scales is not None:
        codes = codes.ljust(layout.scales, b"\0") + scales
    return codes.ljust(layout.nbytes, b"\0")


def normal(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relative(approximate: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(approximate - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_any_shape_comes_back(shape, dtype):
    tensor = normal(shape)
    data = stored(tensor, dtype)
    assert len(data) == layout_of(dtype, shape).nbytes
    assert len(data) % 4 == 0
    back = decode(data, dtype, shape)
    assert back.shape == shape
    assert back.dtype == np.float32
    if dtype == "f32":
        assert np.array_equal(back, tensor)
    elif dtype == "f16":
        assert np.array_equal(back, tensor.astype(np.float16).astype(np.float32))
    else:
        assert 0 < relative(back, tensor) < {"int8": 0.01, "int4": 0.13}[dtype]


def element_as_in_a_kernel(data: bytes, dtype: str, shape, row: int, column: int) -> float:
    """One weight out of 32-bit words with shifts, written from the description alone."""
    columns = int(np.prod(shape[1:]))
    groups = (columns + 31) // 32
    words = struct.unpack(f"<{len(data) // 4}I", data)
    if dtype == "int8":
        row_words = groups * 8
        code = words[row * row_words + column // 4] >> (8 * (column % 4)) & 255
        code = code - 256 if code > 127 else code
    else:
        row_words = groups * 4
        code = (words[row * row_words + column // 8] >> (4 * (column % 8)) & 15) - 8
    scales = (shape[0] * row_words * 4 + 255) // 256 * 256
    index = row * groups + column // 32
    pair = words[scales // 4 + index // 2]
    half = pair >> 16 if index % 2 else pair & 0xFFFF
    return code * struct.unpack("<e", struct.pack("<H", half))[0]


@pytest.mark.parametrize("shape", [(5, 70), (3, 32), (4, 7, 3, 3)])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_a_kernel_reads_the_same(shape, dtype):
    tensor = normal(shape)
    data = stored(tensor, dtype)
    back = decode(data, dtype, shape).reshape(as_matrix(shape))
    for row, column in np.ndindex(back.shape):
        assert element_as_in_a_kernel(data, dtype, shape, row, column) == back[row, column]


def test_no_weight_is_further_off_than_half_a_step_of_int8():
    tensor = normal((64, 96))
    back = decode(stored(tensor, "int8"), "int8", tensor.shape)
    largest = np.abs(tensor.reshape(64, 3, GROUP)).max(axis=-1, keepdims=True)
    step = (largest / 127).repeat(GROUP, axis=-1).reshape(64, 96)
    # f16 rounds the scale by up to 1 / 2048, which at code 127 is 0.06 of a step
    assert (np.abs(back - tensor) <= 0.57 * step).all()


@pytest.mark.parametrize(("dtype", "goal"), [("int8", 0.0055), ("int4", 0.084)])
def test_the_error_of_normal_weights_is_what_the_choice_was_made_by(dtype, goal):
    tensor = normal((256, 512))
    assert relative(decode(stored(tensor, dtype), dtype, tensor.shape), tensor) < goal


def test_the_search_for_scales_makes_int4_finer_than_putting_the_outermost_weight_on_minus_8():
    tensor = normal((256, 512)).reshape(-1, GROUP)
    outermost = np.take_along_axis(tensor, np.abs(tensor).argmax(-1)[:, None], -1)
    scales = (outermost / -8).astype(np.float16).astype(np.float32)
    plain = np.rint(tensor / scales).clip(-8, 7) * scales
    ours = decode(stored(tensor, "int4"), "int4", tensor.shape)
    assert relative(ours, tensor) < 0.97 * relative(plain, tensor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_stay_zeros(dtype):
    tensor = np.zeros((3, 40), np.float32)
    tensor[1, 5] = 1.0
    back = decode(stored(tensor, dtype), dtype, tensor.shape)
    assert np.array_equal(back != 0, tensor != 0)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("size", [1e-9, 1e-6, 1e-4, 1e-3, 1.0, 6e4])
def test_no_scale_is_a_subnormal_that_a_gpu_might_take_for_zero(dtype, size):
    tensor = normal((8, 64)).clip(-1, 1) * np.float32(size)
    layout = layout_of(dtype, tensor.shape)
    data = stored(tensor, dtype)
    scales = np.frombuffer(data, "<f2", layout.rows * layout.groups, layout.scales)
    assert (np.abs(scales) >= np.finfo(np.float16).tiny).all()
    assert np.isfinite(scales).all()
    step = np.finfo(np.float16).tiny
    error = np.abs(decode(data, dtype, tensor.shape) - tensor).max()
    assert error <= max(step, {"int8": 0.005, "int4": 0.21}[dtype] * size)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_is_refused(dtype, bad):
    tensor = normal((2, 40))
    tensor[1, 39] = bad
    with pytest.raises(StorageError, match="finite"):
        encode(tensor, dtype)


def test_what_f16_cannot_hold_is_refused_but_by_f32():
    tensor = np.full((1, 32), 65505.0, np.float32)
    assert encode(tensor, "f32")
    for dtype in ("f16", "int8", "int4"):
        with pytest.raises(StorageError, match="too large"):
            encode(tensor, dtype)


def test_bytes_of_another_length_are_refused():
    data = stored(normal((3, 33)), "int4")
    with pytest.raises(ValueError, match="bytes"):
        decode(data[:-4], "int4", (3, 33))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 130), st.sampled_from(DTYPES), st.integers(0, 99))
def test_rows_encoded_alone_are_the_rows_encoded_together(rows, columns, dtype, seed):
    """What lets a tensor be packed in pieces."""
    tensor = normal((rows, columns), seed)
    codes, scales = encode(tensor, dtype)
    alone = [encode(tensor[row : row + 1], dtype) for row in range(rows)]
    assert codes == b"".join(one for one, _ in alone)
    assert scales == b"".join(one for _, one in alone)
    layout = layout_of(dtype, tensor.shape)
    assert len(codes) == rows * layout.row_bytes
    assert len(scales) == 2 * rows * layout.groups
    assert layout.scales is None or layout.scales % ALIGNMENT == 0
