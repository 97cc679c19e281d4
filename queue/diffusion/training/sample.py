"""Pictures for many captions at once, from the parts of a model; what evaluation looks at."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from diffusers import AutoencoderKL, PRXTransformer2DModel
from tokenizers import Tokenizer
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from diffusion.model_folder import ModelFolder, read_model_folder
from diffusion.schedule import ScheduleConfig, read_schedule_config

from .feed import tokenise
from .shapes import load_parts
from .train_transformer import encode_text, text_mask

Drawing: TypeAlias = tuple[T5GemmaEncoder, PRXTransformer2DModel, AutoencoderKL]


@dataclass(frozen=True)
class Loaded:
    """A model folder, ready to draw with; its own defaults are in `folder` and `shift`."""

    folder: ModelFolder
    parts: Drawing
    tokenizer: Tokenizer
    shift: float


def load(path: Path, device: str) -> Loaded:
    """Read a model folder onto a device, in f32."""
    encoder, transformer, vae = load_parts(path)
    for part in (encoder, transformer, vae):
        part.to(device).eval()
    tokenizer = Tokenizer.from_file(str(path / "tokenizer" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    shift = read_schedule_config(path).shift
    return Loaded(read_model_folder(path), (encoder, transformer, vae), tokenizer, shift)


@torch.no_grad()
def draw(
    parts: Drawing,
    tokenizer: Tokenizer,
    captions: list[str],
    *,
    side: int,
    steps: int,
    guidance: float,
    shift: float,
    seed: int,
    batch: int = 64,
) -> torch.Tensor:
    """Pixels in -1..1, f32 [captions, 3, side, side] on the CPU."""
    encoder, transformer, vae = parts
    device = next(transformer.parameters()).device
    generator = torch.Generator("cpu").manual_seed(seed)
    levels = ScheduleConfig(shift).schedule(steps).sigmas.tolist()
    pictures = []
    for start in range(0, len(captions), batch):
        some = captions[start : start + batch]
        ids, lengths = (torch.from_numpy(part).to(device) for part in tokenise(tokenizer, some))
        ids = torch.cat([torch.zeros_like(ids), ids])
        mask = text_mask(torch.cat([torch.zeros_like(lengths), lengths]))
        features = encode_text(encoder, ids, mask)
        shape = (len(some), vae.config.latent_channels, side // 8, side // 8)
        latent = torch.randn(shape, generator=generator).to(device)
        for level, following in itertools.pairwise(levels):
            velocity = transformer(
                hidden_states=torch.cat([latent, latent]),
                timestep=torch.full((2 * len(some),), level, device=device),
                encoder_hidden_states=features,
                attention_mask=mask,
                return_dict=False,
            )[0]
            without, with_text = velocity.chunk(2)
            latent = latent + (following - level) * (without + guidance * (with_text - without))
        decoded = vae.decoder(latent / vae.config.scaling_factor + vae.config.shift_factor)
        pictures.append(decoded.clamp(-1, 1).float().cpu())
    return torch.cat(pictures)
