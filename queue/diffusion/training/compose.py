"""Scenes to pixels, in batches on whatever device holds the atlas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from .scenes import COLOURS, DIRECTIONS, MAX_OBJECTS, Scene

NAMES = list(COLOURS)
# Colours as words cover more than one shade; this much is added at random while training.
SHADE = 6.0


@dataclass(frozen=True)
class Plan:
    """A batch of scenes as numbers.

    glyphs int64 [B, 3] (-1: none), boxes f32 [B, 3, 3] (x, y, side), colours f32 [B, 2, 3] in
    0..255, slopes f32 [B, 3] (a, b, c of the gradient's weight a + b x + c y).
    """

    glyphs: np.ndarray
    boxes: np.ndarray
    colours: np.ndarray
    slopes: np.ndarray


def plan(scenes: list[Scene], shade: np.random.Generator | None = None) -> Plan:
    """Scenes as arrays; with `shade`, background colours vary a little."""
    size = len(scenes)
    glyphs = np.full((size, MAX_OBJECTS), -1, np.int64)
    boxes = np.ones((size, MAX_OBJECTS, 3), np.float32) * 0.5
    colours = np.zeros((size, 2, 3), np.float32)
    slopes = np.zeros((size, 3), np.float32)
    for row, scene in enumerate(scenes):
        for slot, placed in enumerate(scene.objects):
            glyphs[row, slot] = placed.glyph
            boxes[row, slot] = placed.x, placed.y, placed.side
        colours[row, 0] = COLOURS[scene.colours[0]]
        colours[row, 1] = COLOURS[scene.colours[-1]]
        if len(scene.colours) > 1:
            slopes[row] = DIRECTIONS[scene.direction]
    if shade is not None:
        colours = colours + shade.uniform(-SHADE, SHADE, colours.shape).astype(np.float32)
        # A plain background has one shade, not two that never meet.
        plain = (slopes == 0).all(1)
        colours[plain, 1] = colours[plain, 0]
    return Plan(glyphs, boxes, np.clip(colours, 0, 255), slopes)


class Composer:
    """Holds the atlas on a device and draws plans there."""

    def __init__(self, atlas: np.ndarray, device: torch.device | str) -> None:
        """`atlas`: uint8 [glyphs, side, side, 4], straight alpha."""
        straight = torch.from_numpy(atlas).permute(0, 3, 1, 2).float() / 255
        alpha = straight[:, 3:]
        # Premultiplied, so that interpolation at the edges mixes no colour of hidden pixels in;
        # the last cell is empty and stands for "no object".
        cells = torch.cat([straight[:, :3] * alpha, alpha], 1)
        cells = torch.cat([cells, torch.zeros_like(cells[:1])])
        self.device = torch.device(device)
        self.atlas = cells.to(self.device)
        # Half size, for drawing small without aliasing.
        self.half = F.avg_pool2d(self.atlas, 2)

    def draw(self, batch: Plan, side: int) -> torch.Tensor:
        """Pixels in -1..1, f32 [B, 3, side, side]."""
        # Mixed precision would run grid_sample on half tensors with a float grid and fail.
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            return self._draw(batch, side)

    def _draw(self, batch: Plan, side: int) -> torch.Tensor:
        def on_device(array: np.ndarray) -> torch.Tensor:
            tensor = torch.from_numpy(array)
            if self.device.type == "cuda":
                tensor = tensor.pin_memory()
            return tensor.to(self.device, non_blocking=True)

        glyphs, boxes = on_device(batch.glyphs), on_device(batch.boxes)
        colours, slopes = on_device(batch.colours) / 255, on_device(batch.slopes)
        centre = (torch.arange(side, device=self.device) + 0.5) / side
        weight = (
            slopes[:, 0, None, None]
            + slopes[:, 1, None, None] * centre[None, None, :]
            + slopes[:, 2, None, None] * centre[None, :, None]
        )[:, None]
        picture = torch.lerp(colours[:, 0, :, None, None], colours[:, 1, :, None, None], weight)
        for slot in range(MAX_OBJECTS):
            if not (batch.glyphs[:, slot] >= 0).any():
                continue
            x, y, scale = boxes[:, slot].unbind(1)
            zero = torch.zeros_like(x)
            # From picture coordinates (-1..1) to the cell's own.
            rows = [
                torch.stack([1 / scale, zero, (1 - 2 * x) / scale], 1),
                torch.stack([zero, 1 / scale, (1 - 2 * y) / scale], 1),
            ]
            grid = F.affine_grid(torch.stack(rows, 1), [len(x), 4, side, side], align_corners=False)
            drawn_small = float(batch.boxes[:, slot, 2].mean()) * side < 0.75 * self.atlas.shape[-1]
            cells = (self.half if drawn_small else self.atlas)[glyphs[:, slot]]
            layer = F.grid_sample(cells, grid, mode="bilinear", align_corners=False)
            picture = picture * (1 - layer[:, 3:]) + layer[:, :3]
        return (picture * 2 - 1).clamp(-1, 1)
