"""Every shader of static/wgsl once more, in numpy: the same name, sizes, constants and bindings.

`TWINS[name](constants, sizes, arrays)` reads and writes flat arrays, f32, f16 or u32, one for each
binding from 1 on (None where the plan binds nothing). Not fast, and no help to the shaders: the
tests compare both. Matrix products are summed in f64, so a twin is the better of the two.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diffusion.plan.schema import Constant

Array = NDArray[Any]
Arrays = Sequence[Array]
Constants = Mapping[str, Constant]
Sizes = Mapping[str, int]
Twin = Callable[[Constants, Sizes, Arrays], None]

_LARGEST_F16: Final = 65504.0


def matmul(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    left, weight, bias, gates, step, output = arrays
    rows, columns, inner = sizes["rows"], sizes["columns"], sizes["inner"]
    product = _rows(left, rows, inner) @ _rows(weight, columns, inner).T
    if constants["BIAS"]:
        product = product + bias[:columns]
    if constants["SILU"]:
        product = _silu(product)
    if constants["PAIRED"]:
        pairs = product.reshape(rows, columns // 8, 2, 4)
        product = (_gelu_tanh(pairs[:, :, 0]) * pairs[:, :, 1]).reshape(rows, -1)
    if constants["GATED"]:
        first = int(step[0]) * sizes["gate_stride"] + sizes["gate_offset"]
        product = product * gates[first : first + columns]
    target = output[: product.size].reshape(product.shape)
    target[...] = target + product if constants["GATED"] or constants["ADD"] else product


def conv2d(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    picture, weight, bias, norm, output = arrays
    rows, columns = sizes["rows"], sizes["columns"]
    channels_in, channels_out = sizes["channels_in"], sizes["channels_out"]
    kernel, upsample = int(constants["KERNEL"]), int(constants["UPSAMPLE"])
    x = picture[: rows * columns * channels_in].reshape(rows, columns, channels_in)
    x = x.astype(np.float64)
    if constants["NORM"]:
        x = x * norm[:channels_in] + norm[channels_in : 2 * channels_in]
    if constants["SILU"]:
        x = _silu(x)
    x = x.repeat(upsample, axis=0).repeat(upsample, axis=1)
    border = kernel // 2
    padded = np.pad(x, ((border, border), (border, border), (0, 0)))
    taps = weight[: channels_out * kernel * kernel * channels_in].astype(np.float64)
    taps = taps.reshape(channels_out, kernel, kernel, channels_in)
    result = np.zeros((*x.shape[:2], channels_out))
    if constants["BIAS"]:
        result += bias[:channels_out]
    for row in range(kernel):
        for column in range(kernel):
            seen = padded[row : row + x.shape[0], column : column + x.shape[1]]
            result += seen @ taps[:, row, column].T
    target = output[: result.size].reshape(result.shape)
    result = target + result if constants["ADD"] else result
    target[...] = result.clip(-_LARGEST_F16, _LARGEST_F16) if output.dtype == np.float16 else result


def depthwise_conv2d(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    picture, taps, bias, output = arrays
    rows, columns, channels = sizes["rows"], sizes["columns"], sizes["channels"]
    kernel = int(constants["KERNEL"])
    x = _rows(picture, rows * columns, channels).reshape(rows, columns, channels)
    border = kernel // 2
    padded = np.pad(x, ((border, border), (border, border), (0, 0)))
    weight = _rows(taps, kernel * kernel, channels).reshape(kernel, kernel, channels)
    result = np.zeros_like(x)
    if constants["BIAS"]:
        result += bias[:channels]
    for row in range(kernel):
        for column in range(kernel):
            seen = padded[row : row + rows, column : column + columns]
            result += seen * weight[row, column]
    if constants["GATED"]:
        factor, gate = np.split(result, 2, axis=-1)
        result = factor * _silu(gate)
    output[: result.size] = result.reshape(-1)


def grouped_matmul(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    left, weight, output = arrays
    rows, columns, width = sizes["rows"], sizes["columns"], int(constants["WIDTH"])
    groups = _rows(left, rows, columns).reshape(rows, -1, width)
    matrices = _rows(weight, columns, width).reshape(-1, width, width)
    product = np.einsum("rgi,goi->rgo", groups, matrices)
    output[: product.size] = product.reshape(-1)


def pixel_shuffle(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    picture, output = arrays
    rows, columns = sizes["rows"], sizes["columns"]
    factor, repeats = int(constants["FACTOR"]), int(constants["REPEATS"])
    x = picture[: rows * columns * sizes["channels_in"]].reshape(rows, columns, -1)
    parts = x.repeat(repeats, axis=-1).reshape(rows, columns, -1, factor, factor)
    shuffled = parts.transpose(0, 3, 1, 4, 2)
    output[: shuffled.size] = shuffled.reshape(-1)


def linear_attention_partial(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    qkv, partial = arrays
    pixels, heads, chunk = sizes["pixels"], sizes["heads"], sizes["chunk"]
    head_dim = int(constants["HEAD_DIM"])
    _, key, value = _qkv(qkv, pixels, heads, head_dim)
    value = np.concatenate([value, np.ones((pixels, heads, 1))], axis=-1)
    for number, first in enumerate(range(0, pixels, chunk)):
        part = slice(first, first + chunk)
        sums = np.einsum("phe,phf->hef", value[part], key[part])
        partial[number * sums.size : (number + 1) * sums.size] = sums.reshape(-1)


def sum_parts(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    parts, output = arrays
    output[: sizes["count"]] = _rows(parts, sizes["parts"], sizes["count"]).sum(axis=0)


def linear_attention(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    qkv, sums, output = arrays
    pixels, heads, head_dim = sizes["pixels"], sizes["heads"], int(constants["HEAD_DIM"])
    query, _, _ = _qkv(qkv, pixels, heads, head_dim)
    matrices = _rows(sums, heads * (head_dim + 1), head_dim).reshape(heads, -1, head_dim)
    mixed = np.einsum("hef,phf->phe", matrices, query)
    mixed = mixed[..., :-1] / (mixed[..., -1:] + constants["EPS"])
    rows = output[: pixels * sizes["row_width"]].reshape(pixels, -1)
    first = sizes["row_offset"]
    rows[:, first : first + heads * head_dim] = mixed.reshape(pixels, -1)


def attention(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    qkv, text_kv, text_lengths, output = arrays
    length, text = sizes["length"], sizes["text"]
    heads, kv_heads = sizes["heads"], sizes["kv_heads"]
    head_dim, cap = int(constants["HEAD_DIM"]), float(constants["SOFT_CAP"])
    row_heads = heads + 2 * kv_heads
    batches = qkv.size // (length * row_heads * head_dim)
    rows = _tokens(qkv, batches, length, row_heads, head_dim)
    for batch, own in enumerate(rows):
        query, key, value = np.split(own, [heads, heads + kv_heads], axis=1)
        if constants["TEXT"]:
            seen = _tokens(text_kv, batches, text, 2 * kv_heads, head_dim)
            seen = seen[batch, : text_lengths[batch]]
            key = np.concatenate([seen[:, :kv_heads], key])
            value = np.concatenate([seen[:, kv_heads:], value])
        shared = heads // kv_heads
        key, value = key.repeat(shared, axis=1), value.repeat(shared, axis=1)
        scores = np.einsum("qhd,khd->hqk", query, key) * constants["SCALE"]
        if cap > 0:
            scores = cap * np.tanh(scores / cap)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, value)
        output[batch * mixed.size : (batch + 1) * mixed.size] = mixed.reshape(-1)


def attention_tiled(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    attention(constants, sizes, arrays)


def attention_wide(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    attention({**constants, "TEXT": False}, sizes, arrays)


def layer_norm_modulate(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    values, table, step, output = arrays
    width = sizes["width"]
    x = _rows(values, sizes["rows"], width)
    x = x - x.mean(axis=1, keepdims=True)
    x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + constants["EPS"])
    row = table[int(step[0]) * sizes["table_stride"] :]
    shift = row[sizes["shift_offset"] : sizes["shift_offset"] + width]
    scale = row[sizes["scale_offset"] : sizes["scale_offset"] + width]
    output[: x.size] = (x * (1 + scale) + shift).reshape(-1)


def rms_norm(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    values, gain, bias, output = arrays
    x = _rows(values, sizes["rows"], sizes["width"])
    x = _rms(x, float(constants["EPS"])) * (constants["PLUS"] + gain[: sizes["width"]])
    if constants["BIAS"]:
        x = x + bias[: sizes["width"]]
    if constants["RELU"]:
        x = np.maximum(x, 0)
    target = output[: x.size]
    target[...] = (target if constants["ADD"] else 0) + x.reshape(-1)


def head_norm(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    values, gain = arrays
    head_dim = int(constants["HEAD_DIM"])
    heads = values[: sizes["rows"] * sizes["row_heads"] * head_dim]
    heads = heads.reshape(-1, sizes["row_heads"], head_dim)[:, : sizes["heads"]]
    heads[...] = _rms(heads.astype(np.float64), float(constants["EPS"])) * gain[:head_dim]


def head_norm_rope(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    qkv, gain, row_turns, column_turns = arrays
    head_dim, axis = int(constants["HEAD_DIM"]), int(constants["AXIS"])
    rows, heads = sizes["rows"], sizes["heads"]
    both = qkv[: rows * 3 * heads * head_dim].reshape(rows, 3, heads, head_dim)[:, :2]
    normal = _rms(both.astype(np.float64), float(constants["EPS"]))
    normal = normal * gain[: 2 * head_dim].reshape(2, 1, head_dim)
    place = np.arange(rows) % sizes["length"]
    turns = np.concatenate(
        [
            row_turns.reshape(-1, axis // 2, 2)[place // sizes["columns"]],
            column_turns.reshape(-1, (head_dim - axis) // 2, 2)[place % sizes["columns"]],
        ],
        axis=1,
    )[:, None, None]  # [rows, 1, 1, d / 2, 2]
    cosine, sine = turns[..., 0], turns[..., 1]
    even, odd = normal[..., 0::2], normal[..., 1::2]
    both[..., 0::2] = even * cosine - odd * sine
    both[..., 1::2] = odd * cosine + even * sine


def rope_half(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    values, turns = arrays
    head_dim, rows = int(constants["HEAD_DIM"]), sizes["rows"]
    half = head_dim // 2
    heads = values[: rows * sizes["row_heads"] * head_dim]
    heads = heads.reshape(rows, sizes["row_heads"], head_dim)[:, : sizes["heads"]]
    turn = turns[: rows * head_dim].reshape(rows, 1, half, 2).astype(np.float64)
    cosine, sine = turn[..., 0], turn[..., 1]
    first, second = heads[..., :half].copy(), heads[..., half:].copy()
    heads[..., :half] = first * cosine - second * sine
    heads[..., half:] = second * cosine + first * sine


def embed(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    output, rows = arrays
    count = 4 * sizes["count4"]
    output[:count] = rows[:count].astype(np.float32) * np.float32(constants["SCALE"])


def patchify(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    latent, tokens = arrays
    patch, channels = int(constants["PATCH"]), sizes["channels"]
    count = channels * sizes["rows"] * sizes["columns"]
    grid = latent[:count].reshape(channels, sizes["rows"] // patch, patch, -1, patch)
    one = grid.transpose(1, 3, 0, 2, 4).reshape(-1)
    tokens[: sizes["batch"] * count] = np.tile(one, sizes["batch"])


def unpatchify(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    tokens, output = arrays
    patch, channels, batch = int(constants["PATCH"]), sizes["channels"], sizes["batch"]
    count = batch * channels * sizes["rows"] * sizes["columns"]
    shape = (batch, sizes["rows"] // patch, sizes["columns"] // patch, channels, patch, patch)
    grid = tokens[:count].reshape(shape).transpose(0, 3, 1, 4, 2, 5)
    output[:count] = grid.reshape(-1)


def euler(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    latent, velocity, strides, guidance, step = arrays
    count = sizes["count"]
    towards = velocity[:count].copy()
    if sizes["batch"] == 2:
        towards += guidance[0] * (velocity[count : 2 * count] - towards)
    latent[:count] += strides[int(step[0])] * towards


def unscale(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    latent, output = arrays
    count = sizes["channels"] * sizes["pixels"]
    x = latent[:count].reshape(sizes["channels"], -1) / np.float32(constants["SCALING"])
    output[:count] = (x + np.float32(constants["SHIFT"])).T.reshape(-1)


def group_norm_partial(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    values, partial = arrays
    pixels, channels, chunk = sizes["pixels"], sizes["channels"], sizes["chunk"]
    x = _rows(values[sizes["skip"] * channels :], pixels, channels)
    for number, first in enumerate(range(0, pixels, chunk)):
        part = x[first : first + chunk]
        place = partial[2 * channels * number : 2 * channels * (number + 1)].reshape(2, channels)
        place[0] = part.mean(axis=0)
        place[1] = ((part - part.mean(axis=0)) ** 2).sum(axis=0)


def group_norm_moments(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    partial, moments = arrays
    pixels, channels, chunk = sizes["pixels"], sizes["channels"], sizes["chunk"]
    chunks = -(-pixels // chunk)
    parts = partial[: chunks * 2 * channels].astype(np.float64).reshape(chunks, 2, channels)
    counts = np.minimum(chunk, pixels - np.arange(chunks) * chunk)[:, None]
    mean = (counts * parts[:, 0]).sum(axis=0) / pixels
    squares = (parts[:, 1] + counts * (parts[:, 0] - mean) ** 2).sum(axis=0)
    moments[:channels] = mean
    moments[channels : 2 * channels] = squares / pixels


def group_norm_finish(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    partial, gain, bias, norm = arrays
    pixels, channels, groups = sizes["pixels"], sizes["channels"], sizes["groups"]
    chunks = -(-pixels // sizes["chunk"])
    parts = partial[: chunks * 2 * channels].astype(np.float64)
    parts = parts.reshape(chunks, 2, groups, channels // groups)
    counts = np.minimum(sizes["chunk"], pixels - np.arange(chunks) * sizes["chunk"])[:, None, None]
    count = pixels * (channels // groups)
    mean = (counts * parts[:, 0]).sum(axis=(0, 2)) / count
    squares = parts[:, 1] + counts * (parts[:, 0] - mean[:, None]) ** 2
    inverse = 1 / np.sqrt(squares.sum(axis=(0, 2)) / count + constants["EPS"])
    factor = gain[:channels] * inverse.repeat(channels // groups)
    norm[:channels] = factor
    norm[channels : 2 * channels] = bias[:channels] - mean.repeat(channels // groups) * factor


def crop(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    picture, _, _, _, output = arrays
    first, count = 4 * sizes["skip4"], 4 * sizes["count4"]
    output[:count] = picture[first : first + count]


def rgba(constants: Constants, sizes: Sizes, arrays: Arrays) -> None:
    rgb, output = arrays
    pixels = sizes["pixels"]
    unit = (rgb[: 4 * pixels].reshape(-1, 4) / 2 + np.float32(0.5)).clip(0, 1)
    level = (unit * 255).round().astype(np.uint8)
    level[:, 3] = 255
    output[:pixels] = np.ascontiguousarray(level).view("<u4")[:, 0]


TWINS: Final[Mapping[str, Twin]] = {
    twin.__name__: twin
    for twin in (
        matmul,
        conv2d,
        depthwise_conv2d,
        grouped_matmul,
        pixel_shuffle,
        linear_attention_partial,
        sum_parts,
        linear_attention,
        attention,
        attention_tiled,
        attention_wide,
        layer_norm_modulate,
        rms_norm,
        head_norm,
        head_norm_rope,
        rope_half,
        embed,
        patchify,
        unpatchify,
        euler,
        unscale,
        group_norm_partial,
        group_norm_moments,
        group_norm_finish,
        crop,
        rgba,
    )
}


def _rows(flat: Array, rows: int, width: int) -> Array:
    return flat[: rows * width].reshape(rows, width).astype(np.float64)


def _tokens(flat: Array, batches: int, length: int, heads: int, head_dim: int) -> Array:
    count = batches * length * heads * head_dim
    return flat[:count].reshape(batches, length, heads, head_dim).astype(np.float64)


def _qkv(flat: Array, pixels: int, heads: int, head_dim: int) -> tuple[Array, Array, Array]:
    """Of linear attention, [pixels, heads, d] each: relu(query), relu(key), value."""
    all_three = _rows(flat, pixels * heads * 3, head_dim).reshape(pixels, heads, 3, head_dim)
    query, key, value = all_three.transpose(2, 0, 1, 3)
    return np.maximum(query, 0), np.maximum(key, 0), value


def _rms(x: Array, eps: float) -> Array:
    scaled: Array = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return scaled


def _silu(x: Array) -> Array:
    result: Array = x / (1 + np.exp(-x))
    return result


def _gelu_tanh(x: Array) -> Array:
    result: Array = 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))
    return result
