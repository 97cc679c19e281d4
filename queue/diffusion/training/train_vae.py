"""The autoencoder: scenes at 256 px, L1 + gradient L1 + 2 MSE, a touch of KL."""

from __future__ import annotations

import json
import math
import time

import torch
from diffusers import AutoencoderKL

from .compose import Composer
from .feed import Feed

KL_WEIGHT = 2e-5
WARMUP_STEPS = 200


def reconstruction_loss(decoded: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """L1 + L1 of the differences between neighbours + 2 MSE, over [B, 3, h, w] in -1..1."""
    error = decoded - truth
    across = (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.abs().mean() + across + down + 2 * error.square().mean()


def psnr(decoded: torch.Tensor, truth: torch.Tensor) -> float:
    """Decibels over pixels in -1..1, of the mean squared error over all of them."""
    mse = (decoded.clamp(-1, 1) - truth).square().mean().item() / 4
    return 10 * math.log10(1 / mse)


def train(
    vae: AutoencoderKL,
    feed: Feed,
    composer: Composer,
    *,
    seconds: float,
    side: int,
    peak_lr: float,
    compiled: bool,
) -> None:
    """Train in place for `seconds`, counted from the first finished step."""
    device = composer.device
    on_gpu = device.type == "cuda"
    vae.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(
        vae.parameters(), lr=peak_lr, betas=(0.9, 0.99), weight_decay=0.0, fused=on_gpu
    )

    def loss_of(pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            mean, log_variance = vae.encoder(pixels).chunk(2, 1)
            mean, log_variance = mean.float(), log_variance.float().clamp(-30, 20)
            latent = mean + (0.5 * log_variance).exp() * noise
            decoded = vae.decoder(latent)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss: torch.Tensor = reconstruction_loss(decoded.float(), pixels) + KL_WEIGHT * kl
        return loss

    step_loss = torch.compile(loss_of) if compiled else loss_of
    started = time.monotonic()
    step = 0
    while (passed := (time.monotonic() - started) / seconds) < 1:
        rate = peak_lr * min(1, (step + 1) / WARMUP_STEPS)
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * passed))
        for group in optimiser.param_groups:
            group["lr"] = rate
        pixels = composer.draw(feed.next().plan, side)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        noise = torch.randn(
            len(pixels), vae.config.latent_channels, side // 8, side // 8, device=device
        )
        loss = step_loss(pixels, noise)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if step == 0:
            started = time.monotonic()
        if step % 200 == 0:
            report = {
                "part": "vae",
                "step": step,
                "loss": round(loss.item(), 4),
                "seconds": round(time.monotonic() - started, 1),
            }
            if step % 1000 == 0:
                report["psnr"] = round(evaluate(vae, composer, feed, side, batches=2), 2)
                vae.train()
            print(json.dumps(report), flush=True)  # noqa: T201 - the log of a long run
        step += 1
    vae.eval()
    set_scale(vae, composer, feed, side)


@torch.no_grad()
def evaluate(
    vae: AutoencoderKL, composer: Composer, feed: Feed, side: int, batches: int = 8
) -> float:
    """PSNR in dB of fresh scenes, decoded from the mean latent, in f32."""
    vae.eval()
    values = []
    for _ in range(batches):
        pixels = composer.draw(feed.next().plan, side)
        mean = vae.encoder(pixels).chunk(2, 1)[0]
        values.append(psnr(vae.decoder(mean), pixels))
    return sum(values) / len(values)


@torch.no_grad()
def set_scale(vae: AutoencoderKL, composer: Composer, feed: Feed, side: int) -> None:
    """Measure mean and spread of the latents, so that the transformer sees mean 0, spread 1."""
    latents = torch.cat(
        [vae.encoder(composer.draw(feed.next().plan, side)).chunk(2, 1)[0] for _ in range(8)]
    )
    vae.register_to_config(
        scaling_factor=round(1 / latents.std().item(), 5),
        shift_factor=round(latents.mean().item(), 5),
    )
