"""Transformer and text encoder together: flow matching on latents of fresh scenes.

- Encoding a scene costs as much as training on it, so latents go through a pool: a part of it is
  replaced every step, and every latent is trained on a few times, each time with new noise.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, PRXTransformer2DModel
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from . import attention
from .attention import Attention
from .compose import Composer
from .feed import TEXT_TOKENS, Feed
from .muon import Muon

EMPTY_CAPTIONS = 0.1
EMA = 0.9995
REUSE = 4
MASKED = torch.finfo(torch.bfloat16).min
LEAST_STEPS = 4  # of a phase, however short its time


@dataclass(frozen=True)
class Size:
    """Pictures of one size. `shift` moves the timesteps towards noise."""

    side: int
    batch: int
    shift: float


@dataclass(frozen=True)
class Phase:
    """A stretch of training. Its sizes take turns, one a step; `share` of the whole time.

    What is trained at one size only forgets the others within minutes, so the last phase has to
    name every size that the model shall draw.
    """

    sizes: tuple[Size, ...]
    share: float


def text_mask(lengths: torch.Tensor) -> torch.Tensor:
    """True where there is a token: bool [B, TEXT_TOKENS]."""
    return torch.arange(TEXT_TOKENS, device=lengths.device)[None] < lengths[:, None]


def encode_text(encoder: T5GemmaEncoder, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Features [B, TEXT_TOKENS, hidden]. The 4-D mask is given ready made, one for all layers."""
    additive = torch.zeros(mask.shape, device=mask.device, dtype=torch.float32)
    additive = additive.masked_fill(~mask, MASKED)[:, None, None, :]
    masks = {"full_attention": additive, "sliding_attention": additive}
    features: torch.Tensor = encoder(input_ids=ids, attention_mask=masks).last_hidden_state
    return features


