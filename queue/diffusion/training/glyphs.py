"""The glyphs that PRX-Emoji learns to draw, and what they are called.

- Draws every single-code-point emoji of Noto Color Emoji (SIL OFL 1.1) into one RGBA atlas.
- Names them: the CLDR short name first, then its aliases and the Unicode name, each cleaned as a
  prompt is and kept only where it means one glyph.
- Knows nothing of scenes, captions or torch.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
# The font holds bitmaps of one size only; 109 selects them, 136 x 128 pixels each.
FONT_SIZE = 109
CELL = 128
SHEET = "glyphs.webp"
SHEET_COLUMNS = 40
NOT_DRAWN_BY_THE_FONT = chr(0x10FFFD)
# The five skin tone swatches stand for no thing of their own.
SWATCHES = range(0x1F3FB, 0x1F400)


@dataclass(frozen=True)
class Glyph:
    """One drawing: its character and its names, the best known first."""

    character: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.names[0]


def render(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One glyph, RGBA, CELL x CELL, centred."""
    drawn = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
    ImageDraw.Draw(drawn).text((0, 0), character, font=font, embedded_color=True)
    square = Image.new("RGBA", (136, 136), (0, 0, 0, 0))
    square.paste(drawn, (0, 4))
    return square.resize((CELL, CELL), Image.Resampling.LANCZOS)


def known(folder: Path | None) -> tuple[list[Glyph], np.ndarray]:
    """The glyphs of a saved folder, or without one those of the installed font.

    Raises FileNotFoundError, saying what to install, where there is neither.
    """
    if folder is not None:
        return load(folder)
    if not FONT.is_file():
        raise FileNotFoundError(f"no {FONT}: install the package fonts-noto-color-emoji")
    return build()


def build(font_file: Path = FONT) -> tuple[list[Glyph], np.ndarray]:
    """All glyphs with their pictures: uint8 [glyphs, CELL, CELL, 4], straight alpha."""
    import emoji

    font = ImageFont.truetype(str(font_file), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    tofu = render(NOT_DRAWN_BY_THE_FONT, font).tobytes()
    found: dict[str, tuple[str, dict[str, object]]] = {}
    pictures: dict[str, np.ndarray] = {}
    for code in range(0x80, 0x1FB00):
        character = chr(code)
        data = emoji.EMOJI_DATA.get(character) or emoji.EMOJI_DATA.get(character + "\ufe0f")
        unicode_name = unicodedata.name(character, "")
        if data is None or not unicode_name or code in SWATCHES:
            continue
        picture = render(character, font)
        if picture.getbbox() is None or picture.tobytes() == tofu:
            continue
        found[character] = (unicode_name, data)
        pictures[character] = np.asarray(picture)
    glyphs = name_glyphs(found)
    return glyphs, np.stack([pictures[glyph.character] for glyph in glyphs])


def name_glyphs(found: dict[str, tuple[str, dict[str, object]]]) -> list[Glyph]:
    """Give every character its names; a name that two would share stays with the first choice."""
    from diffusion.cleaning import clean_prompt

    def plain(raw: str) -> str:
        words = raw.strip(":").replace("_", " ").replace("-", " ").replace("\u2019", " ")
        return " ".join(clean_prompt(words).replace(",", " ").replace(".", "").split())

    first: dict[str, str] = {}
    for character, (unicode_name, data) in found.items():
        name = plain(str(data["en"])) or plain(unicode_name)
        first[character] = name if name not in first.values() else plain(unicode_name)
    taken = set(first.values())
    glyphs = []
    for character, (unicode_name, data) in found.items():
        names = [first[character]]
        aliases = data.get("alias", [])
        candidates = [*map(str, aliases if isinstance(aliases, list) else [])]
        for ending in ("", " symbol", " sign"):
            lowered = unicode_name.lower()
            if lowered.endswith(ending):
                candidates.append(lowered.removesuffix(ending))
        for candidate in map(plain, candidates):
            if candidate and candidate not in taken and 2 < len(candidate) <= 40:
                names.append(candidate)
                taken.add(candidate)
        glyphs.append(Glyph(character, tuple(names)))
    return glyphs


def save(folder: Path, glyphs: list[Glyph], atlas: np.ndarray, side: int = CELL) -> None:
    """Write `glyphs.webp` (a sheet of cells, `side` pixels each) and `glyphs.json` (the names)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = -(-len(glyphs) // SHEET_COLUMNS)
    sheet = Image.new("RGBA", (SHEET_COLUMNS * side, rows * side), (0, 0, 0, 0))
    for index, picture in enumerate(atlas):
        cell = Image.fromarray(picture)
        if side != CELL:
            cell = cell.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(cell, (index % SHEET_COLUMNS * side, index // SHEET_COLUMNS * side))
    sheet.save(folder / SHEET, lossless=True)
    listing = {"side": side, "glyphs": [[glyph.character, *glyph.names] for glyph in glyphs]}
    (folder / "glyphs.json").write_text(json.dumps(listing, ensure_ascii=False, indent=0) + "\n")


def load(folder: Path) -> tuple[list[Glyph], np.ndarray]:
    """Read what `save` wrote: glyphs, and uint8 [glyphs, side, side, 4] with straight alpha."""
    listing = json.loads((folder / "glyphs.json").read_text())
    side = listing["side"]
    glyphs = [Glyph(character, tuple(names)) for character, *names in listing["glyphs"]]
    sheet = np.asarray(Image.open(folder / SHEET).convert("RGBA"))
    cells = sheet.reshape(sheet.shape[0] // side, side, SHEET_COLUMNS, side, 4)
    return glyphs, cells.swapaxes(1, 2).reshape(-1, side, side, 4)[: len(glyphs)].copy()
