"""T5Gemma's encoder: token ids to features, both directions, no padding.

Source: transformers' models/t5gemma/modeling_t5gemma.py, whose `last_hidden_state` it gives.
Shapes: T tokens, D features, H heads and K key-value heads of d features.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (its usual name)

from diffusion.model_folder import ModelFolderError, read_json
from diffusion.torch_parts.weights import Part, load_weights

_THETA = 10000.0


class TextEncoder:
    """f: token ids [T] -> features [T, D]."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        config = _encoder_config(folder)
        weights = load_weights(
            folder / "text_encoder", "model", device, dtype, lambda name: "decoder." not in name
        )
        # Saved alone, the names start at the encoder; saved with a decoder, below "model.encoder."
        whole = any(name.startswith("model.encoder.") for name in weights)
        self._part = Part(weights, "model.encoder." if whole else "")
        self._heads = int(config["num_attention_heads"])
        self._kv_heads = int(config["num_key_value_heads"])
        self._head_dim = int(config["head_dim"])
        self._eps = float(config.get("rms_norm_eps", 1e-6))
        self._scale = float(config["query_pre_attn_scalar"]) ** -0.5
        self._soft_cap = config.get("attn_logit_softcapping", 50.0)
        self._window = config.get("sliding_window")
        self._layers = [
            self._part.under(f"layers.{number}") for number in range(config["num_hidden_layers"])
        ]
        self._embedding = self._part["embed_tokens.weight"]  # [vocabulary, D]
        rope = config.get("rope_parameters") or {}
        theta = float(rope.get("rope_theta", config.get("rope_theta", _THETA)))
        half = torch.arange(0, self._head_dim, 2, dtype=torch.float32) / self._head_dim
        self._speeds = (1.0 / theta**half).to(device)  # [d / 2]

    def encode(self, ids: Sequence[int]) -> Tensor:
        """Features [T, D] of `ids`; no token gives [0, D]."""
        device, dtype = self._embedding.device, self._embedding.dtype
        if not ids:
            return self._embedding.new_zeros(0, self._embedding.shape[1])
        if self._window is not None and len(ids) >= self._window:
            raise ValueError(f"{len(ids)} tokens do not fit the window of {self._window}")
        hidden = self._embedding[torch.tensor(ids, device=device)]
        hidden = hidden * torch.tensor(hidden.shape[1] ** 0.5, dtype=dtype, device=device)
        angles = torch.arange(len(ids), device=device).float()[:, None] * self._speeds
        turn = angles.cos().to(dtype), angles.sin().to(dtype)
        for layer in self._layers:
            mixed = self._attention(layer, self._norm(layer, "pre_self_attn", hidden), turn)
            hidden = hidden + self._norm(layer, "post_self_attn", mixed)
            normal = self._norm(layer, "pre_feedforward", hidden)
            inner = F.gelu(F.linear(normal, layer["mlp.gate_proj.weight"]), approximate="tanh")
            inner = inner * F.linear(normal, layer["mlp.up_proj.weight"])
            inner = F.linear(inner, layer["mlp.down_proj.weight"])
            hidden = hidden + self._norm(layer, "post_feedforward", inner)
        return self._rms_norm(hidden, self._part["norm.weight"])

    def _norm(self, layer: Part, which: str, x: Tensor) -> Tensor:
        return self._rms_norm(x, layer[f"{which}_layernorm.weight"])

    def _rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        # The stored weight is a difference from 1.
        normal = F.rms_norm(x.float(), weight.shape, 1 + weight.float(), self._eps)
        return normal.type_as(x)

    def _attention(self, layer: Part, hidden: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        attention = layer.under("self_attn")

        def heads(name: str) -> Tensor:  # [T, D] -> [heads, T, d]
            projected = F.linear(hidden, attention[f"{name}.weight"], attention.get(f"{name}.bias"))
            return projected.view(len(hidden), -1, self._head_dim).transpose(0, 1)

        query, key = _rotate(heads("q_proj"), turn), _rotate(heads("k_proj"), turn)
        value = heads("v_proj")
        shared = self._heads // self._kv_heads
        key, value = key.repeat_interleave(shared, dim=0), value.repeat_interleave(shared, dim=0)
        logits = query @ key.transpose(1, 2) * self._scale
        if self._soft_cap is not None:
            logits = self._soft_cap * torch.tanh(logits / self._soft_cap)
        mixed = logits.softmax(dim=-1, dtype=torch.float32).to(value.dtype) @ value
        joint = mixed.transpose(0, 1).reshape(len(hidden), -1)
        return F.linear(joint, attention["o_proj.weight"], attention.get("o_proj.bias"))


def _rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """[heads, T, d]: feature i of the first half and feature i of the second make a pair."""
    cosine, sine = turn
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _encoder_config(folder: Path) -> dict[str, Any]:
    """The encoder's part of text_encoder/config.json, whether nested or flat."""
    config = read_json(folder / "text_encoder" / "config.json")
    encoder: dict[str, Any] = config.get("encoder", config)
    problems = []
    if encoder.get("hidden_activation", "gelu_pytorch_tanh") != "gelu_pytorch_tanh":
        problems.append(f"hidden_activation {encoder['hidden_activation']}")
    kind = (encoder.get("rope_parameters") or {}).get("rope_type", "default")
    if kind != "default":
        problems.append(f"rope_type {kind}")
    needed = (
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "num_hidden_layers",
        "query_pre_attn_scalar",
    )
    problems += [f"no {key}" for key in needed if key not in encoder]
    if problems:
        raise ModelFolderError(f"text_encoder/config.json: {', '.join(problems)}")
    return encoder
