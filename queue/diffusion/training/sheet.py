"""A sheet of sample pictures: `python -m diffusion.training.sheet FOLDER --out samples.webp`.

The upper half are the examples that the page offers, the lower half captions drawn at random, the
first that come: nothing is picked out.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from . import glyphs as glyph_source
from .sample import draw, load
from .scenes import ScenePlanner, visibility

COLUMNS = 4
CELL = 256
MARGIN = 12
CAPTION = 52  # pixels of height for two lines
PAPER, INK = (255, 255, 255), (40, 44, 52)


def sheet(pictures: list[Image.Image], captions: list[str]) -> Image.Image:
    """Pictures in rows of four, each CELL pixels wide with its caption below."""
    rows = -(-len(pictures) // COLUMNS)
    width, height = CELL + MARGIN, CELL + CAPTION + MARGIN
    paper = Image.new("RGB", (COLUMNS * width + MARGIN, rows * height + MARGIN), PAPER)
    pen = ImageDraw.Draw(paper)
    font = ImageFont.load_default(15)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = MARGIN + index % COLUMNS * width
        top = MARGIN + index // COLUMNS * height
        paper.paste(picture.resize((CELL, CELL), Image.Resampling.NEAREST), (left, top))
        lines = "\n".join(textwrap.wrap(caption, 36)[:2])
        pen.multiline_text((left, top + CELL + 5), lines, fill=INK, font=font, spacing=3)
    return paper


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m diffusion.training.sheet", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--glyphs", type=Path, help="saved glyphs; else from the font")
    parser.add_argument("--random", type=int, default=8, help="captions drawn at random")
    parser.add_argument("--side", type=int, help="instead of the folder's own")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    glyphs, atlas = glyph_source.known(given.glyphs)
    planner = ScenePlanner(glyphs, visibility(atlas), given.seed)
    loaded = load(given.model, "cuda" if torch.cuda.is_available() else "cpu")
    folder = loaded.folder
    captions = [*folder.examples, *(planner.any_scene().caption for _ in range(given.random))]
    pixels = draw(
        loaded.parts,
        loaded.tokenizer,
        captions,
        side=given.side or folder.default_width,
        steps=folder.default_steps,
        guidance=folder.default_guidance,
        shift=loaded.shift,
        seed=given.seed,
    )
    shades = ((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    sheet([Image.fromarray(one) for one in shades], captions).save(given.out, quality=90)


if __name__ == "__main__":
    main()
