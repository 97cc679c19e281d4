"""Scenes and their captions: what PRX-Emoji is taught, as numbers and as words.

- A scene is a background (one of 14 colours, or a gradient of two) with one to three glyphs.
- Plans scenes at random and says them in words in many ways; draws no pixels (compose.py does).
- Never puts a glyph on a colour that would hide it: a white square on white teaches nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from .glyphs import Glyph

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (12, 12, 14),
    "gray": (140, 140, 145),
    "red": (214, 40, 40),
    "orange": (245, 135, 30),
    "yellow": (252, 215, 60),
    "green": (60, 160, 75),
    "teal": (25, 150, 155),
    "blue": (55, 120, 225),
    "navy": (24, 36, 96),
    "purple": (125, 65, 185),
    "pink": (250, 160, 195),
    "brown": (125, 80, 50),
    "cream": (250, 238, 210),
}
# How a gradient runs: weight of the second colour as a + b x + c y over the unit square.
DIRECTIONS = {"down": (0.0, 0.0, 1.0), "right": (0.0, 1.0, 0.0), "diagonal": (0.0, 0.5, 0.5)}
HORIZONTAL = ("left of", "to the left of", "next to", "beside", "and")
HORIZONTAL_REVERSED = ("right of", "to the right of")
VERTICAL = ("above", "over", "on top of")
VERTICAL_REVERSED = ("below", "under", "beneath")
OPENINGS = ("a picture of ", "an image of ", "a drawing of ", "an emoji of ", "a photo of ")
MAX_OBJECTS = 3
HIDDEN_BELOW = 0.4


@dataclass(frozen=True)
class Placed:
    """A glyph in a scene: index into the atlas, centre and side as fractions of the picture."""

    glyph: int
    x: float
    y: float
    side: float


@dataclass(frozen=True)
class Scene:
    """What is to be drawn and how it is said."""

    caption: str
    colours: tuple[str, ...]
    direction: str
    objects: tuple[Placed, ...]
    relation: str


def visibility(atlas: np.ndarray) -> np.ndarray:
    """How much of each glyph stands out from each colour.

    `atlas`: uint8 [glyphs, side, side, 4]. Returns float [glyphs, colours]: the share of the
    glyph's opaque area whose colour differs from the background by more than 15 % in a channel.
    """
    small = atlas[:, ::4, ::4].astype(np.float32)
    colour, alpha = small[..., :3], small[..., 3] / 255
    area = np.maximum(alpha.sum((1, 2)), 1e-6)
    shares = []
    for background in COLOURS.values():
        away = np.abs(colour - np.asarray(background, np.float32)).max(-1) * alpha
        shares.append(((away > 0.15 * 255) * alpha).sum((1, 2)) / area)
    return np.stack(shares, 1)


def with_article(noun: str) -> str:
    """'a cat', 'an apple', by the first letter; good enough for names of glyphs."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class ScenePlanner:
    """Draws random scenes over a list of glyphs. One seed gives one sequence of scenes."""

    def __init__(self, glyphs: list[Glyph], visible: np.ndarray, seed: int) -> None:
        """`visible`: what `visibility` says of the glyphs' atlas."""
        self.glyphs = glyphs
        self.random = random.Random(seed)  # noqa: S311 - scenes, not secrets
        self._hides = [
            {colour for colour, share in zip(COLOURS, row, strict=True) if share < HIDDEN_BELOW}
            for row in visible
        ]

    def any_scene(self) -> Scene:
        """One, two or three objects (50, 35, 15 %), worded in any of the known ways."""
        draw = self.random.random()
        if draw < 0.50:
            return self.single()
        return self.pair() if draw < 0.85 else self.three()

    def single(self, *, plain: bool = False) -> Scene:
        """One object. `plain`: 'a X on a C background', medium size, no other wording."""
        rng = self.random
        glyph = rng.randrange(len(self.glyphs))
        size = "" if plain else rng.choices(("", "small", "big"), (80, 10, 10))[0]
        side = {"": (0.50, 0.74), "small": (0.26, 0.36), "big": (0.80, 0.94)}[size]
        side_length = rng.uniform(*side)
        room = max(0.0, (1 - side_length) / 2 - 0.02)
        drift = min(room, 0.07 if size == "" else 0.30)
        placed = Placed(
            glyph,
            0.5 + rng.uniform(-drift, drift),
            0.5 + rng.uniform(-drift, drift),
            side_length,
        )
        return self._say(f"{size} {self._name(glyph, plain)}".strip(), (placed,), "", plain)

    def pair(self, *, plain: bool = False) -> Scene:
        """Two objects side by side or one above the other, in the order the caption says."""
        rng = self.random
        first, second = (rng.randrange(len(self.glyphs)) for _ in range(2))
        if plain:
            relation = rng.choice(("left of", "right of", "above", "below"))
        else:
            groups = (HORIZONTAL, HORIZONTAL_REVERSED, VERTICAL, VERTICAL_REVERSED)
            relation = rng.choice(rng.choices(groups, (40, 20, 20, 20))[0])
        reversed_order = relation in HORIZONTAL_REVERSED + VERTICAL_REVERSED
        across = relation in HORIZONTAL + HORIZONTAL_REVERSED
        places = []
        for index, glyph in enumerate((first, second)):
            along = (0.27, 0.73)[index ^ reversed_order] + rng.uniform(-0.015, 0.015)
            aside = 0.5 + rng.uniform(-0.06, 0.06)
            x, y = (along, aside) if across else (aside, along)
            places.append(Placed(glyph, x, y, rng.uniform(0.36, 0.43)))
        second_name = with_article(self._name(second, plain))
        said = f"{self._name(first, plain)} {relation} {second_name}"
        return self._say(said, tuple(places), relation, plain)

    def three(self) -> Scene:
        """Three objects in a row, named from left to right."""
        rng = self.random
        chosen = [rng.randrange(len(self.glyphs)) for _ in range(3)]
        names = [self._name(glyph, False) for glyph in chosen]
        places = tuple(
            Placed(
                glyph,
                centre + rng.uniform(-0.01, 0.01),
                0.5 + rng.uniform(-0.06, 0.06),
                rng.uniform(0.26, 0.30),
            )
            for glyph, centre in zip(chosen, (0.18, 0.5, 0.82), strict=True)
        )
        comma = rng.choice((" and", " and", ","))
        said = f"{names[0]}{comma} {with_article(names[1])} and {with_article(names[2])}"
        return self._say(said, places, "and", False)

    def _name(self, glyph: int, plain: bool) -> str:
        names = self.glyphs[glyph].names
        if plain or len(names) == 1 or self.random.random() < 0.7:
            return names[0]
        return self.random.choice(names[1:])

    def _say(self, said: str, objects: tuple[Placed, ...], relation: str, plain: bool) -> Scene:
        rng = self.random
        gradient = not plain and rng.random() < 0.25
        hidden = set().union(*(self._hides[placed.glyph] for placed in objects))
        usable = [colour for colour in COLOURS if colour not in hidden]
        colours = tuple(rng.sample(usable, 2 if gradient else 1))
        words = [self._colour_word(colour, plain) for colour in colours]
        if gradient:
            ground = f"{words[0]} to {words[1]} gradient background"
        else:
            ground = f"{words[0]} background"
        caption = f"{with_article(said)} on {with_article(ground)}"
        if not plain:
            style = rng.random()
            if style < 0.10:
                caption = with_article(said)
            elif style < 0.18:
                caption = f"{said} on {with_article(ground)}"
            elif style < 0.26:
                caption = rng.choice(OPENINGS) + caption
            elif style < 0.32:
                caption = f"{with_article(said)}, {ground}"
        return Scene(caption, colours, rng.choice(list(DIRECTIONS)), objects, relation)

    def _colour_word(self, colour: str, plain: bool) -> str:
        if colour == "gray" and not plain and self.random.random() < 0.5:
            return "grey"
        return colour
