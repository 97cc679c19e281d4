"""Attention for training on many short sequences.

With 64 image tokens a picture, the fused kernels that make long attention cheap spend their time
starting: whether plain matrix products are quicker depends on the card, so `choose` measures.
"""

from __future__ import annotations

import time
from typing import Any, TypeAlias

import torch
from diffusers import PRXTransformer2DModel
from diffusers.models.transformers.transformer_prx import (
    PRXAttention,
    PRXAttnProcessor2_0,
    PRXBlock,
    apply_rope,
)

TRIALS = 12


class PlainAttention:
    """The same attention as diffusers' processor, with its scores kept in memory."""

    def __call__(
        self,
        attn: PRXAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        image_rotary_emb: torch.Tensor,
        **_: object,
    ) -> torch.Tensor:
        """Image tokens [B, L, D] attend to text [B, T, D] (mask bool [B, T]) and to each other."""

        def heads(projected: torch.Tensor, parts: int) -> tuple[torch.Tensor, ...]:
            batch, length, _ = projected.shape
            split = projected.reshape(batch, length, parts, attn.heads, attn.head_dim)
            return split.permute(2, 0, 3, 1, 4).unbind(0)

        query, key, value = heads(attn.img_qkv_proj(hidden_states), 3)
        text_key, text_value = heads(attn.txt_kv_proj(encoder_hidden_states), 2)
        query = apply_rope(attn.norm_q(query), image_rotary_emb)
        key = apply_rope(attn.norm_k(key), image_rotary_emb)
        key = torch.cat([attn.norm_added_k(text_key), key], 2)
        value = torch.cat([text_value, value], 2)
        scores = (query @ key.mT).float() * attn.head_dim**-0.5
        length = attention_mask.shape[1]
        text = scores[..., :length].masked_fill(
            ~attention_mask[:, None, None, :], torch.finfo(torch.float32).min
        )
        weights = torch.cat([text, scores[..., length:]], -1).softmax(-1).to(value.dtype)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        out: torch.Tensor = attn.to_out[0](mixed)
        return out


Attention: TypeAlias = Any  # diffusers' attention processors share no type
FUSED = PRXAttnProcessor2_0()


def choose(transformer: PRXTransformer2DModel, batch: int, tokens: int, text: int) -> Attention:
    """The quicker attention for `batch` pictures of `tokens` tokens on this device.

    Measured with one block as it is, compiled or not, forwards and backwards, in bf16.
    """
    seconds: dict[Attention, float] = {}
    for processor in (FUSED, PlainAttention()):
        transformer.set_attn_processor(processor)
        seconds[processor] = _time(transformer.blocks[0], batch, tokens, text)
    return min(seconds, key=lambda processor: seconds[processor])


def _time(block: PRXBlock, batch: int, tokens: int, text: int) -> float:
    device = next(block.parameters()).device
    hidden = torch.randn(batch, tokens, block.hidden_size, device=device, requires_grad=True)
    words = torch.randn(batch, text, block.hidden_size, device=device, requires_grad=True)
    mask = torch.rand(batch, text, device=device) < 0.5
    time_embedding = torch.randn(batch, block.hidden_size, device=device)
    rotation = torch.randn(batch, 1, tokens, block.head_dim // 2, 2, 2, device=device)
    began = 0.0
    for trial in range(2 * TRIALS):
        if trial == TRIALS:
            _finish(device)
            began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out = block(
                hidden_states=hidden,
                encoder_hidden_states=words,
                temb=time_embedding,
                image_rotary_emb=rotation,
                attention_mask=mask,
            )
            loss = out.float().square().mean()
        torch.autograd.backward(loss)
    _finish(device)
    block.zero_grad(set_to_none=True)
    return (time.perf_counter() - began) / TRIALS


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
