"""The decoder of an AutoencoderKL of Flux's type as a stage of a plan: `decode`.

Channels last. A group norm is two small passes that leave a factor and a summand for each channel;
the convolution after it applies them, and SiLU, while it reads, so normalised pictures are never
stored and a residual block keeps two pictures.

Where weights are f16 or less, so are the pictures of the last two levels, which take nearly all of
the memory: at 1024 pixels 1.1 GB instead of 2.1. Sums and statistics are f32.
Source: diffusers' models/autoencoders/vae.py.
"""

from pathlib import Path
from typing import Any, Final

from diffusion.model_folder import ModelFolderError, read_vae_config
from diffusion.plan import kernels, tiles
from diffusion.plan.builder import PlanBuilder, Recipe, StageBuilder
from diffusion.plan.decode_stage import begin_decode, finish_decode
from diffusion.plan.schema import Type
from diffusion.plan.weights import FolderTensors

COMPONENT: Final = "vae"
_EPS: Final = 1e-6


class DecoderCompiler:
    """Compiles the decoder of a folder. Raises ModelFolderError for one it does not know."""

    def __init__(self, folder: Path, tensors: FolderTensors, plan: PlanBuilder) -> None:
        config = read_vae_config(folder)
        if set(config["up_block_types"]) != {"UpDecoderBlock2D"} or config["act_fn"] != "silu":
            raise ModelFolderError("vae/config.json: unknown up_block_types or act_fn")
        self._plan = plan
        self._tensors = tensors
        self._groups = int(config["norm_num_groups"])
        self._levels = len(config["block_out_channels"])
        self._resnets = int(config["layers_per_block"]) + 1
        self._latent = int(config["latent_channels"])
        self._scaling = float(config["scaling_factor"])
        self._shift = float(config["shift_factor"] or 0.0)
        self._level = 0  # how often the picture was doubled so far
        if any(channels % 4 for channels in (*config["block_out_channels"], self._latent)):
            raise ModelFolderError("vae/config.json: channels that are no multiple of 4")

    def compile(self) -> dict[str, Any]:
        """Add the stage; what the host must know of it."""
        scale = 2 ** (self._levels - 1)
        stage, x = begin_decode(
            self._plan,
            channels=self._latent,
            scale=scale,
            scaling=self._scaling,
            shift=self._shift,
        )
        if "post_quant_conv.weight" in self._tensors:
            x = self._conv(stage, "post_quant_conv", x)
        x = self._conv(stage, "decoder.conv_in", x)
        x = self._resnet(stage, "decoder.mid_block.resnets.0", x)
        if "decoder.mid_block.attentions.0.to_q.weight" in self._tensors:
            self._attention(stage, "decoder.mid_block.attentions.0", x)
        x = self._resnet(stage, "decoder.mid_block.resnets.1", x)
        for level in range(self._levels):
            block = f"decoder.up_blocks.{level}"
            for number in range(self._resnets):
                x = self._resnet(stage, f"{block}.resnets.{number}", x)
            if level < self._levels - 1:
                x = self._conv(stage, f"{block}.upsamplers.0.conv", x, upsample=2)
        norm = self._norm(stage, "decoder.conv_norm_out", x)
        self._conv(stage, "decoder.conv_out", x, norm=norm, silu=True, output="rgb")
        finish_decode(stage, scale=scale)
        return {"scale": scale}

    def _resnet(self, stage: StageBuilder, name: str, x: str) -> str:
        """The picture after a residual block; where the channels stay, `x` itself, added to."""
        norm = self._norm(stage, f"{name}.norm1", x)
        inner = self._conv(stage, f"{name}.conv1", x, norm=norm, silu=True)
        norm = self._norm(stage, f"{name}.norm2", inner)
        if f"{name}.conv_shortcut.weight" in self._tensors:
            x = self._conv(stage, f"{name}.conv_shortcut", x)
        return self._conv(stage, f"{name}.conv2", inner, norm=norm, silu=True, output=x, add=True)

    def _attention(self, stage: StageBuilder, name: str, x: str) -> None:
        """One head over all places, added to `x`."""
        channels = self._channels(f"{name}.to_q.weight")
        norm = self._norm(stage, f"{name}.group_norm", x)
        qkv = stage.tensor("qkv", ("H", "W", 3 * channels))
        parts = [f"{name}.to_{which}" for which in "qkv"]
        weight, bias = self._weights(f"{name}.qkv", parts, (3 * channels, 1, 1, channels))
        kernels.conv2d(
            stage,
            x,
            weight,
            bias,
            qkv,
            rows="H",
            columns="W",
            channels_in=channels,
            channels_out=3 * channels,
            kernel=1,
            norm=norm,
            tile=tiles.picture_tile(3 * channels),
        )
        mixed = stage.tensor("mixed", ("H", "W", channels))
        kernels.attention(
            stage,
            qkv,
            mixed,
            batch=1,
            length="H * W",
            heads=1,
            kv_heads=1,
            head_dim=channels,
            scale=channels**-0.5,
        )
        out = f"{name}.to_out.0"
        weight, bias = self._weights(out, [out], (channels, channels))
        kernels.matmul(
            stage,
            mixed,
            weight,
            x,
            rows="H * W",
            columns=channels,
            inner=channels,
            bias=bias,
            add=True,
            tile=tiles.picture_tile(channels),
        )

    def _norm(self, stage: StageBuilder, name: str, x: str) -> str:
        channels = self._channels(f"{name}.weight")
        gain, bias = (
            self._plan.weight(
                f"vae.{name}.{which}", (channels,), Recipe(COMPONENT, (f"{name}.{source}",))
            )
            for which, source in (("gain", "weight"), ("bias", "bias"))
        )
        size = 2**self._level
        return kernels.group_norm(
            stage,
            x,
            gain,
            bias,
            pixels=f"H * {size} * W * {size}",
            channels=channels,
            groups=self._groups,
            eps=_EPS,
        )

    def _conv(
        self,
        stage: StageBuilder,
        name: str,
        x: str,
        *,
        upsample: int = 1,
        norm: str | None = None,
        silu: bool = False,
        output: str | None = None,
        add: bool = False,
    ) -> str:
        channels_out, channels_in, kernel, _ = self._tensors.shape(f"{name}.weight")
        padded = -(-channels_out // 4) * 4  # RGB gets a fourth channel of zeros
        taps = (padded, kernel, kernel, channels_in)
        weight, bias = self._weights(name, [name], taps, taps_last=True)
        size = 2**self._level
        self._level += upsample - 1
        if output is None:
            after = 2**self._level
            shape = f"H * {after}", f"W * {after}", padded
            output = stage.tensor("picture", shape, type=self._picture_type())
        kernels.conv2d(
            stage,
            x,
            weight,
            bias,
            output,
            rows=f"H * {size}",
            columns=f"W * {size}",
            channels_in=channels_in,
            channels_out=padded,
            kernel=kernel,
            upsample=upsample,
            norm=norm,
            silu=silu,
            add=add,
            tile=tiles.picture_tile(padded),
        )
        return output

    def _picture_type(self) -> Type:
        """Of a picture of the current level."""
        large = self._level >= max(1, self._levels - 2)
        return "f16" if large and self._plan.matrix_type != "f32" else "f32"

    def _weights(
        self, name: str, sources: list[str], shape: tuple[int, ...], *, taps_last: bool = False
    ) -> tuple[str, str]:
        """A matrix and its bias, with zero rows up to the shape's."""
        weights = tuple(f"{source}.weight" for source in sources)
        biases = tuple(f"{source}.bias" for source in sources)
        plan = self._plan
        return (
            plan.weight(
                f"vae.{name}",
                shape,
                Recipe(COMPONENT, weights, rows=shape[0], taps_last=taps_last),
            ),
            plan.weight(f"vae.{name}.bias", (shape[0],), Recipe(COMPONENT, biases, rows=shape[0])),
        )

    def _channels(self, name: str) -> int:
        return self._tensors.shape(name)[0]
