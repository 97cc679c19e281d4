"""What the `decode` stages of all decoders share: the latent on the way in, the picture out."""

from diffusion.plan import kernels
from diffusion.plan.areas import Band
from diffusion.plan.builder import PlanBuilder, StageBuilder


def begin_decode(
    plan: PlanBuilder, name: str, *, channels: int, scaling: float, shift: float
) -> tuple[StageBuilder, str]:
    """The stage `name` and its first inner tensor, the unscaled latent [H, W, channels]."""
    stage = plan.stage(name)
    stage.tensor("latent", (channels, "H", "W"), "input")
    stage.segment("all" if name == "decode" else "middle")
    z = stage.tensor("z", ("H", "W", channels))
    kernels.unscale(
        stage, "latent", z, channels=channels, pixels="H * W", scaling=scaling, shift=shift
    )
    return stage, z


def begin_picture(stage: StageBuilder, *, scale: int) -> str:
    """The output [H * scale, W * scale, 4] that the picture must be written to."""
    return stage.tensor("rgb", (f"H * {scale}", f"W * {scale}", 4), "output")


def finish_decode(stage: StageBuilder, *, scale: int) -> None:
    """Pack the picture for screens and hand the stage to its plan."""
    rows, columns = f"H * {scale}", f"W * {scale}"
    stage.tensor("rgba", (rows, columns), "output", "u32")
    kernels.rgba(stage, "rgb", "rgba", pixels=f"({rows}) * ({columns})")
    stage.finish()


def finish_band(stage: StageBuilder, rgb: str, band: Band, *, level: int) -> None:
    """As `finish_decode`, of the band's own rows of `rgb`, f32 with margins."""
    rows, columns = f"O * {2**level}", f"W * {2**level}"
    stage.tensor("band_rgb", (rows, columns, 4), "output")
    stage.tensor("band_rgba", (rows, columns), "output", "u32")
    band.own(stage, rgb, "band_rgb", level)
    kernels.rgba(stage, "band_rgb", "band_rgba", pixels=f"({rows}) * ({columns})")
    stage.finish()
