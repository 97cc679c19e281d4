"""Train PRX-Emoji: `python -m diffusion.training --out models/prx-emoji`.

One command for all of it: glyphs, tokenizer, autoencoder, transformer with text encoder, export.
It can go on from a folder that it wrote (`--resume`), also on another machine: from the averaged
weights, with fresh optimisers and a short warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from . import glyphs as glyph_source
from . import train_transformer, train_vae
from .compose import Composer
from .export import Parts, export, fresh_tokenizer, read_log, read_parts
from .feed import Feed
from .scenes import visibility
from .shapes import Widths, make_text_encoder, make_transformer, make_vae


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m diffusion.training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--resume", type=Path, help="a model folder to go on from")
    parser.add_argument("--glyphs", type=Path, help="saved glyphs; else from the font")
    parser.add_argument("--vae-minutes", type=float, default=6.0)
    parser.add_argument("--minutes", type=float, default=17.0, help="transformer, text encoder")
    parser.add_argument(
        "--share-both", type=float, default=0.6, help="of the minutes, at 256 and 128 px in turn"
    )
    parser.add_argument("--vae-batch", type=int, default=48)
    parser.add_argument("--batch", type=int, default=1024, help="at 128 px; a quarter at 256")
    parser.add_argument("--vae-lr", type=float, default=1e-3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--decay-from", type=float, default=0.6)
    parser.add_argument("--adamw", action="store_true", help="AdamW for every weight, no Muon")
    parser.add_argument("--pool", type=int, default=262_144, help="latents kept at 128 px")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 4))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=float, default=180, metavar="SECONDS")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="shapes to try the code with")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    widths = Widths(64, 2, 1, (16, 16, 16, 16), 8) if given.tiny else Widths()
    # Before anything touches CUDA: the scene planners are forked.
    glyphs, atlas = glyph_source.known(given.glyphs)
    visible = visibility(atlas)
    given.out.mkdir(parents=True, exist_ok=True)
    tokenizer_file = given.out / "tokenizer" / "tokenizer.json"
    if given.resume is None:
        fresh_tokenizer(glyphs, visible, tokenizer_file)
    elif given.resume.resolve() != given.out.resolve():
        tokenizer_file.parent.mkdir(exist_ok=True)
        shutil.copy(given.resume / "tokenizer" / "tokenizer.json", tokenizer_file)
    log: list[dict[str, Any]] = read_log(given.resume) if given.resume else []
    seed = given.seed + 100 * len(log)
    feeds = [
        Feed(glyphs, visible, tokenizer_file, size=size, workers=workers, seed=seed + offset)
        for offset, (size, workers) in enumerate(
            ((given.vae_batch, 2), (min(256, given.batch), given.workers))
        )
    ]
    try:
        run(given, widths, glyphs, Composer(atlas, device()), feeds, tokenizer_file, log, seed)
    finally:
        for feed in feeds:
            feed.close()


def device() -> str:
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
        return "cuda"
    return "cpu"


def run(
    given: argparse.Namespace,
    widths: Widths,
    glyphs: list[glyph_source.Glyph],
    composer: Composer,
    feeds: list[Feed],
    tokenizer_file: Path,
    log: list[dict[str, Any]],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    if given.resume:
        parts = read_parts(given.resume, tokenizer)
    else:
        parts = Parts(
            make_text_encoder(widths, tokenizer.get_vocab_size()),
            make_transformer(widths),
            make_vae(widths),
            tokenizer,
        )
    parts.glyphs = glyphs
    compiled = not given.no_compile
    entry: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if composer.device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "arguments": {
            key: value if isinstance(value, int | float) else str(value)
            for key, value in vars(given).items()
            if key not in ("out", "resume", "glyphs")
        },
    }
    log.append(entry)
    if given.vae_minutes > 0:
        train_vae.train(
            parts.vae,
            feeds[0],
            composer,
            seconds=given.vae_minutes * 60,
            side=256,
            peak_lr=given.vae_lr,
            compiled=compiled,
        )
        entry["vae_psnr"] = {
            side: round(train_vae.evaluate(parts.vae, composer, feeds[0], side), 2)
            for side in (128, 256)
        }
        print(json.dumps(entry["vae_psnr"]), flush=True)  # noqa: T201
        export(given.out, parts, log, composer, feeds[0])
    small = train_transformer.Size(128, given.batch, 1.0)
    large = train_transformer.Size(256, max(1, given.batch // 4), 2.0)
    phases = [
        train_transformer.Phase((small,), 1 - given.share_both),
        train_transformer.Phase((large, large, small), given.share_both),
    ]
    reports = train_transformer.train(
        parts.transformer,
        parts.text_encoder,
        parts.vae,
        feeds[1],
        composer,
        [phase for phase in phases if phase.share > 0],
        seconds=given.minutes * 60,
        peak_lr=given.lr,
        compiled=compiled,
        muon=not given.adamw,
        pool=given.pool,
        decay_from=given.decay_from,
    )
    saved = time.monotonic()
    for report in reports:
        entry["transformer"] = report
        if time.monotonic() - saved > given.save_every:
            export(given.out, parts, log, composer, feeds[0])
            saved = time.monotonic()
    export(given.out, parts, log, composer, feeds[0])


if __name__ == "__main__":
    main()
