"""How well a model draws what it is told: `python -m diffusion.training.evaluate FOLDER`.

Draws fresh random captions at 8 steps and asks the judge what it sees. Prints JSON. The judge
itself is tried first, on scenes drawn without any model.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import glyphs as glyph_source
from .compose import Composer, plan
from .judge import Judge, Region
from .sample import draw, load
from .scenes import Scene, ScenePlanner, visibility
from .train_vae import psnr

Draw = Callable[[list[Scene]], torch.Tensor]
HALVES = {
    "left of": (Region(right=0.5), Region(left=0.5)),
    "right of": (Region(left=0.5), Region(right=0.5)),
    "above": (Region(bottom=0.5), Region(top=0.5)),
    "below": (Region(top=0.5), Region(bottom=0.5)),
}


@dataclass(frozen=True)
class Scores:
    """Shares of scenes, 0..1."""

    background: float
    top1: float
    top5: float
    pairs: float

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in vars(self).items()}


def score(judge: Judge, planner: ScenePlanner, paint: Draw, singles: int, pairs: int) -> Scores:
    """Draw `singles` and `pairs` fresh scenes with `paint` (pixels in -1..1) and judge them."""
    scenes = [planner.single(plain=True) for _ in range(singles)]
    ranks, right_ground = [], []
    for scene, picture in zip(scenes, paint(scenes), strict=True):
        seen = picture / 2 + 0.5
        right_ground.append(judge.colour(seen) == scene.colours[0])
        ranks.append(judge.rank_of(scene.objects[0].glyph, judge.ranking(seen)))
    scenes = [planner.pair(plain=True) for _ in range(pairs)]
    both = []
    for scene, picture in zip(scenes, paint(scenes), strict=True):
        seen = picture / 2 + 0.5
        places = zip(scene.objects, HALVES[scene.relation], strict=True)
        both.append(
            all(judge.rank_of(one.glyph, judge.ranking(seen, half)) <= 5 for one, half in places)
        )
    return Scores(
        float(np.mean(right_ground)),
        float(np.mean(np.asarray(ranks) <= 1)),
        float(np.mean(np.asarray(ranks) <= 5)),
        float(np.mean(both)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m diffusion.training.evaluate")
    parser.add_argument("model", type=Path)
    parser.add_argument("--glyphs", type=Path, help="saved glyphs; else from the font")
    parser.add_argument("--singles", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, help="instead of the folder's own")
    parser.add_argument("--shift", type=float, help="instead of the folder's own")
    parser.add_argument("--seed", type=int, default=20_000)
    given = parser.parse_args()
    print(json.dumps(evaluate(given), indent=1))  # noqa: T201


def evaluate(given: argparse.Namespace) -> dict[str, Any]:
    """All measured numbers of one model folder."""
    started = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    glyphs, atlas = glyph_source.known(given.glyphs)
    visible = visibility(atlas)
    composer, judge = Composer(atlas, device), Judge(atlas, device)
    loaded = load(given.model, device)
    vae = loaded.parts[2]
    shift = given.shift or loaded.shift
    guidance = given.guidance or loaded.folder.default_guidance

    def truth(scenes: list[Scene]) -> torch.Tensor:
        parts = [scenes[start : start + 50] for start in range(0, len(scenes), 50)]
        return torch.cat([composer.draw(plan(part), given.side).cpu() for part in parts])

    def model(scenes: list[Scene]) -> torch.Tensor:
        return draw(
            loaded.parts,
            loaded.tokenizer,
            [scene.caption for scene in scenes],
            side=given.side,
            steps=given.steps,
            guidance=guidance,
            shift=shift,
            seed=given.seed,
        )

    planner = ScenePlanner(glyphs, visible, given.seed + 1)
    known = score(judge, planner, truth, given.singles, given.pairs)
    pictures = truth([planner.any_scene() for _ in range(64)])
    with torch.no_grad():
        decoded = [
            vae.decoder(vae.encoder(some.to(device)).chunk(2, 1)[0]).cpu()
            for some in torch.split(pictures, 16)
        ]
    planner = ScenePlanner(glyphs, visible, given.seed)
    drawn = score(judge, planner, model, given.singles, given.pairs)
    return {
        "glyphs": len(glyphs),
        "distinct_drawings": len(set(judge.same)),
        "side": given.side,
        "steps": given.steps,
        "guidance": guidance,
        "shift": shift,
        "n": {"singles": given.singles, "pairs": given.pairs},
        "judge_on_ground_truth": known.rounded(),
        "vae_psnr_db": round(psnr(torch.cat(decoded), pictures), 2),
        "model": drawn.rounded(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "seconds": round(time.monotonic() - started, 1),
    }


if __name__ == "__main__":
    main()
