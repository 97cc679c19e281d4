"""The decoder of an AutoencoderKL of Flux's type as two stages of a plan: `decode` and `band`.

Channels last. A group norm is two small passes that leave a factor and a summand for each channel;
the convolution after it applies them, and SiLU, while it reads, so normalised pictures are never
stored and a residual block keeps two pictures.

Where weights are f16 or less, so are the pictures of the last two levels, which take nearly all of
the memory: at 1024 pixels 1.1 GB instead of 2.1. Sums and statistics are f32.

`band` is the same network over the same weights for a range of rows; see `areas`.
Source: diffusers' models/autoencoders/vae.py.
"""

from pathlib import Path
from typing import Any, Final

from diffusion.model_folder import ModelFolderError, read_vae_config
from diffusion.plan import areas, kernels, tiles
from diffusion.plan.builder import PlanBuilder, Recipe, StageBuilder
from diffusion.plan.decode_stage import begin_decode, begin_picture, finish_band, finish_decode
from diffusion.plan.schema import Role, Symbol, Type
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
        self._area: areas.Whole = areas.Whole()
        self._level = 0  # how often the picture was doubled so far
        if any(channels % 4 for channels in (*config["block_out_channels"], self._latent)):
            raise ModelFolderError("vae/config.json: channels that are no multiple of 4")

    def compile(self) -> dict[str, Any]:
        """Add the stages; what the host must know of them."""
        scale = 2 ** (self._levels - 1)
        self._stage("decode", areas.Whole(), scale)
        if self._levels > 1:
            sides = self._plan.symbols["H"]
            self._plan.symbols |= {
                "A": Symbol(smallest=0, largest=sides.largest - 1),
                "O": Symbol(smallest=1, largest=sides.largest),
                "U": Symbol(value="H - A - O"),
            }
            self._stage(areas.BAND, areas.Band(self._margins()), scale)
        return {"scale": scale}

    def _margins(self) -> list[int]:
        """Two convolutions a residual block, one that doubles before, one more at the end."""
        levels = range(self._levels)
        return areas.margins(
            [2 * self._resnets + (level > 0) + (level == levels[-1]) for level in levels]
        )

    def _stage(self, name: str, area: areas.Whole, scale: int) -> None:
        self._area, self._level = area, 0
        stage, x = begin_decode(
            self._plan,
            name,
            channels=self._latent,
            scaling=self._scaling,
            shift=self._shift,
        )
        if "post_quant_conv.weight" in self._tensors:
            x = self._conv(stage, "post_quant_conv", x)
        x = self._conv(stage, "decoder.conv_in", x, state=area.middle)
        x = self._resnet(stage, "decoder.mid_block.resnets.0", x)
        if "decoder.mid_block.attentions.0.to_q.weight" in self._tensors:
            self._attention(stage, "decoder.mid_block.attentions.0", x)
        x = self._resnet(stage, "decoder.mid_block.resnets.1", x)
        for level in range(self._levels):
            block = f"decoder.up_blocks.{level}"
            for number in range(self._resnets):
                x = self._resnet(stage, f"{block}.resnets.{number}", x)
            if level < self._levels - 1:
                conv = f"{block}.upsamplers.0.conv"
                _, channels, _, _ = self._tensors.shape(f"{conv}.weight")
                x = area.before_doubling(stage, x, channels, level)
                x = self._conv(stage, conv, x, upsample=2)
        norm = self._norm(stage, "decoder.conv_norm_out", x)
        if isinstance(area, areas.Band):
            rgb = self._conv(stage, "decoder.conv_out", x, norm=norm, silu=True, exact=True)
            finish_band(stage, rgb, area, level=self._level)
        else:
            rgb = begin_picture(stage, scale=scale)
            self._conv(stage, "decoder.conv_out", x, norm=norm, silu=True, output=rgb)
            finish_decode(stage, scale=scale)

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
            self._weight(f"{name}.{which}", (channels,), Recipe(COMPONENT, (f"{name}.{source}",)))
            for which, source in (("gain", "weight"), ("bias", "bias"))
        )
        norm = areas.Norm(gain, bias, channels, self._groups, _EPS)
        return self._area.norm(stage, x, norm, self._level)

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
        state: str | None = None,
        exact: bool = False,
    ) -> str:
        """The picture after a convolution: `output`, a state of this name, or an inner tensor.

        exact: that is f32, whatever pictures of its level are.
        """
        channels_out, channels_in, kernel, _ = self._tensors.shape(f"{name}.weight")
        padded = -(-channels_out // 4) * 4  # RGB gets a fourth channel of zeros
        taps = (padded, kernel, kernel, channels_in)
        weight, bias = self._weights(name, [name], taps, taps_last=True)
        rows, columns = self._area.rows(self._level), f"W * {2**self._level}"
        self._level += upsample - 1
        if output is None:
            shape = self._area.rows(self._level), f"W * {2**self._level}", padded
            stored = "f32" if exact else self._picture_type()
            role: Role = "state" if state else "inner"
            output = stage.tensor(state or "picture", shape, role, stored)
        kernels.conv2d(
            stage,
            x,
            weight,
            bias,
            output,
            rows=rows,
            columns=columns,
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
        return (
            self._weight(
                name, shape, Recipe(COMPONENT, weights, rows=shape[0], taps_last=taps_last)
            ),
            self._weight(f"{name}.bias", (shape[0],), Recipe(COMPONENT, biases, rows=shape[0])),
        )

    def _weight(self, name: str, shape: tuple[int, ...], recipe: Recipe) -> str:
        """A weight of the plan, declared by the first stage that needs it."""
        full = f"vae.{name}"
        if full in self._plan.weights:
            return full
        return self._plan.weight(full, shape, recipe)

    def _channels(self, name: str) -> int:
        return self._tensors.shape(name)[0]