class LatentPool:
    """Latents of one size with their captions, refreshed little by little."""

    def __init__(
        self, vae: AutoencoderKL, composer: Composer, feed: Feed, side: int, capacity: int
    ) -> None:
        self._vae, self._composer, self._feed, self._side = vae, composer, feed, side
        device = composer.device
        cells = side // 8
        self._latents = torch.empty(
            capacity, vae.config.latent_channels, cells, cells, device=device, dtype=torch.bfloat16
        )
        self._ids = torch.zeros(capacity, TEXT_TOKENS, dtype=torch.long, device=device)
        self._lengths = torch.zeros(capacity, dtype=torch.long, device=device)
        self._filled = 0
        self._next = 0
        self._due = 0.0

    def keep_up(self, latents: float) -> None:
        """Make at least so many new ones, counted over all calls."""
        self._due += latents
        while self._due > 0:
            self._due -= self._refresh()

    @torch.no_grad()
    def _refresh(self) -> int:
        """Replace the oldest latents by a batch of new ones; how many."""
        batch = self._feed.next()
        pixels = self._composer.draw(batch.plan, self._side)
        gpu = pixels.device.type == "cuda"
        config = self._vae.config
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=gpu):
            packed = pixels.contiguous(memory_format=torch.channels_last)
            mean = self._vae.encoder(packed).chunk(2, 1)[0]
        latents = (mean.float() - config.shift_factor) * config.scaling_factor
        count, capacity = len(latents), len(self._latents)
        where = (torch.arange(count, device=pixels.device) + self._next) % capacity
        self._latents[where] = latents.to(self._latents.dtype)
        self._ids[where] = torch.from_numpy(batch.ids).to(pixels.device)
        self._lengths[where] = torch.from_numpy(batch.lengths).to(pixels.device)
        self._next = (self._next + count) % capacity
        self._filled = min(capacity, self._filled + count)
        return count

    def sample(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents f32 [size, C, h, w], ids and lengths, drawn at random."""
        rows = torch.randint(self._filled, (size,), device=self._latents.device)
        return self._latents[rows].float(), self._ids[rows], self._lengths[rows]


def optimisers(
    transformer: PRXTransformer2DModel, encoder: T5GemmaEncoder, lr: float, *, muon: bool
) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices; AdamW for the modulation, what goes in and what comes out."""
    inner: list[torch.nn.Parameter] = []
    outer: list[torch.nn.Parameter] = []
    for prefix, module in (("blocks.", transformer), ("layers.", encoder)):
        for name, parameter in module.named_parameters():
            matrix = parameter.ndim == 2 and name.startswith(prefix) and "modulation" not in name
            (inner if matrix and muon else outer).append(parameter)
    fused = outer[0].device.type == "cuda"
    adamw = torch.optim.AdamW(outer, lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=fused)
    return [adamw, Muon(inner, lr=lr)] if inner else [adamw]


def learning_rate(peak: float, step: int, passed: float, warmup: int, decay_from: float) -> float:
    """Warm up over steps, hold, then fall in a line to 3 % over the rest of the time."""
    fall = 1.0 if passed < decay_from else (1 - passed) / (1 - decay_from)
    return peak * min(1.0, (step + 1) / warmup) * max(0.03, fall)


def swap(trained: list[torch.nn.Parameter], averaged: list[torch.Tensor]) -> None:
    """Exchange the weights in training for their averages, and back."""
    for parameter, mean in zip(trained, averaged, strict=True):
        parameter.data, mean.data = mean.data, parameter.data


def train(
    transformer: PRXTransformer2DModel,
    encoder: T5GemmaEncoder,
    vae: AutoencoderKL,
    feed: Feed,
    composer: Composer,
    phases: list[Phase],
    *,
    seconds: float,
    peak_lr: float,
    compiled: bool,
    muon: bool,
    pool: int,
    decay_from: float = 0.6,
    warmup: int = 300,
) -> Iterator[dict[str, Any]]:
    """Train in place; yields a report every 200 steps, so that the caller may save or stop.

    The averaged (EMA) weights are in place whenever the caller has its turn, and at the end.

    `pool`: capacity in latents at 128 px; a quarter of it at 256 px.
    """
    device = composer.device
    gpu = device.type == "cuda"
    for module in (transformer, encoder, vae):
        module.to(device)
    vae.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    transformer.train()
    encoder.train()
    trained = [*transformer.parameters(), *encoder.parameters()]
    averaged = [parameter.detach().clone() for parameter in trained]
    methods = optimisers(transformer, encoder, peak_lr, muon=muon)

    def loss_of(
        clean: torch.Tensor,
        noise: torch.Tensor,
        t: torch.Tensor,
        ids: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        weight = t[:, None, None, None]
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            mask = text_mask(lengths)
            velocity = transformer(
                hidden_states=torch.lerp(clean, noise, weight),
                timestep=t,
                encoder_hidden_states=encode_text(encoder, ids, mask),
                attention_mask=mask,
                return_dict=False,
            )[0]
        error: torch.Tensor = velocity.float() - (noise - clean)
        return error.square().mean()

    if compiled:
        # Block by block: the twelve share one compiled graph, which takes seconds, where the
        # whole took more than a minute; and again for each size, so sizes stay constants.
        for block in (*transformer.blocks, *encoder.layers):
            block.compile(dynamic=False)
    began = time.monotonic()
    step = images = 0
    spent = 0.0
    pools: dict[Size, LatentPool] = {}
    attentions: dict[Size, Attention] = {}
    for phase in phases:
        for size in phase.sizes:
            if size in pools:
                continue
            capacity = max(64, pool * 128**2 // size.side**2)
            pools[size] = LatentPool(vae, composer, feed, size.side, capacity)
            pools[size].keep_up(2 * size.batch)
            tokens = (size.side // 16) ** 2
            attentions[size] = (
                attention.choose(transformer, size.batch, tokens, TEXT_TOKENS)
                if gpu
                else attention.FUSED
            )
        until = spent + phase.share
        phase_step = 0
        running = torch.zeros((), device=device)
        while (passed := (time.monotonic() - began) / seconds) < until or phase_step < LEAST_STEPS:
            size = phase.sizes[phase_step % len(phase.sizes)]
            phase_step += 1
            transformer.set_attn_processor(attentions[size])
            pools[size].keep_up(size.batch / REUSE)
            clean, ids, lengths = pools[size].sample(size.batch)
            t = torch.randn(size.batch, device=device).sigmoid()
            t = size.shift * t / (1 + (size.shift - 1) * t)
            empty = torch.rand(size.batch, device=device) < EMPTY_CAPTIONS
            noise = torch.randn_like(clean)
            loss = loss_of(clean, noise, t, ids, lengths.masked_fill(empty, 0))
            for method in methods:
                method.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            rate = learning_rate(peak_lr, step, passed, warmup, decay_from)
            for method in methods:
                for group in method.param_groups:
                    group["lr"] = rate
                method.step()
            # Early on, an average over 2,000 steps would still be the start.
            keep = min(EMA, (step + 1) / (step + 10))
            torch._foreach_lerp_(averaged, trained, 1 - keep)
            running = running + loss.detach()
            step += 1
            images += size.batch
            if phase_step % 200 == 0:
                report = {
                    "step": step,
                    "sides": sorted({size.side for size in phase.sizes}),
                    "images": images,
                    "loss": round(running.item() / 200, 5),
                    "seconds": round(time.monotonic() - began, 1),
                }
                running = torch.zeros((), device=device)
                print(json.dumps({"part": "transformer", **report}), flush=True)  # noqa: T201
                swap(trained, averaged)
                yield report
                swap(trained, averaged)
        spent = until
    swap(trained, averaged)
    transformer.eval()
    encoder.eval()
