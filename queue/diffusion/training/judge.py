"""Says which glyph a picture shows, and on what background.

- Fits a plane to the colours of the picture's rim: the background, plain or gradient.
- What differs from it is the object; it is cut out, brought to a fixed size, and compared with
  every glyph drawn on the same background.
- Knows the glyphs' pictures, and nothing of the model that drew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from .scenes import COLOURS

# A pixel belongs to an object where a channel differs from the background by this much (of 1).
STANDS_OUT = 0.14
CROP = 32
RIM = 0.025
EDGE = 0.015
# Drawings that agree to this root mean square error (of 1) on a grey ground are one drawing.
SAME_DRAWING = 0.03
# Grounds for which the drawn glyphs are kept, 17 MB each: most pictures are on one of a few.
GROUNDS_KEPT = 16

Colour = tuple[float, float, float]  # 0..1


@dataclass(frozen=True)
class Region:
    """A part of the picture: left, top, right, bottom, as fractions."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


class Judge:
    """Compares pictures with an atlas of glyphs."""

    def __init__(self, atlas: np.ndarray, device: str = "cpu") -> None:
        """`atlas`: uint8 [glyphs, side, side, 4], straight alpha."""
        cells = torch.from_numpy(atlas).permute(0, 3, 1, 2).float() / 255
        if cells.shape[-1] != 64:
            cells[:, :3] *= cells[:, 3:]
            cells = F.interpolate(cells, size=64, mode="area")
            cells[:, :3] /= cells[:, 3:].clamp(min=1e-3)
        self.device = torch.device(device)
        self._cells = cells.to(self.device)
        self._candidates = lru_cache(GROUNDS_KEPT)(self._draw_candidates)
        self.same = self._same_drawings()

    def background(self, picture: torch.Tensor) -> torch.Tensor:
        """The background everywhere: [3, h, w] in 0..1, a plane fitted to the rim.

        Fitted twice, the second time without the pixels that the first fit misses: an object may
        touch the rim.
        """
        _, height, width = picture.shape
        y, x = torch.meshgrid(
            torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
        )
        terms = torch.stack([torch.ones_like(x), x, y], -1).to(picture.device)
        margin = max(2, round(RIM * min(height, width)))
        rim = torch.ones(height, width, dtype=torch.bool, device=picture.device)
        rim[margin:-margin, margin:-margin] = False
        rows, colours = terms[rim], picture.permute(1, 2, 0)[rim]
        middle = colours.median(0).values
        near = (colours - middle).abs().amax(1)
        keep = near <= near.quantile(0.75) + 1e-3
        for _ in range(2):
            solution = torch.linalg.lstsq(rows[keep], colours[keep]).solution
            missed = (rows @ solution - colours).abs().amax(1)
            keep = missed <= max(0.05, missed.median().item() * 2)
        plane: torch.Tensor = terms.flatten(0, 1) @ solution
        return plane.reshape(height, width, 3).permute(2, 0, 1)

    def colour(self, picture: torch.Tensor) -> str:
        """The name of the colour nearest to the middle of the background. Pixels in 0..1."""
        ground = self.background(picture.to(self.device)).mean((1, 2)).cpu()
        names = list(COLOURS)
        table = torch.tensor([COLOURS[name] for name in names]) / 255
        return names[int((table - ground).square().sum(1).argmin())]

    def ranking(self, picture: torch.Tensor, region: Region | None = None) -> list[int]:
        """All glyphs, the nearest first; of drawings that are the same, the first found stands.

        `picture`: f32 [3, h, w] in 0..1. An empty list where nothing stands out in the region.
        """
        picture = picture.to(self.device)
        ground = self.background(picture)
        # Autoencoders err in the outermost pixels, and one such pixel would stretch the cut-out.
        edge = max(1, round(EDGE * min(picture.shape[1:])))
        inner = slice(edge, -edge)
        picture, ground = picture[:, inner, inner], ground[:, inner, inner]
        if region is not None:
            _, height, width = picture.shape
            rows = slice(round(region.top * height), round(region.bottom * height))
            columns = slice(round(region.left * width), round(region.right * width))
            picture, ground = picture[:, rows, columns], ground[:, rows, columns]
        seen = self._cut(picture[None], (picture - ground).abs().amax(0)[None])
        if seen is None:
            return []
        crop, box = seen
        centre = ground[:, box[0, 1] : box[0, 3], box[0, 0] : box[0, 2]].mean((1, 2))
        red, green, blue = (round(value * 255) / 255 for value in centre.tolist())
        candidates = self._candidates((red, green, blue))
        distance = (candidates - crop).square().mean((1, 2, 3))
        ranked: list[int] = distance.argsort().tolist()
        return ranked

    def rank_of(self, glyph: int, ranking: list[int]) -> int:
        """Place of the glyph, 1 is first, same drawings counted as one; 10,000 where not seen."""
        wanted = self.same[glyph]
        above: set[int] = set()
        for other in ranking:
            if self.same[other] == wanted:
                return len(above) + 1
            above.add(self.same[other])
        return 10_000

    def _cut(
        self, pictures: torch.Tensor, away: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The visible part of each picture, squared and brought to CROP x CROP.

        pictures [n, 3, h, w], away [n, h, w]. Returns crops [n, 3, CROP, CROP] and boxes int
        [n, 4] (left, top, right, bottom); None where one shows nothing.
        """
        stands_out = away > STANDS_OUT
        least = max(1, round(0.01 * away.shape[-1]))
        rows, columns = stands_out.sum(2) >= least, stands_out.sum(1) >= least
        if not bool(rows.any(1).all() and columns.any(1).all()):
            return None
        _, height, width = away.shape

        def ends(line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            steps = torch.arange(line.shape[1], device=line.device)
            first = torch.where(line, steps, line.shape[1]).amin(1)
            last = torch.where(line, steps, -1).amax(1)
            return first, last + 1

        (top, bottom), (left, right) = ends(rows), ends(columns)
        side = torch.maximum(bottom - top, right - left).float()
        middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
        zero = torch.zeros_like(side)
        theta = torch.stack(
            [
                torch.stack([side / width, zero, 2 * middle_x / width - 1], 1),
                torch.stack([zero, side / height, 2 * middle_y / height - 1], 1),
            ],
            1,
        )
        # Twice the size, then averaged: a plain sample would skip pixels of a large object.
        grid = F.affine_grid(theta, [len(side), 3, 2 * CROP, 2 * CROP], align_corners=False)
        crops = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
        boxes = torch.stack([left, top, right, bottom], 1)
        return F.avg_pool2d(crops, 2), boxes

    def _draw_candidates(self, ground: Colour) -> torch.Tensor:
        """Every glyph on a plain ground, cut out as a picture is: [glyphs, 3, CROP, CROP]."""
        colour = torch.tensor(ground, dtype=torch.float32, device=self.device)[:, None, None]
        drawn = torch.lerp(
            colour.expand_as(self._cells[:, :3]), self._cells[:, :3], self._cells[:, 3:]
        )
        away = (drawn - colour).abs().amax(1)
        # A glyph that this ground hides cannot be cut out; it stays whole.
        hidden = (away > STANDS_OUT).sum((1, 2)) < 12
        away[hidden] = 1.0
        cut = self._cut(drawn, away)
        if cut is None:
            raise ValueError("a glyph shows nothing on this background")
        return cut[0]

    def _same_drawings(self) -> list[int]:
        """For every glyph the first glyph that is the same drawing."""
        crops = self._draw_candidates((0.5, 0.5, 0.5)).flatten(1)
        # Of all pairs as products, in f64, which has digits to spare for the difference. Not every
        # GPU has it.
        crops = crops.cpu().double()
        length = crops.square().sum(1)
        apart = (length[:, None] + length - 2 * crops @ crops.T) / crops.shape[1]
        same = list(range(len(crops)))
        for index, other in (apart < SAME_DRAWING**2).tril(-1).nonzero().tolist():
            if same[index] == index:  # the first that it is like
                same[index] = same[other]
        return same
