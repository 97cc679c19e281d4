"""One function for each shader of static/wgsl: how a plan calls it.

Sizes are numbers or expressions. Bindings, sizes and constants are those that the head of the
shader's file lists; `twins` has the same operations in numpy.
"""

from dataclasses import dataclass
from typing import Final

from diffusion.plan.builder import StageBuilder
from diffusion.plan.calls import GRID_WIDTH, ITEM_THREADS, optional, spread, weight_imports
from diffusion.plan.schema import Size
from diffusion.plan.tiles import TILE, Tile, attention_tile

# Files in static/wgsl/shared of what multiplies in register tiles; a variant may multiply in f16
_TILED: Final = ("tile", "multiply_f32")
_ROW_THREADS: Final = 128
_FEWEST_THREADS: Final = 32
_HEAD_THREADS: Final = 64
_HEADS_A_GROUP: Final = 4


@dataclass(frozen=True)
class Gate:
    """Where a gate lies: `offset` numbers into the current step's row of a modulation table."""

    table: str
    stride: int
    offset: int


def matmul(
    stage: StageBuilder,
    left: str,
    weight: str,
    output: str,
    *,
    rows: Size,
    columns: int,
    inner: int,
    bias: str | None = None,
    silu: bool = False,
    paired: bool = False,
    gate: Gate | None = None,
    add: bool = False,
    tile: Tile = TILE,
) -> None:
    """output [rows, columns] = left [rows, inner] x weight [columns, inner]^T; see matmul.wgsl."""
    stage.dispatch(
        "matmul",
        imports=(*weight_imports(stage, weight), "activation", *_TILED, "product"),
        constants={
            **tile,
            "BIAS": bias is not None,
            "SILU": silu,
            "PAIRED": paired,
            "GATED": gate is not None,
            "ADD": add,
        },
        sizes={
            "rows": rows,
            "columns": columns,
            "inner": inner,
            "gate_stride": gate.stride if gate else 0,
            "gate_offset": gate.offset if gate else 0,
        },
        bindings=(
            (left, "read"),
            (weight, "read"),
            optional(bias),
            optional(gate.table if gate else None),
            optional("step" if gate else None),
            (output, "write"),
        ),
        workgroups=("ceildiv(columns, TILE_N)", "ceildiv(rows, TILE_M)", 1),
    )


def conv2d(
    stage: StageBuilder,
    picture: str,
    weight: str,
    bias: str | None,
    output: str,
    *,
    rows: Size,
    columns: Size,
    channels_in: int,
    channels_out: int,
    kernel: int = 3,
    upsample: int = 1,
    norm: str | None = None,
    silu: bool = False,
    add: bool = False,
    tile: Tile = TILE,
) -> None:
    """output [pixels, channels_out] from picture [rows, columns, channels_in]; see conv2d.wgsl.

    Both are stored as their tensors say, f32 or f16.
    """
    groups = "ceildiv(rows * columns * UPSAMPLE * UPSAMPLE, TILE_M)"
    stage.dispatch(
        "conv2d",
        imports=(
            f"picture_in_{stage.tensors[picture].type}",
            f"picture_out_{stage.tensors[output].type}",
            *weight_imports(stage, weight),
            "grid",
            "activation",
            *_TILED,
            "product",
        ),
        constants={
            **tile,
            "KERNEL": kernel,
            "UPSAMPLE": upsample,
            "NORM": norm is not None,
            "SILU": silu,
            "BIAS": bias is not None,
            "ADD": add,
        },
        sizes={
            "rows": rows,
            "columns": columns,
            "channels_in": channels_in,
            "channels_out": channels_out,
        },
        bindings=(
            (picture, "read"),
            (weight, "read"),
            optional(bias),
            optional(norm),
            (output, "write"),
        ),
        workgroups=(
            f"min({groups}, {GRID_WIDTH})",
            "ceildiv(channels_out, TILE_N)",
            f"ceildiv({groups}, {GRID_WIDTH})",
        ),
    )


