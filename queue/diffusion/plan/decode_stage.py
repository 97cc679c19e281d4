"""What the `decode` stages of all decoders share: the latent on the way in, the picture out."""

from diffusion.plan import kernels
from diffusion.plan.builder import PlanBuilder, StageBuilder


def begin_decode(
    plan: PlanBuilder, *, channels: int, scale: int, scaling: float, shift: float
) -> tuple[StageBuilder, str]:
    """The stage and its first inner tensor, the unscaled latent [H, W, channels].

    The picture [H * scale, W * scale, 4] must be written to the tensor `rgb`.
    """
    stage = plan.stage("decode")
    rows, columns = f"H * {scale}", f"W * {scale}"
    stage.tensor("latent", (channels, "H", "W"), "input")
    stage.tensor("rgb", (rows, columns, 4), "output")
    stage.tensor("rgba", (rows, columns), "output", "u32")
    stage.segment("all")
    z = stage.tensor("z", ("H", "W", channels))
    kernels.unscale(
        stage, "latent", z, channels=channels, pixels="H * W", scaling=scaling, shift=shift
    )
    return stage, z


def finish_decode(stage: StageBuilder, *, scale: int) -> None:
    """Pack the picture for screens and hand the stage to its plan."""
    kernels.rgba(stage, "rgb", "rgba", pixels=f"(H * {scale}) * (W * {scale})")
    stage.finish()
