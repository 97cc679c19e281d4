"""PRX's transformer: predicts the velocity of a noisy latent, given encoded text.

Source: diffusers' models/transformers/transformer_prx.py, whose results it gives. What it does
differently, because PRX allows it:
- The text is never updated, so keys and values of the text are computed once per prompt.
- Shifts, scales and gates depend on the time alone, so a table of them is computed once per
  schedule; they are then applied within the layer norms.
- There is no padding, so there is no mask. Halves of guidance in one batch share the matrix
  products, and attend one by one, since their texts differ in length.

Shapes: N halves, L image tokens, T text tokens, D features, H heads of d features, M of the MLP.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (its usual name)

from diffusion.model_folder import ModelFolderError, read_json
from diffusion.torch_parts.weights import Part, Weights, load_weights

_EPS = 1e-6
_TIME_FEATURES = 256
_UNSUPPORTED = ("bottleneck_size", "resolution_embeds")  # of the pixel-space PRX only

TextKV = list[tuple[Tensor, Tensor]]  # per block: keys and values [H, T, d]


@dataclass(frozen=True)
class Modulation:
    """Per step and block: six vectors [D], scales already as 1 + scale; and the last layer's two.

    blocks: [steps, depth, 6, D] as shift, scale, gate of the attention, then of the MLP.
    last: [steps, 2, D] as shift, scale.
    """

    blocks: Tensor
    last: Tensor


class _Block:
    """The weights of one block, as its forward pass wants them."""

    def __init__(self, part: Part, heads: int) -> None:
        attention = part.under("attention")
        self.qkv = attention["img_qkv_proj.weight"]  # [3 D, D]
        self.text_kv = attention["txt_kv_proj.weight"]  # [2 D, D]
        norms = attention["norm_q.weight"], attention["norm_k.weight"]
        self.norm_qk = torch.stack(norms)[:, None]  # [2, 1, d]
        self.norm_text_k = attention["norm_added_k.weight"]
        self.out = attention["to_out.0.weight"]  # [D, D]
        self.gate = part["gate_proj.weight"]  # [M, D]
        self.up = part["up_proj.weight"]
        self.down = part["down_proj.weight"]  # [D, M]
        self.modulation = part["modulation.lin.weight"], part["modulation.lin.bias"]
        self.heads = heads


class Transformer:
    """f: latent [C, h, w], text, time -> velocity [C, h, w]."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        config = read_json(folder / "transformer" / "config.json")
        for option in _UNSUPPORTED:
            if config.get(option):
                raise ModelFolderError(f"transformer/config.json: {option} is not supported")
        weights = load_weights(folder / "transformer", "diffusion_pytorch_model", device, dtype)
        self._read(config, weights)
        self._device = device
        self._dtype = dtype

    def _read(self, config: Mapping[str, Any], weights: Weights) -> None:
        part = Part(weights)
        self.patch = int(config.get("patch_size", 2))
        self.heads = int(config.get("num_heads", 28))
        self.theta = float(config.get("theta", 10000))
        self.axes: list[int] = config.get("axes_dim") or [32, 32]
        self.time_factor = float(config.get("time_factor", 1000.0))
        self.time_max_period = float(config.get("time_max_period", 10000))
        self.image_in = part["img_in.weight"], part["img_in.bias"]
        self.text_in = part["txt_in.weight"], part["txt_in.bias"]
        self.time_in = [
            (part[f"time_in.{layer}.weight"], part[f"time_in.{layer}.bias"])
            for layer in ("in_layer", "out_layer")
        ]
        self.last_modulation = (
            part["final_layer.adaLN_modulation.1.weight"],
            part["final_layer.adaLN_modulation.1.bias"],
        )
        self.last = part["final_layer.linear.weight"], part["final_layer.linear.bias"]
        self.blocks = [
            _Block(part.under(f"blocks.{number}"), self.heads)
            for number in range(int(config.get("depth", 16)))
        ]
        self.width = self.image_in[0].shape[0]  # D

    def text_kv(self, text: Tensor) -> TextKV:
        """Keys and values of `text` [T, text_dim] for every block."""
        hidden = F.linear(text.to(self._device, self._dtype), *self.text_in)
        result = []
        for block in self.blocks:
            kv = F.linear(hidden, block.text_kv)
            kv = kv.view(len(text), 2, self.heads, len(block.norm_text_k))
            keys, values = kv.permute(1, 2, 0, 3)  # each [H, T, d]
            keys = F.rms_norm(keys, block.norm_text_k.shape, block.norm_text_k, _EPS)
            result.append((keys, values.contiguous()))
        return result

    def modulation(self, times: Tensor) -> Modulation:
        """The table for `times` [steps] in 0..1. The same schedule gives the same bits."""
        half = _TIME_FEATURES // 2
        falling = torch.arange(half, dtype=torch.float32) * (-math.log(self.time_max_period) / half)
        angles = self.time_factor * (times.float()[:, None] * falling.exp())
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).to(self._device, self._dtype)
        first, second = self.time_in
        vector = F.silu(F.linear(F.silu(F.linear(waves, *first)), *second))
        table = torch.stack([F.linear(vector, *block.modulation) for block in self.blocks], dim=1)
        blocks = table.view(len(times), len(self.blocks), 6, self.width)
        last = F.linear(vector, *self.last_modulation).view(len(times), 2, self.width)
        blocks[:, :, [1, 4]] += 1
        last[:, 1] += 1
        return Modulation(blocks, last)

    def rotation(self, rows: int, columns: int) -> Tensor:
        """Complex [rows * columns, d / 2]: how far each pair of features turns at each token.

        The first axis of features turns with the row, the second with the column.
        """
        turns = []
        for size, length, other in ((self.axes[0], rows, 1), (self.axes[1], columns, 0)):
            speed = self.theta ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
            angle = torch.arange(length, dtype=torch.float64)[:, None] * speed
            turn = torch.polar(torch.ones_like(angle), angle)
            turns.append(turn.unsqueeze(other).expand(rows, columns, -1))
        joint = torch.cat(turns, dim=-1).reshape(rows * columns, -1)
        return joint.to(torch.complex64).to(self._device)

    def velocity(
        self,
        latent: Tensor,
        texts: Sequence[TextKV],
        modulation: Modulation,
        step: int,
        rotation: Tensor,
    ) -> Tensor:
        """The velocity of `latent` [C, h, w] for each of the N `texts`: f32 [N, C, h, w]."""
        tokens = F.linear(self._patches(latent), *self.image_in)  # [L, D]
        hidden = tokens.expand(len(texts), -1, -1).contiguous()  # [N, L, D]
        for number, block in enumerate(self.blocks):
            shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.blocks[step, number]
            normal = F.layer_norm(hidden, (self.width,), scale, shift, _EPS)
            mixed = self._attention(block, normal, [text[number] for text in texts], rotation)
            hidden.addcmul_(F.linear(mixed, block.out), gate)
            normal = F.layer_norm(hidden, (self.width,), mlp_scale, mlp_shift, _EPS)
            inner = F.gelu(F.linear(normal, block.gate), approximate="tanh")
            inner.mul_(F.linear(normal, block.up))
            hidden.addcmul_(F.linear(inner, block.down), mlp_gate)
        shift, scale = modulation.last[step]
        patches = F.linear(F.layer_norm(hidden, (self.width,), scale, shift, _EPS), *self.last)
        return self._unpatched(patches.float(), latent.shape)

    def _attention(
        self, block: _Block, hidden: Tensor, texts: list[tuple[Tensor, Tensor]], rotation: Tensor
    ) -> Tensor:
        """[N, L, D] -> [N, L, D]: image tokens look at the text, then at each other."""
        halves, length, width = hidden.shape
        qkv = F.linear(hidden, block.qkv).view(halves, length, 3, self.heads, -1)
        normal = F.rms_norm(qkv[:, :, :2], (qkv.shape[-1],), eps=_EPS) * block.norm_qk
        query, key = _rotate(normal, rotation).unbind(2)
        value = qkv[:, :, 2]
        mixed = torch.empty_like(hidden)
        for half, (text_key, text_value) in enumerate(texts):
            attended = F.scaled_dot_product_attention(
                query[half].transpose(0, 1)[None],
                torch.cat([text_key, key[half].transpose(0, 1)], dim=1)[None],
                torch.cat([text_value, value[half].transpose(0, 1)], dim=1)[None],
            )
            mixed[half] = attended[0].transpose(0, 1).reshape(length, width)
        return mixed

    def _patches(self, latent: Tensor) -> Tensor:
        """[C, h, w] -> [L, C p p], features in the order (channel, row, column)."""
        channels, rows, columns = latent.shape
        size = self.patch
        grid = latent.to(self._dtype).view(channels, rows // size, size, columns // size, size)
        return grid.permute(1, 3, 0, 2, 4).reshape(-1, channels * size * size)

    def _unpatched(self, patches: Tensor, shape: torch.Size) -> Tensor:
        """[N, L, C p p] -> [N, C, h, w]."""
        channels, rows, columns = shape
        size = self.patch
        grid = patches.view(-1, rows // size, columns // size, channels, size, size)
        return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, rows, columns)


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """[N, L, 2, H, d]: adjacent pairs of features as complex numbers, turned by [L, d / 2]."""
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation[:, None, None]).flatten(-2).type_as(x)