def attention(
    stage: StageBuilder,
    qkv: str,
    output: str,
    *,
    batch: Size,
    length: Size,
    heads: int,
    kv_heads: int,
    head_dim: int,
    scale: float,
    soft_cap: float = 0.0,
    text_kv: str | None = None,
    text: Size = 0,
    tile: Tile | None = None,
) -> None:
    """Attention of heads of any width; with `text_kv` over a text first; see attention.wgsl.

    tile: another one than `attention_tile` gives.
    """
    shader, usual = attention_tile(head_dim, text=text_kv is not None)
    tile = tile or usual
    tiled = "TILE_M" in tile
    stage.dispatch(
        shader,
        imports=_TILED if tiled else (),
        constants={
            "HEAD_DIM": head_dim,
            "SCALE": scale,
            "SOFT_CAP": soft_cap,
            "TEXT": text_kv is not None,
            **tile,
        },
        sizes={"length": length, "text": text, "heads": heads, "kv_heads": kv_heads},
        bindings=(
            (qkv, "read"),
            optional(text_kv),
            optional("text_lengths" if text_kv else None),
            (output, "write"),
        ),
        workgroups=(
            "ceildiv(length, TILE_M)" if tiled else "ceildiv(length * SPLIT, THREADS)",
            "heads",
            batch,
        ),
    )


def layer_norm_modulate(
    stage: StageBuilder,
    rows_in: str,
    table: str,
    output: str,
    *,
    rows: Size,
    width: int,
    stride: int,
    shift: int,
    scale: int,
    eps: float,
) -> None:
    """`shift` and `scale`: where these begin in a step's row of `table`, `stride` numbers long."""
    stage.dispatch(
        "layer_norm_modulate",
        imports=("grid", "reduce"),
        constants={"THREADS": _ROW_THREADS, "EPS": eps},
        sizes={
            "rows": rows,
            "width": width,
            "table_stride": stride,
            "shift_offset": shift,
            "scale_offset": scale,
        },
        bindings=((rows_in, "read"), (table, "read"), ("step", "read"), (output, "write")),
        workgroups=spread("rows"),
    )


def rms_norm(
    stage: StageBuilder,
    rows_in: str,
    gain: str,
    output: str,
    *,
    rows: Size,
    width: int,
    eps: float,
    plus: float,
    bias: str | None = None,
    relu: bool = False,
    add: bool = False,
) -> None:
    threads = _ROW_THREADS
    while threads > _FEWEST_THREADS and 2 * threads >= width:
        threads //= 2  # a pixel's row is short
    stage.dispatch(
        "rms_norm",
        imports=("grid", "reduce"),
        constants={
            "THREADS": threads,
            "EPS": eps,
            "PLUS": plus,
            "BIAS": bias is not None,
            "RELU": relu,
            "ADD": add,
        },
        sizes={"rows": rows, "width": width},
        bindings=((rows_in, "read"), (gain, "read"), optional(bias), (output, "write")),
        workgroups=spread("rows"),
    )


def head_norm(
    stage: StageBuilder,
    values: str,
    gain: str,
    *,
    rows: Size,
    heads: int,
    row_heads: int,
    head_dim: int,
    eps: float,
) -> None:
    stage.dispatch(
        "head_norm",
        imports=("grid", "heads"),
        constants={"THREADS": _HEAD_THREADS, "HEAD_DIM": head_dim, "EPS": eps},
        sizes={"rows": rows, "heads": heads, "row_heads": row_heads},
        bindings=((values, "write"), (gain, "read")),
        workgroups=spread(f"ceildiv(rows * heads, {_HEADS_A_GROUP})"),
    )


def head_norm_rope(
    stage: StageBuilder,
    qkv: str,
    gain: str,
    row_turns: str,
    column_turns: str,
    *,
    rows: Size,
    heads: int,
    length: Size,
    columns: Size,
    head_dim: int,
    axis: int,
    eps: float,
) -> None:
    stage.dispatch(
        "head_norm_rope",
        imports=("grid", "heads"),
        constants={"THREADS": _HEAD_THREADS, "HEAD_DIM": head_dim, "AXIS": axis, "EPS": eps},
        sizes={"rows": rows, "heads": heads, "length": length, "columns": columns},
        bindings=((qkv, "write"), (gain, "read"), (row_turns, "read"), (column_turns, "read")),
        workgroups=spread(f"ceildiv(rows * 2 * heads, {_HEADS_A_GROUP})"),
    )


