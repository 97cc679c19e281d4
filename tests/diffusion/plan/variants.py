"""Kernels as large models call them, and the tiny ones do not: wide heads, large tiles."""

from diffusion.plan import kernels, tiles
from diffusion.plan.builder import PlanBuilder, Recipe
from diffusion.plan.schema import Plan


def variants() -> Plan:
    """A plan to compile, not to run: T5Gemma's heads of 256, Flux's of 512, tiles of 128."""
    builder = PlanBuilder({}, "f16")
    stage = builder.stage("only")
    stage.segment("only")
    for head_dim in (64, 128, 256, 512):
        kernels.attention(
            stage,
            stage.tensor(f"qkv{head_dim}", (5, 3 * head_dim), "input"),
            stage.tensor(f"mixed{head_dim}", (5, head_dim), "output"),
            batch=1,
            length=5,
            heads=1,
            kv_heads=1,
            head_dim=head_dim,
            scale=1,
            soft_cap=50.0 if head_dim == 256 else 0.0,
        )
    weight = builder.weight("weight", (128, 128), Recipe())
    bias = builder.weight("bias", (128,), Recipe())
    left = stage.tensor("left", (128, 128), "input")
    kernels.matmul(
        stage,
        left,
        weight,
        stage.tensor("product", (128, 128), "output"),
        rows=128,
        columns=128,
        inner=128,
        tile=tiles.TILE,
    )
    kernels.conv2d(
        stage,
        left,
        weight,
        bias,
        stage.tensor("convolved", (128, 128), "output"),
        rows=16,
        columns=8,
        channels_in=128,
        channels_out=128,
        kernel=1,
        tile=tiles.TILE,
    )
    stage.finish()
    return builder.finish({})
