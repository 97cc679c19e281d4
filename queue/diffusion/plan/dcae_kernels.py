"""As `kernels`: the shaders of static/wgsl that only a DC-AE's decoder calls."""

from typing import Final

from diffusion.plan.builder import StageBuilder
from diffusion.plan.calls import ITEM_THREADS, optional, spread, weight_imports
from diffusion.plan.schema import Size

_SUM_THREADS: Final = 64


def depthwise_conv2d(
    stage: StageBuilder,
    picture: str,
    taps: str,
    output: str,
    *,
    rows: Size,
    columns: Size,
    channels: int,
    kernel: int,
    bias: str | None = None,
    gated: bool = False,
) -> None:
    """Taps [kernel, kernel, channels]; see depthwise_conv2d.wgsl."""
    width = channels // 2 if gated else channels
    stage.dispatch(
        "depthwise_conv2d",
        imports=("grid", "activation"),
        constants={
            "THREADS": ITEM_THREADS,
            "KERNEL": kernel,
            "BIAS": bias is not None,
            "GATED": gated,
        },
        sizes={"rows": rows, "columns": columns, "channels": channels},
        bindings=((picture, "read"), (taps, "read"), optional(bias), (output, "write")),
        workgroups=spread(f"ceildiv(rows * columns * {width // 4}, THREADS)"),
    )


def grouped_matmul(
    stage: StageBuilder,
    left: str,
    weight: str,
    output: str,
    *,
    rows: Size,
    columns: int,
    width: int,
) -> None:
    """output [rows, columns], each `width` columns from those of left; weight [columns, width]."""
    stage.dispatch(
        "grouped_matmul",
        imports=(*weight_imports(stage, weight), "grid"),
        constants={"THREADS": ITEM_THREADS, "WIDTH": width},
        sizes={"rows": rows, "columns": columns},
        bindings=((left, "read"), (weight, "read"), (output, "write")),
        workgroups=spread("ceildiv(ceildiv(rows, 4) * (columns // 4), THREADS)"),
    )


def pixel_shuffle(
    stage: StageBuilder,
    picture: str,
    output: str,
    *,
    rows: Size,
    columns: Size,
    channels_in: int,
    channels_out: int,
    factor: int,
    repeats: int = 1,
) -> None:
    """`rows` and `columns` of the picture read; the output's are `factor` times as many."""
    stage.dispatch(
        "pixel_shuffle",
        imports=("grid",),
        constants={"THREADS": ITEM_THREADS, "FACTOR": factor, "REPEATS": repeats},
        sizes={
            "rows": rows,
            "columns": columns,
            "channels_in": channels_in,
            "channels_out": channels_out,
        },
        bindings=((picture, "read"), (output, "write")),
        workgroups=spread(
            "ceildiv(rows * columns * FACTOR * FACTOR * (channels_out // 4), THREADS)"
        ),
    )


def linear_attention(
    stage: StageBuilder,
    qkv: str,
    output: str,
    *,
    pixels: Size,
    heads: int,
    head_dim: int,
    eps: float,
    row_width: int,
    row_offset: int,
) -> None:
    """All passes, over qkv [pixels, heads, 3, head_dim]; the output's rows may hold more heads."""
    chunk = f"max(64, ceildiv({pixels}, 64))"
    parts = f"ceildiv({pixels}, {chunk})"
    count = heads * (head_dim + 1) * head_dim
    partial = stage.tensor("partial", (parts, count))
    sums = stage.tensor("sums", (count,))
    stage.dispatch(
        "linear_attention_partial",
        constants={"THREADS": _SUM_THREADS, "HEAD_DIM": head_dim},
        sizes={"pixels": pixels, "heads": heads, "chunk": chunk},
        bindings=((qkv, "read"), (partial, "write")),
        workgroups=("ceildiv(pixels, chunk)", "heads", 1),
    )
    stage.dispatch(
        "sum_parts",
        imports=("grid",),
        constants={"THREADS": _SUM_THREADS},
        sizes={"parts": parts, "count": count},
        bindings=((partial, "read"), (sums, "write")),
        workgroups=spread("ceildiv(count // 4, THREADS)"),
    )
    stage.dispatch(
        "linear_attention",
        imports=("grid",),
        constants={"THREADS": ITEM_THREADS, "HEAD_DIM": head_dim, "EPS": eps},
        sizes={
            "pixels": pixels,
            "heads": heads,
            "row_width": row_width,
            "row_offset": row_offset,
        },
        bindings=((qkv, "read"), (sums, "read"), (output, "write")),
        workgroups=spread("ceildiv(pixels * heads * (HEAD_DIM // 4), THREADS)"),
    )
