"""From trained parts to a model folder, and back: the folder is also what training resumes from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, PRXTransformer2DModel
from tokenizers import Tokenizer
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from diffusion import byte_bpe
from diffusion.model_writer import transformers_tokenizer, write_model_folder
from diffusion.preview import fit_preview

from .compose import Composer
from .feed import Feed
from .glyphs import Glyph
from .scenes import (
    COLOURS,
    HORIZONTAL,
    HORIZONTAL_REVERSED,
    VERTICAL,
    VERTICAL_REVERSED,
    ScenePlanner,
)
from .shapes import VOCABULARY, load_parts

# The shift that eight steps look best with, see docs/models/prx-emoji.md.
SHIFT = 2.0
LOG = "training.json"
EXAMPLES = [
    "a rocket above a full moon on a black background",
    "a snowman on a blue background",
    "a slice of pizza left of a cat on a blue background",
    "a unicorn on a pink to purple gradient background",
    "a hamburger below a crown on a cream background",
    "a red apple and a banana and a pear on a white background",
    "an octopus next to a tropical fish on a teal background",
    "a big cactus on an orange background",
]
# What captions say around names, colours and relations.
FRAME_WORDS = [
    "a",
    "an",
    "the",
    "on",
    "in",
    "with",
    "small",
    "big",
    "background",
    "gradient",
    "to",
    "picture",
    "image",
    "drawing",
    "emoji",
    "photo",
    "of",
]


@dataclass
class Parts:
    """The trained parts of one model."""

    text_encoder: T5GemmaEncoder
    transformer: PRXTransformer2DModel
    vae: AutoencoderKL
    tokenizer: Tokenizer
    glyphs: list[Glyph] = field(default_factory=list)


def fresh_tokenizer(glyphs: list[Glyph], visible: np.ndarray, file: Path) -> None:
    """Train the tokenizer on names and captions, and write it."""
    planner = ScenePlanner(glyphs, visible, seed=0)
    texts = [name for glyph in glyphs for name in glyph.names]
    texts += [planner.any_scene().caption for _ in range(20_000)]
    file.parent.mkdir(parents=True, exist_ok=True)
    byte_bpe.train(texts, VOCABULARY).save(str(file))


def export(
    folder: Path, parts: Parts, log: list[dict[str, Any]], composer: Composer, feed: Feed
) -> None:
    """Write the folder: f16 weights, tokenizer, scheduler, preview map and training log."""
    write_model_folder(
        folder,
        parts.transformer,
        parts.vae,
        parts.text_encoder,
        transformers_tokenizer(parts.tokenizer),
        FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT),
        dtype=torch.float16,
    )
    (folder / "preview.json").write_text(json.dumps(preview_map(parts.vae, composer, feed)) + "\n")
    (folder / LOG).write_text(json.dumps(log, indent=1) + "\n")
    if parts.glyphs:
        describe(folder, parts.glyphs, native_side=256)


def describe(folder: Path, glyphs: list[Glyph], native_side: int) -> None:
    """Write what the pages offer: sizes and examples (p2pweb.json), words (vocabulary.json)."""
    about = {
        "title": "PRX-Emoji",
        "default_width": native_side,
        "default_height": native_side,
        "default_steps": 8,
        "default_guidance": 3.0,
        "min_side": 64,
        "max_side": 256,
        "examples": EXAMPLES,
    }
    colours = [*COLOURS, "grey"]
    relations = [*HORIZONTAL, *HORIZONTAL_REVERSED, *VERTICAL, *VERTICAL_REVERSED]
    vocabulary = {
        "names": [name for glyph in glyphs for name in glyph.names],
        "colours": colours,
        "relations": relations,
        "words": FRAME_WORDS,
    }
    for name, content in (("p2pweb.json", about), ("vocabulary.json", vocabulary)):
        text = json.dumps(content, ensure_ascii=False, indent=0)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def read_parts(folder: Path, tokenizer: Tokenizer) -> Parts:
    """What `export` wrote, in f32."""
    return Parts(*load_parts(folder), tokenizer)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """What earlier runs said of themselves, the oldest first."""
    log: list[dict[str, Any]] = json.loads((folder / LOG).read_text())
    return log


@torch.no_grad()
def preview_map(vae: AutoencoderKL, composer: Composer, feed: Feed) -> dict[str, Any]:
    """The linear map from latents, scaled as the transformer sees them, to colours."""
    pixels = composer.draw(feed.next().plan, 256)
    latents = vae.encoder(pixels).chunk(2, 1)[0]
    latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    pictures = ((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    return fit_preview(list(latents.float().cpu().numpy()), list(pictures.cpu().numpy()))
