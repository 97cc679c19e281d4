"""Draws how a picture comes out of noise: the front page's `static/images/steps.webp`.

    python scripts/draw_steps.py "a unicorn on a pink to purple gradient background" --seed 7

The model runs as it does for everybody; every frame is its own latent, decoded: the noise, then
the latent after each step. Frames stand in a square grid with rounded corners on a clear ground, so
that the picture suits light and dark pages. Quality is the best that keeps within --max-bytes.
"""

import argparse
import io
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from diffusion.backends import BACKEND_NAMES, Backend, open_backend
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise
from diffusion.pipeline import Progress, generate
from diffusion.preview import heading_for
from diffusion.schedule import read_schedule_config
from diffusion.settings import Settings, check

ROOT = Path(__file__).resolve().parent.parent
GAP_OF_A_TILE = 0.06
ROUNDING_OF_A_TILE = 0.09
SMOOTH = 4  # corners are drawn this much larger and scaled down
LOWEST_QUALITY = 20

Frame = NDArray[np.uint8]


def frames(backend: Backend, settings: Settings, heading: bool) -> list[Frame]:
    """uint8 [H, W, 3] for the noise and for each step. heading: where the latent is going instead
    of what it is, as the previews of a room show it."""
    shape = backend.folder.latent_shape(settings.width, settings.height)
    levels = read_schedule_config(backend.folder.path).schedule(settings.steps).sigmas
    latents = [initial_noise(settings.seed, shape)]
    shown = latents[:]

    def keep(progress: Progress) -> None:
        before, after = float(levels[progress.step - 1]), float(levels[progress.step])
        aim = heading_for(latents[-1], progress.latent, before, after)
        latents.append(progress.latent)
        shown.append(aim if heading else progress.latent)

    generate(backend, settings, keep)
    return [backend.decode(latent) for latent in shown]


def grid(pictures: list[Frame], side: int) -> Image.Image:
    """All frames in reading order, as nearly square as they go; `side` pixels wide, with alpha."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    tile = round(side / (columns + GAP_OF_A_TILE * (columns - 1)))
    step = tile + round(tile * GAP_OF_A_TILE)
    sheet = Image.new("RGBA", (step * columns - step + tile, step * rows - step + tile))
    corners = Image.new("L", (tile * SMOOTH, tile * SMOOTH))
    edge = tile * SMOOTH - 1
    radius = tile * SMOOTH * ROUNDING_OF_A_TILE
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, edge, edge), radius, fill=255)
    corners = corners.resize((tile, tile), Image.Resampling.LANCZOS)
    for number, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels).resize((tile, tile), Image.Resampling.LANCZOS)
        sheet.paste(picture, (number % columns * step, number // columns * step), corners)
    return sheet


def webp(sheet: Image.Image, max_bytes: int) -> bytes:
    """Raises SystemExit when even the lowest quality is too large."""
    for quality in range(90, LOWEST_QUALITY - 1, -5):
        file = io.BytesIO()
        sheet.save(file, "WEBP", quality=quality, method=6)
        if file.tell() <= max_bytes:
            return file.getvalue()
    raise SystemExit(f"More than {max_bytes} bytes at any quality: choose a smaller --side.")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("prompt")
    parser.add_argument("--model", type=Path, default=ROOT / "models/prx-emoji")
    parser.add_argument("--backend", choices=BACKEND_NAMES, default="auto")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument(
        "--pixels", type=int, help="side of the picture; the model's own if left out"
    )
    parser.add_argument("--heading", action="store_true", help="where each step is going")
    parser.add_argument("--side", type=int, default=704, help="of the whole file: twice as shown")
    parser.add_argument("--max-bytes", type=int, default=60_000)
    parser.add_argument("--out", type=Path, default=ROOT / "static/images/steps.webp")
    options = parser.parse_args()
    folder = read_model_folder(options.model)
    settings = Settings(
        prompt=options.prompt,
        model=folder.name,
        width=options.pixels or folder.default_width,
        height=options.pixels or folder.default_width,
        steps=options.steps,
        guidance=folder.default_guidance,
        seed=options.seed,
    )
    check(settings, folder)
    backend = open_backend(options.backend, folder, shaders=ROOT / "static/wgsl")
    pictures = frames(backend, settings, options.heading)
    sheet = grid(pictures, options.side)
    content = webp(sheet, options.max_bytes)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(content)
    sys.stdout.write(
        f"{options.out}: {sheet.width} x {sheet.height} pixels, {len(content)} bytes\n"
    )


if __name__ == "__main__":
    main()