def rope_half(
    stage: StageBuilder,
    values: str,
    turns: str,
    *,
    rows: Size,
    heads: int,
    row_heads: int,
    head_dim: int,
) -> None:
    stage.dispatch(
        "rope_half",
        imports=("grid",),
        constants={"THREADS": ITEM_THREADS, "HEAD_DIM": head_dim},
        sizes={"rows": rows, "heads": heads, "row_heads": row_heads},
        bindings=((values, "write"), (turns, "read")),
        workgroups=spread("ceildiv(rows * heads * (HEAD_DIM // 8), THREADS)"),
    )


def embed(stage: StageBuilder, rows_in: str, output: str, *, count4: Size, scale: float) -> None:
    """`rows_in`: rows of the embedding as they are stored; count4: numbers in them, over 4."""
    stage.dispatch(
        "embed",
        imports=("grid", f"weight_{stage.tensors[rows_in].type}"),
        constants={"THREADS": ITEM_THREADS, "SCALE": scale},
        sizes={"count4": count4},
        bindings=((output, "write"), (rows_in, "read")),
        workgroups=spread("ceildiv(count4, THREADS)"),
    )


def patchify(
    stage: StageBuilder,
    latent: str,
    tokens: str,
    *,
    channels: int,
    rows: Size,
    columns: Size,
    batch: Size,
    patch: int,
) -> None:
    _between_grids(stage, "patchify", latent, tokens, channels, rows, columns, batch, patch)


def unpatchify(
    stage: StageBuilder,
    tokens: str,
    output: str,
    *,
    channels: int,
    rows: Size,
    columns: Size,
    batch: Size,
    patch: int,
) -> None:
    _between_grids(stage, "unpatchify", tokens, output, channels, rows, columns, batch, patch)


def euler(stage: StageBuilder, *, count: Size, batch: Size) -> None:
    """On the stage's tensors latent, velocity, strides, guidance and step."""
    stage.dispatch(
        "euler",
        imports=("grid",),
        constants={"THREADS": ITEM_THREADS},
        sizes={"count": count, "batch": batch},
        bindings=(
            ("latent", "write"),
            ("velocity", "read"),
            ("strides", "read"),
            ("guidance", "read"),
            ("step", "read"),
        ),
        workgroups=spread("ceildiv(count, THREADS)"),
    )


def unscale(
    stage: StageBuilder,
    latent: str,
    output: str,
    *,
    channels: int,
    pixels: Size,
    scaling: float,
    shift: float,
) -> None:
    stage.dispatch(
        "unscale",
        imports=("grid",),
        constants={"THREADS": ITEM_THREADS, "SCALING": scaling, "SHIFT": shift},
        sizes={"channels": channels, "pixels": pixels},
        bindings=((latent, "read"), (output, "write")),
        workgroups=spread("ceildiv(channels * pixels, THREADS)"),
    )


def rgba(stage: StageBuilder, rgb: str, output: str, *, pixels: Size) -> None:
    stage.dispatch(
        "rgba",
        imports=("grid",),
        constants={"THREADS": ITEM_THREADS},
        sizes={"pixels": pixels},
        bindings=((rgb, "read"), (output, "write")),
        workgroups=spread("ceildiv(pixels, THREADS)"),
    )


def _between_grids(
    stage: StageBuilder,
    shader: str,
    source: str,
    output: str,
    channels: int,
    rows: Size,
    columns: Size,
    batch: Size,
    patch: int,
) -> None:
    stage.dispatch(
        shader,
        imports=("grid",),
        constants={"THREADS": ITEM_THREADS, "PATCH": patch},
        sizes={"channels": channels, "rows": rows, "columns": columns, "batch": batch},
        bindings=((source, "read"), (output, "write")),
        workgroups=spread("ceildiv(batch * channels * rows * columns, THREADS)"),
    )
