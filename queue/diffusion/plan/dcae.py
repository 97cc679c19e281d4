"""The decoder of an AutoencoderDC, 32 times smaller and more, as a stage of a plan: `decode`.

Channels last. Shortcuts around a doubling and into the first convolution repeat channels; they are
written first and the convolution adds to them. The attention is linear in the number of pixels: its
keys and values are summed into a small matrix for each head, in f32 whatever the weights are.
Source: diffusers' models/autoencoders/autoencoder_dc.py, attention_processor.py
(SanaMultiscaleLinearAttention) and transformers/sana_transformer.py (GLUMBConv).

Compiled is what PRX's DC-AE has (f32c32, as trained for Sana), with any sizes and both ways of
doubling. Not batch norm, with which other DC-AEs were trained.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from diffusion.model_folder import ModelFolderError, read_vae_config
from diffusion.plan import dcae_kernels, kernels, tiles
from diffusion.plan.builder import PlanBuilder, Recipe, StageBuilder
from diffusion.plan.decode_stage import begin_decode, begin_picture, finish_decode
from diffusion.plan.weights import FolderTensors

COMPONENT: Final = "vae"
_NORM_EPS: Final = 1e-5
_ATTENTION_EPS: Final = 1e-15
_KNOWN: Final[Mapping[str, set[Any]]] = {
    "in_channels": {3},
    "decoder_block_types": {"ResBlock", "EfficientViTBlock"},
    "upsample_block_type": {"pixel_shuffle", "interpolate"},
    "decoder_norm_types": {"rms_norm"},
    "decoder_act_fns": {"silu"},
    "decoder_conv_act_fn": {"relu"},
}


class DeepCompressionCompiler:
    """Compiles the decoder of a folder. Raises ModelFolderError for one it does not know."""

    def __init__(self, folder: Path, tensors: FolderTensors, plan: PlanBuilder) -> None:
        config = read_vae_config(folder)
        self._plan = plan
        self._tensors = tensors
        self._channels = [int(count) for count in config["decoder_block_out_channels"]]
        self._layers = [int(count) for count in config["decoder_layers_per_block"]]
        self._scales = [len(sizes) for sizes in config["decoder_qkv_multiscales"]]
        self._types = _each(config["decoder_block_types"], len(self._channels))
        self._interpolate = config["upsample_block_type"] == "interpolate"
        self._shortcut_in = bool(config["decoder_in_shortcut"])
        self._head_dim = int(config["attention_head_dim"])
        self._latent = int(config["latent_channels"])
        self._scaling = float(config["scaling_factor"])
        self._check(config)
        self._size = 1  # how many times wider than the latent the picture is so far

    def _check(self, config: dict[str, Any]) -> None:
        for option, known in _KNOWN.items():
            if set(_each(config[option], 1)) - known:
                raise _unknown(option, config[option])
        levels = len(self._channels)
        for option in ("layers_per_block", "qkv_multiscales", "block_types"):
            if len(_each(config[f"decoder_{option}"], levels)) != levels:
                raise _unknown(f"decoder_{option}", config[f"decoder_{option}"])
        if not all(self._layers[1:]):  # without layers a level does not double the picture
            raise _unknown("decoder_layers_per_block", self._layers)
        for option in ("latent_channels", "attention_head_dim", "decoder_block_out_channels"):
            if any(int(count) % 4 for count in _each(config[option], 1)):
                raise _unknown(option, config[option])

    def compile(self) -> dict[str, Any]:
        """Add the stage; what the host must know of it."""
        last = len(self._channels) - 1
        scale = 2**last
        stage, z = begin_decode(
            self._plan, "decode", channels=self._latent, scaling=self._scaling, shift=0.0
        )
        begin_picture(stage, scale=scale)
        x = self._first(stage, z)
        for level in range(last, -1, -1):
            for number in range(self._blocks(level)):
                name = f"decoder.up_blocks.{level}.{number}"
                if level < last and number == 0:
                    x = self._doubled(stage, name, x, self._channels[level], shortcut=True)
                elif self._types[level] == "ResBlock":
                    self._res_block(stage, name, x)
                else:
                    self._attention(stage, f"{name}.attn", x, self._scales[level])
                    self._gated_block(stage, f"{name}.conv_out", x)
        channels = self._tensors.shape("decoder.norm_out.weight")[0]
        normal = stage.tensor("normal", self._shape(channels))
        self._norm(stage, "decoder.norm_out", x, normal, relu=True)
        if self._layers[0]:
            self._conv(stage, "decoder.conv_out", normal, output="rgb")
        else:
            self._doubled(stage, "decoder.conv_out", normal, 4, shortcut=False, output="rgb")
        finish_decode(stage, scale=scale)
        return {"scale": scale}

    def _blocks(self, level: int) -> int:
        """Of a level, the one that doubles included; the outermost level may be the last layer."""
        if level == len(self._channels) - 1 or not self._layers[level]:
            return self._layers[level]
        return self._layers[level] + 1

    def _first(self, stage: StageBuilder, z: str) -> str:
        channels = self._channels[-1]
        if not self._shortcut_in:
            return self._conv(stage, "decoder.conv_in", z)
        x = stage.tensor("picture", self._shape(channels))
        self._repeat(stage, z, x, self._latent, channels)
        return self._conv(stage, "decoder.conv_in", z, output=x, add=True)

    def _doubled(
        self,
        stage: StageBuilder,
        name: str,
        x: str,
        channels: int,
        *,
        shortcut: bool,
        output: str | None = None,
    ) -> str:
        """A picture of twice the sides and of `channels`, of which a fourth colour is zeros."""
        wide, channels_in = self._tensors.shape(f"{name}.conv.weight")[:2]
        if output is None:
            output = stage.tensor("picture", self._shape(channels, self._size * 2))
        if self._interpolate:
            if shortcut:
                self._repeat(stage, x, output, channels_in, channels, factor=2)
            self._conv(stage, f"{name}.conv", x, upsample=2, output=output, add=shortcut)
        else:
            wide = max(wide, 4 * channels)
            parts = stage.tensor("parts", self._shape(wide))
            if shortcut:
                self._repeat(stage, x, parts, channels_in, wide)
            self._conv(stage, f"{name}.conv", x, output=parts, add=shortcut, rows=wide)
            self._repeat(stage, parts, output, wide, channels, factor=2)
        self._size *= 2
        return output

    def _res_block(self, stage: StageBuilder, name: str, x: str) -> None:
        """Added to `x`."""
        inner = self._conv(stage, f"{name}.conv1", x)
        inner = self._conv(stage, f"{name}.conv2", inner, silu=True)
        self._norm(stage, f"{name}.norm", inner, x, add=True)

    def _attention(self, stage: StageBuilder, name: str, x: str, scales: int) -> None:
        """Added to `x`: heads over the projections, then over what convolutions make of them."""
        inner, channels = self._tensors.shape(f"{name}.to_q.weight")
        heads, pixels = inner // self._head_dim, self._pixels()
        parts = [f"{name}.to_{which}" for which in "qkv"]
        qkv = stage.tensor("qkv", (pixels, 3 * inner))
        self._product(stage, f"{name}.qkv", parts, x, qkv, (3 * inner, channels))
        mixed = stage.tensor("mixed", (pixels, (1 + scales) * inner))
        for scale in range(1 + scales):
            seen = qkv if scale == 0 else self._gathered(stage, name, qkv, scale - 1)
            # torch cuts the channels of q, k and v together into heads of three parts each
            dcae_kernels.linear_attention(
                stage,
                seen,
                mixed,
                pixels=pixels,
                heads=heads,
                head_dim=self._head_dim,
                eps=_ATTENTION_EPS,
                row_width=(1 + scales) * inner,
                row_offset=scale * inner,
            )
        out = stage.tensor("out", (pixels, channels))
        shape = (channels, (1 + scales) * inner)
        self._product(stage, f"{name}.to_out", [f"{name}.to_out"], mixed, out, shape)
        self._norm(stage, f"{name}.norm_out", out, x, add=True)

    def _gathered(self, stage: StageBuilder, name: str, qkv: str, number: int) -> str:
        """Queries, keys and values of one scale: each sees its surroundings."""
        name = f"{name}.to_qkv_multiscale.{number}"
        channels = self._tensors.shape(f"{name}.proj_in.weight")[0]
        around, gathered = (
            stage.tensor(each, (self._pixels(), channels)) for each in ("around", "gathered")
        )
        self._depthwise(stage, f"{name}.proj_in", f"{name}.proj_in", qkv, around)
        weight = self._plan.weight(
            f"vae.{name}.proj_out",
            (channels, self._head_dim),
            Recipe(COMPONENT, (f"{name}.proj_out.weight",)),
        )
        dcae_kernels.grouped_matmul(
            stage,
            around,
            weight,
            gathered,
            rows=self._pixels(),
            columns=channels,
            width=self._head_dim,
        )
        return gathered

    def _gated_block(self, stage: StageBuilder, name: str, x: str) -> None:
        """Added to `x`. Its weights are named anew: `conv_out` is the name of a last layer."""
        plan_name = name.replace("conv_out", "glu")
        wide, channels = self._tensors.shape(f"{name}.conv_inverted.weight")[:2]
        inner = stage.tensor("inner", (self._pixels(), wide))
        gated = stage.tensor("gated", (self._pixels(), wide // 2))
        out = stage.tensor("out", (self._pixels(), channels))
        inverted, depth, point = (f"{name}.conv_{part}" for part in ("inverted", "depth", "point"))
        shape = (wide, channels)
        self._product(stage, f"{plan_name}.inverted", [inverted], x, inner, shape, silu=True)
        self._depthwise(stage, f"{plan_name}.depth", depth, inner, gated, gated=True)
        shape = (channels, wide // 2)
        self._product(stage, f"{plan_name}.point", [point], gated, out, shape)
        self._norm(stage, f"{name}.norm", out, x, plan_name=f"{plan_name}.norm", add=True)

    def _conv(
        self,
        stage: StageBuilder,
        name: str,
        x: str,
        *,
        upsample: int = 1,
        silu: bool = False,
        output: str | None = None,
        add: bool = False,
        rows: int = 0,
    ) -> str:
        """rows: channels of the output, by default a multiple of 4; zeros beyond the weight's."""
        channels_out, channels_in, kernel, _ = self._tensors.shape(f"{name}.weight")
        rows = rows or -(-channels_out // 4) * 4
        weight = self._plan.weight(
            f"vae.{name}",
            (rows, kernel, kernel, channels_in),
            Recipe(COMPONENT, (f"{name}.weight",), rows=rows, taps_last=True),
        )
        if output is None:
            output = stage.tensor("picture", self._shape(rows))
        kernels.conv2d(
            stage,
            x,
            weight,
            self._bias(name, name, rows),
            output,
            rows=f"H * {self._size}",
            columns=f"W * {self._size}",
            channels_in=channels_in,
            channels_out=rows,
            kernel=kernel,
            upsample=upsample,
            silu=silu,
            add=add,
            tile=tiles.picture_tile(rows),
        )
        return output

    def _product(
        self,
        stage: StageBuilder,
        plan_name: str,
        sources: list[str],
        x: str,
        output: str,
        shape: tuple[int, int],
        *,
        silu: bool = False,
    ) -> None:
        """shape: of the weight, in which those of the sources lie one after the other."""
        columns, inner = shape
        weights = tuple(f"{source}.weight" for source in sources)
        weight = self._plan.weight(f"vae.{plan_name}", shape, Recipe(COMPONENT, weights))
        kernels.matmul(
            stage,
            x,
            weight,
            output,
            rows=self._pixels(),
            columns=columns,
            inner=inner,
            bias=self._bias(plan_name, sources[0], columns),
            silu=silu,
            tile=tiles.picture_tile(columns),
        )

    def _depthwise(
        self,
        stage: StageBuilder,
        plan_name: str,
        source: str,
        x: str,
        output: str,
        *,
        gated: bool = False,
    ) -> None:
        channels, _, kernel, _ = self._tensors.shape(f"{source}.weight")
        taps = self._plan.weight(
            f"vae.{plan_name}.taps",
            (kernel * kernel * channels,),
            Recipe(COMPONENT, (f"{source}.weight",), depthwise=True),
        )
        dcae_kernels.depthwise_conv2d(
            stage,
            x,
            taps,
            output,
            rows=f"H * {self._size}",
            columns=f"W * {self._size}",
            channels=channels,
            kernel=kernel,
            bias=self._bias(plan_name, source, channels),
            gated=gated,
        )

    def _norm(
        self,
        stage: StageBuilder,
        name: str,
        x: str,
        output: str,
        *,
        plan_name: str | None = None,
        relu: bool = False,
        add: bool = False,
    ) -> None:
        plan_name = plan_name or name
        channels = self._tensors.shape(f"{name}.weight")[0]
        kernels.rms_norm(
            stage,
            x,
            self._vector(f"{plan_name}.gain", f"{name}.weight", channels),
            output,
            rows=self._pixels(),
            width=channels,
            eps=_NORM_EPS,
            plus=0,
            bias=self._vector(f"{plan_name}.bias", f"{name}.bias", channels),
            relu=relu,
            add=add,
        )

    def _repeat(
        self,
        stage: StageBuilder,
        x: str,
        output: str,
        channels_in: int,
        channels_out: int,
        *,
        factor: int = 1,
    ) -> None:
        """Each channel as often as the output has room for; raises ModelFolderError for a part."""
        repeats, rest = divmod(channels_out * factor**2, channels_in)
        if rest or not repeats:
            raise _unknown("decoder_block_out_channels", self._channels)
        dcae_kernels.pixel_shuffle(
            stage,
            x,
            output,
            rows=f"H * {self._size}",
            columns=f"W * {self._size}",
            channels_in=channels_in,
            channels_out=channels_out,
            factor=factor,
            repeats=repeats,
        )

    def _bias(self, plan_name: str, source: str, length: int) -> str | None:
        """Some layers have none."""
        if f"{source}.bias" not in self._tensors:
            return None
        return self._vector(f"{plan_name}.bias", f"{source}.bias", length)

    def _vector(self, name: str, source: str, length: int) -> str:
        return self._plan.weight(
            f"vae.{name}", (length,), Recipe(COMPONENT, (source,), rows=length)
        )

    def _shape(self, channels: int, size: int = 0) -> tuple[str, str, int]:
        size = size or self._size
        return f"H * {size}", f"W * {size}", channels

    def _pixels(self) -> str:
        return f"H * {self._size} * W * {self._size}"


def _each(value: Any, levels: int) -> list[Any]:
    """An option that is given once for all levels, or in a list."""
    return list(value) if isinstance(value, list) else [value] * levels


def _unknown(option: str, value: object) -> ModelFolderError:
    return ModelFolderError(f"vae/config.json: {option} {value} has no compiler")
