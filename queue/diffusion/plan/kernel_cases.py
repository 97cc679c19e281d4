"""Every kernel on small random numbers, with what its twin gives: the first table of `/check`.

Sizes have tails in every dimension and take more than one workgroup; no case is so large that a
software adapter takes long. Matrix products, convolutions and attention run once in each tile that
models use, and otherwise in one that drivers compile soon.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from diffusion.packaging.storage import DTYPES, DType
from diffusion.plan import dcae_kernels, kernels, norm_kernels, tiles
from diffusion.plan.operation import STAGE, Operation
from diffusion.plan.rotations import turns
from diffusion.plan.schema import Type, write_plan

FORMAT: Final = "p2pweb-kernels"
TOLERANCE: Final = 1e-4  # relative L2. WGSL lets exp, tanh and division be off by some ulp

Declare = Callable[[Operation], list[str]]


@dataclass(frozen=True)
class Case:
    """declare: builds the operation and names the tensors to compare."""

    name: str
    declare: Declare
    dtype: DType = "f32"


def kernel_cases() -> Iterator[Case]:
    yield Case("matmul f32, large tile", _matmul(tiles.TILE))
    yield Case("matmul f32, small tile", _matmul(tiles.SMALL_TILE))
    yield Case("matmul f32, two buffers", _matmul({**tiles.SMALL_TILE, "TILE_K": 8, "BUFFERS": 2}))
    for dtype in DTYPES:
        yield Case(f"matmul {dtype}", _matmul(tiles.PLAIN_TILE), dtype)
    for after in ("bias and SiLU", "gate", "sum", "gated GELU"):
        yield Case(f"matmul f16, {after}", _matmul_then(after), "f16")
    for dtype in DTYPES:
        yield Case(f"conv2d {dtype}", _conv2d({}), dtype)
    for channels in (8, 44, 132):
        tile = tiles.picture_tile(channels)
        yield Case(f"conv2d to {channels} channels", _conv2d({"tile": tile}, channels))
    yield Case("conv2d, doubled", _conv2d({"upsample": 2}))
    yield Case("conv2d 1 x 1, sum", _conv2d({"kernel": 1, "add": True}))
    yield Case("group_norm, SiLU, conv2d", _group_norm)
    yield Case("group_norm of a band", _group_norm_of_a_band)
    for stored in (np.float32, np.float16):
        yield Case(f"crop {np.dtype(stored).name}", _crop(stored))
    yield Case("depthwise_conv2d", _depthwise_conv2d)
    for dtype in DTYPES:
        yield Case(f"grouped_matmul {dtype}", _grouped_matmul, dtype)
    yield Case("pixel_shuffle", _pixel_shuffle)
    yield Case("linear_attention", _linear_attention)
    yield Case("attention over two texts", _attention_over_texts)
    plain = _attention(64, 2, 0.0, tiles.PLAIN_ATTENTION)
    yield Case("attention, heads of 64", plain)
    for head_dim, kv_heads, soft_cap in (
        (128, 1, 0.0),
        (256, 1, 50.0),
        (512, 1, 0.0),
    ):
        name = f"attention, heads of {head_dim}"
        yield Case(name, _attention(head_dim, kv_heads, soft_cap))
    yield Case("layer_norm_modulate", _layer_norm_modulate)
    yield Case("rms_norm", _rms_norm)
    yield Case("head_norm", _head_norm)
    yield Case("head_norm_rope", _head_norm_rope)
    yield Case("rope_half", _rope_half)
    yield Case("embed f32", _embed(np.float32))
    yield Case("embed f16", _embed(np.float16))
    yield Case("patchify, unpatchify", _patchify)
    yield Case("unscale", _unscale)
    yield Case("euler", _euler)
    yield Case("rgba", _rgba)


def kernel_file() -> bytes:
    """All cases as one safetensors file.

    Tensors are `CASE/in/TENSOR`, `CASE/weight/NAME` (u8: the bytes of a package) and
    `CASE/out/TENSOR`, where CASE counts from 0. The metadata hold `format` and `cases`: JSON,
    [{"name", "plan", "tolerance"}, ...], the plan as its own text: a reader tells 1.0 from 1.
    """
    tensors: dict[str, NDArray[Any]] = {}
    cases = []
    for number, case in enumerate(kernel_cases()):
        operation = Operation(case.dtype, seed=number)
        results = case.declare(operation)
        plan = operation.finish()
        twins = operation.twins(plan)
        parts = (
            ("in", operation.inputs),
            ("weight", operation.weights),
            ("out", {name: twins.read(STAGE, name) for name in results}),
        )
        for kind, values in parts:
            for name, value in values.items():
                tensors[f"{number}/{kind}/{name}"] = np.ascontiguousarray(value)
        cases.append({"name": case.name, "plan": write_plan(plan), "tolerance": TOLERANCE})
    return save(tensors, {"format": FORMAT, "cases": json.dumps(cases)})


def _matmul(tile: tiles.Tile) -> Declare:
    def declare(operation: Operation) -> list[str]:
        rows, columns, inner = 67, 72, 100
        kernels.matmul(
            operation.stage,
            operation.tensor("left", operation.random(rows, inner)),
            operation.matrix("weight", columns, inner),
            operation.output("out", rows, columns),
            rows=rows,
            columns=columns,
            inner=inner,
            tile=tile,
        )
        return ["out"]

    return declare


def _matmul_then(after: str) -> Declare:
    def declare(operation: Operation) -> list[str]:
        rows, columns, inner = 67, 72, 28
        given: dict[str, Any] = {"add": after == "sum", "paired": after == "gated GELU"}
        if after == "bias and SiLU":
            given |= {"bias": operation.weight("bias", operation.random(columns)), "silu": True}
        if after == "gate":
            operation.tensor("step", np.array([2], np.uint32))
            table = operation.tensor("table", operation.random(3, 2 * columns))
            given["gate"] = kernels.Gate(table, 2 * columns, columns)
        width = columns // 2 if given["paired"] else columns
        kernels.matmul(
            operation.stage,
            operation.tensor("left", operation.random(rows, inner)),
            operation.matrix("weight", columns, inner),
            operation.tensor("out", operation.random(rows, width), "state"),
            rows=rows,
            columns=columns,
            inner=inner,
            tile=tiles.PLAIN_TILE,
            **given,
        )
        return ["out"]

    return declare


def _conv2d(given: dict[str, Any], channels_out: int = 44) -> Declare:
    def declare(operation: Operation) -> list[str]:
        rows, columns, channels_in = 5, 7, 20
        kernel, upsample = given.get("kernel", 3), given.get("upsample", 1)
        out = operation.random(rows * columns * upsample**2, channels_out)
        kernels.conv2d(
            operation.stage,
            operation.tensor("picture", operation.random(rows, columns, channels_in)),
            operation.matrix("weight", channels_out, kernel, kernel, channels_in),
            operation.weight("bias", operation.random(channels_out)),
            operation.tensor("out", out, "state"),
            rows=rows,
            columns=columns,
            channels_in=channels_in,
            channels_out=channels_out,
            **{"tile": tiles.PLAIN_TILE, **given},
        )
        return ["out"]

    return declare


def _group_norm(operation: Operation) -> list[str]:
    rows, columns, channels = 9, 7, 24
    picture = operation.tensor("picture", operation.random(rows, columns, channels) + 3)
    norm = norm_kernels.group_norm(
        operation.stage,
        picture,
        operation.weight("gain", operation.random(channels)),
        operation.weight("shift", operation.random(channels)),
        pixels=rows * columns,
        channels=channels,
        groups=6,
        eps=1e-6,
    )
    kernels.conv2d(
        operation.stage,
        picture,
        operation.matrix("weight", 8, 3, 3, channels),
        operation.weight("bias", operation.random(8)),
        operation.output("out", rows * columns, 8),
        rows=rows,
        columns=columns,
        channels_in=channels,
        channels_out=8,
        norm=norm,
        silu=True,
        tile=tiles.PLAIN_TILE,
    )
    return ["out"]


def _group_norm_of_a_band(operation: Operation) -> list[str]:
    pixels, skip, channels = 9 * 7, 2 * 7, 24
    picture = operation.random(skip + pixels + 7, channels) + 3
    norm_kernels.group_moments(
        operation.stage,
        operation.tensor("picture", picture),
        operation.output("moments", 2, channels),
        pixels=pixels,
        skip=skip,
        channels=channels,
    )
    norm = norm_kernels.norm_of_moments(
        operation.stage,
        operation.tensor("all", np.abs(operation.random(2, channels))),
        operation.weight("gain", operation.random(channels)),
        operation.weight("shift", operation.random(channels)),
        channels=channels,
        groups=6,
        eps=1e-6,
    )
    kernels.conv2d(
        operation.stage,
        "picture",
        operation.matrix("weight", 8, 1, 1, channels),
        None,
        operation.output("out", 9 * 7, 8),
        rows=9,
        columns=7,
        channels_in=channels,
        channels_out=8,
        kernel=1,
        norm=norm,
        tile=tiles.PLAIN_TILE,
    )
    return ["moments", "out"]


def _crop(stored: type[Any]) -> Declare:
    def declare(operation: Operation) -> list[str]:
        picture = operation.random(9, 31, 8).astype(stored)
        kind: Type = "f16" if stored is np.float16 else "f32"
        norm_kernels.crop(
            operation.stage,
            operation.tensor("picture", picture),
            operation.output("out", 5, 31, 8, type=kind),
            skip4=3 * 31 * 2,
            count4=5 * 31 * 2,
        )
        return ["out"]

    return declare


def _depthwise_conv2d(operation: Operation) -> list[str]:
    rows, columns, channels, kernel = 13, 7, 24, 3
    dcae_kernels.depthwise_conv2d(
        operation.stage,
        operation.tensor("picture", operation.random(rows, columns, channels)),
        operation.weight("taps", operation.random(kernel, kernel, channels)),
        operation.output("out", rows, columns, channels // 2),
        rows=rows,
        columns=columns,
        channels=channels,
        kernel=kernel,
        bias=operation.weight("bias", operation.random(channels)),
        gated=True,
    )
    return ["out"]


def _grouped_matmul(operation: Operation) -> list[str]:
    rows, columns, width = 70, 96, 32
    dcae_kernels.grouped_matmul(
        operation.stage,
        operation.tensor("left", operation.random(rows, columns)),
        operation.matrix("weight", columns, width),
        operation.output("out", rows, columns),
        rows=rows,
        columns=columns,
        width=width,
    )
    return ["out"]


def _pixel_shuffle(operation: Operation) -> list[str]:
    rows, columns, channels_in, channels_out, factor = 5, 7, 24, 12, 2
    dcae_kernels.pixel_shuffle(
        operation.stage,
        operation.tensor("picture", operation.random(rows, columns, channels_in)),
        operation.output("out", rows * factor, columns * factor, channels_out),
        rows=rows,
        columns=columns,
        channels_in=channels_in,
        channels_out=channels_out,
        factor=factor,
        repeats=2,
    )
    return ["out"]


def _linear_attention(operation: Operation) -> list[str]:
    pixels, heads, head_dim = 70, 2, 32
    dcae_kernels.linear_attention(
        operation.stage,
        operation.tensor("qkv", operation.random(pixels, heads, 3, head_dim)),
        operation.output("out", pixels, heads * head_dim),
        pixels=pixels,
        heads=heads,
        head_dim=head_dim,
        eps=1e-15,
        row_width=heads * head_dim,
        row_offset=0,
    )
    return ["out"]


def _attention_over_texts(operation: Operation) -> list[str]:
    heads, head_dim, text, length = 3, 64, 33, 70
    operation.tensor("text_lengths", np.array([0, text], np.uint32))
    kernels.attention(
        operation.stage,
        operation.tensor("qkv", operation.random(2, length, 3 * heads * head_dim)),
        operation.output("out", 2, length, heads * head_dim),
        batch=2,
        length=length,
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        text_kv=operation.tensor("text_kv", operation.random(2, text, 2 * heads * head_dim)),
        text=text,
    )
    return ["out"]


def _attention(
    head_dim: int, kv_heads: int, soft_cap: float, tile: tiles.Tile | None = None
) -> Declare:
    def declare(operation: Operation) -> list[str]:
        length, heads = 70, 2
        qkv = 2 * operation.random(length, heads + 2 * kv_heads, head_dim)
        kernels.attention(
            operation.stage,
            operation.tensor("qkv", qkv),
            operation.output("out", length, heads, head_dim),
            batch=1,
            length=length,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            scale=head_dim**-0.5,
            soft_cap=soft_cap,
            tile=tile,
        )
        return ["out"]

    return declare


def _layer_norm_modulate(operation: Operation) -> list[str]:
    rows, width = 5, 132
    operation.tensor("step", np.array([1], np.uint32))
    kernels.layer_norm_modulate(
        operation.stage,
        operation.tensor("rows", operation.random(rows, width) + 3),
        operation.tensor("table", operation.random(2, 3 * width)),
        operation.output("out", rows, width),
        rows=rows,
        width=width,
        stride=3 * width,
        shift=2 * width,
        scale=width,
        eps=1e-6,
    )
    return ["out"]


def _rms_norm(operation: Operation) -> list[str]:
    rows, width = 5, 132
    kernels.rms_norm(
        operation.stage,
        operation.tensor("rows", operation.random(rows, width)),
        operation.weight("gain", operation.random(width)),
        operation.tensor("out", operation.random(rows, width), "state"),
        rows=rows,
        width=width,
        eps=1e-6,
        plus=1,
        add=True,
    )
    return ["out"]


def _head_norm(operation: Operation) -> list[str]:
    rows, head_dim = 7, 64
    kernels.head_norm(
        operation.stage,
        operation.tensor("values", operation.random(rows, 6, head_dim), "state"),
        operation.weight("gain", operation.random(head_dim)),
        rows=rows,
        heads=3,
        row_heads=6,
        head_dim=head_dim,
        eps=1e-6,
    )
    return ["values"]


def _head_norm_rope(operation: Operation) -> list[str]:
    heads, head_dim, rows, columns = 3, 64, 3, 5
    length = rows * columns
    kernels.head_norm_rope(
        operation.stage,
        operation.tensor("qkv", operation.random(2 * length, 3, heads, head_dim), "state"),
        operation.weight("gain", operation.random(2, head_dim)),
        operation.weight("row_turns", turns(7, head_dim // 2, 10000)),
        operation.weight("column_turns", turns(7, head_dim // 2, 10000)),
        rows=2 * length,
        heads=heads,
        length=length,
        columns=columns,
        head_dim=head_dim,
        axis=head_dim // 2,
        eps=1e-6,
    )
    return ["qkv"]


def _rope_half(operation: Operation) -> list[str]:
    rows, head_dim = 11, 64
    kernels.rope_half(
        operation.stage,
        operation.tensor("values", operation.random(rows, 5, head_dim), "state"),
        operation.weight("turns", turns(11, head_dim, 10000)),
        rows=rows,
        heads=3,
        row_heads=5,
        head_dim=head_dim,
    )
    return ["values"]


def _embed(stored: type[Any]) -> Declare:
    def declare(operation: Operation) -> list[str]:
        kernels.embed(
            operation.stage,
            operation.tensor("rows", operation.random(13, 92).astype(stored)),
            operation.output("out", 13, 92),
            count4=299,
            scale=48.0,
        )
        return ["out"]

    return declare


def _patchify(operation: Operation) -> list[str]:
    batch, channels, rows, columns, patch = 2, 5, 6, 10, 2
    grid = {
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "batch": batch,
        "patch": patch,
    }
    latent = operation.tensor("latent", operation.random(channels, rows, columns))
    tokens = operation.output("tokens", batch, rows * columns // patch**2, channels * patch**2)
    kernels.patchify(operation.stage, latent, tokens, **grid)
    again = operation.output("again", batch, channels, rows, columns)
    kernels.unpatchify(operation.stage, tokens, again, **grid)
    return [tokens, again]


def _unscale(operation: Operation) -> list[str]:
    kernels.unscale(
        operation.stage,
        operation.tensor("latent", operation.random(5, 77)),
        operation.output("out", 77, 5),
        channels=5,
        pixels=77,
        scaling=0.3611,
        shift=0.1159,
    )
    return ["out"]


def _euler(operation: Operation) -> list[str]:
    operation.tensor("latent", operation.random(301), "state")
    operation.tensor("velocity", operation.random(2, 301))
    operation.tensor("strides", operation.random(3))
    operation.tensor("guidance", np.array([5], np.float32))
    operation.tensor("step", np.array([2], np.uint32))
    kernels.euler(operation.stage, count=301, batch=2)
    return ["latent"]


def _rgba(operation: Operation) -> list[str]:
    """Of colours that lie between halves, where nothing is left to rounding."""
    levels = (np.arange(301 * 4) % 256).astype(np.float32)
    rgb = (levels / 127.5 - 1).reshape(301, 4)
    kernels.rgba(
        operation.stage,
        operation.tensor("rgb", rgb),
        operation.output("out", 301, type="u32"),
        pixels=301,
    )
    return ["out"]
