"""From a finished latent to RGB: the decoder halves of PRX's two kinds of VAE.

- AutoencoderKL (Flux): written here. Source: diffusers' models/autoencoders/vae.py.
- AutoencoderDC: diffusers' own module; it is imported only when a folder needs it.
"""

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (its usual name)

from diffusion.model_folder import ModelFolderError, read_vae_config
from diffusion.torch_parts.weights import Part, load_weights

_EPS = 1e-6


class Decoder(Protocol):
    def decode(self, latent: Tensor) -> Tensor:
        """Latent [C, h, w] as the transformer sees it -> RGB [3, H, W], about -1..1."""


def load_decoder(folder: Path, device: torch.device, dtype: torch.dtype) -> Decoder:
    """The decoder of `folder`. Raises ModelFolderError for a VAE that cannot be run."""
    config = read_vae_config(folder)
    if config["_class_name"] == "AutoencoderDC":
        return _DeepCompression(folder, config, device, dtype)
    return _KL(folder, config, device, dtype)


class _KL:
    def __init__(
        self, folder: Path, config: dict[str, Any], device: torch.device, dtype: torch.dtype
    ) -> None:
        if set(config["up_block_types"]) != {"UpDecoderBlock2D"} or config["act_fn"] != "silu":
            raise ModelFolderError("vae/config.json: unknown up_block_types or act_fn")
        weights = load_weights(
            folder / "vae",
            "diffusion_pytorch_model",
            device,
            dtype,
            lambda name: name.startswith(("decoder.", "post_quant_conv.")),
        )
        weights = {
            name: tensor.contiguous(memory_format=torch.channels_last)
            if tensor.ndim == 4
            else tensor
            for name, tensor in weights.items()
        }
        self._part = Part(weights, "decoder.")
        self._first = Part(weights, "post_quant_conv.")
        self._groups = int(config["norm_num_groups"])
        self._levels = len(config["block_out_channels"])
        self._resnets = int(config["layers_per_block"]) + 1
        self._scaling = float(config["scaling_factor"])
        self._shift = float(config["shift_factor"] or 0.0)
        self._device, self._dtype = device, dtype

    def decode(self, latent: Tensor) -> Tensor:
        x = (latent / self._scaling + self._shift)[None].to(self._device, self._dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        if self._first.get("weight") is not None:
            x = F.conv2d(x, self._first["weight"], self._first["bias"])
        x = _conv(self._part.under("conv_in"), x)
        middle = self._part.under("mid_block")
        x = self._resnet(middle.under("resnets.0"), x)
        if middle.get("attentions.0.to_q.weight") is not None:
            x = self._attention(middle.under("attentions.0"), x)
        x = self._resnet(middle.under("resnets.1"), x)
        for level in range(self._levels):
            block = self._part.under(f"up_blocks.{level}")
            for number in range(self._resnets):
                x = self._resnet(block.under(f"resnets.{number}"), x)
            if level < self._levels - 1:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
                x = _conv(block.under("upsamplers.0.conv"), x)
        x = F.silu(self._norm(self._part.under("conv_norm_out"), x))
        return _conv(self._part.under("conv_out"), x)[0].float()

    def _resnet(self, part: Part, x: Tensor) -> Tensor:
        inner = _conv(part.under("conv1"), F.silu(self._norm(part.under("norm1"), x)))
        inner = _conv(part.under("conv2"), F.silu(self._norm(part.under("norm2"), inner)))
        if part.get("conv_shortcut.weight") is not None:
            x = F.conv2d(x, part["conv_shortcut.weight"], part["conv_shortcut.bias"])
        return x + inner

    def _attention(self, part: Part, x: Tensor) -> Tensor:
        """One head over all places."""
        channels, rows, columns = x.shape[1:]
        normal = self._norm(part.under("group_norm"), x).flatten(2).transpose(1, 2)  # [1, P, C]
        query, key, value = (
            F.linear(normal, part[f"{name}.weight"], part[f"{name}.bias"])
            for name in ("to_q", "to_k", "to_v")
        )
        mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        mixed = F.linear(mixed, part["to_out.0.weight"], part["to_out.0.bias"])
        return x + mixed.transpose(1, 2).view(1, channels, rows, columns)

    def _norm(self, part: Part, x: Tensor) -> Tensor:
        return F.group_norm(x, self._groups, part["weight"], part["bias"], _EPS)


def _conv(part: Part, x: Tensor) -> Tensor:
    return F.conv2d(x, part["weight"], part["bias"], padding=1)


class _DeepCompression:
    def __init__(
        self, folder: Path, config: dict[str, Any], device: torch.device, dtype: torch.dtype
    ) -> None:
        from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

        vae = AutoencoderDC.from_config(config)
        weights = load_weights(folder / "vae", "diffusion_pytorch_model", device, dtype)
        vae.load_state_dict(weights, assign=True)
        del vae.encoder
        self._vae = vae.eval()
        self._scaling = float(config["scaling_factor"])
        self._device, self._dtype = device, dtype

    def decode(self, latent: Tensor) -> Tensor:
        scaled = (latent / self._scaling)[None].to(self._device, self._dtype)
        rgb: Tensor = self._vae.decode(scaled, return_dict=False)[0]
        return rgb[0].float()
