"""Writes static/js/engine/text/tables.js: what JavaScript needs to clean text as Python does.

The tables are made from ftfy, `html.entities`, `html` and `unicodedata` themselves, so that nobody
copies them by hand: run this again after an update of ftfy.

    .venv/bin/python scripts/text_tables.py
"""

import html
import itertools
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from html.entities import html5
from importlib.metadata import version
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

from ftfy import badness, chardata, fixes
from ftfy.bad_codecs import utf8_variants

TARGET: Final = Path(__file__).parents[1] / "static/js/engine/text/tables.js"

_HEAD: Final = """\
// Made by scripts/text_tables.py; do not edit.
//
// Tables and expressions of ftfy {ftfy} (https://github.com/rspeer/python-ftfy), Copyright 2023
// Robyn Speer, licensed under the Apache License, Version 2.0: you may obtain a copy at
// http://www.apache.org/licenses/LICENSE-2.0. Changed: written as JavaScript, without comments.
// Entities, references and characters are those of Python's html and unicodedata modules.
"""

# Python's expressions, as the source of a JavaScript one with the flag v. \\w, \\d, \\s and $ keep
# Python's meaning: static/js/engine/text/python.js puts it in.
_CATEGORIES: Final = {
    _constants.CATEGORY_WORD: r"\w",
    _constants.CATEGORY_DIGIT: r"\d",
    _constants.CATEGORY_SPACE: r"\s",
}
_PLAIN: Final = re.compile(r"[\w <>=!\"'%,;:@&#~`]")


def main() -> None:
    TARGET.write_text(tables(), encoding="utf-8")
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")  # noqa: T201


def tables() -> str:
    """The text of the module."""
    parts = [_HEAD.format(ftfy=version("ftfy"))]
    parts += [
        f"/** {about} */\nexport const {name} = {_literal(value)};\n"
        for name, about, value in _exports()
    ]
    return "\n".join(parts)


def _exports() -> Iterator[tuple[str, str, Any]]:
    yield (
        "UNICODE",
        "The version of Unicode that Python's own tables had.",
        unicodedata.unidata_version,
    )
    yield (
        "UNASSIGNED",
        "Code points that may get a meaning later: gap and length of each range, base 36.",
        _gaps(lambda code: unicodedata.category(chr(code)) == "Cn" and not _noncharacter(code)),
    )
    yield "CASED", "Letters after which a capital sigma may be final.", _gaps(_cased)
    yield (
        "CASE_IGNORABLE",
        "What may stand between the two.",
        _gaps(lambda code: f"a{chr(code)}Σ".lower()[-1] == "ς" and not _cased(code)),
    )
    yield (
        "CHARMAPS",
        "The characters of the bytes 0x80-0xFF; in the sloppy ones 0x1A means U+FFFD.",
        {name: _charmap(name) for name in chardata.CHARMAP_ENCODINGS},
    )
    for name, about, pattern in (
        ("BADNESS", "Characters side by side that look like mojibake.", badness.BADNESS_RE),
        ("UTF8_DETECTOR", "Runs that look like UTF-8 read as bytes.", chardata.UTF8_DETECTOR_RE),
        (
            "ALTERED_UTF8",
            "Bytes that were UTF-8 until 0xA0 became a space.",
            chardata.ALTERED_UTF8_RE,
        ),
        ("A_GRAVE_WORD", "The word à, as bytes.", fixes.A_GRAVE_WORD_RE),
        ("LOSSY_UTF8", "Bytes that were UTF-8 until some were lost.", chardata.LOSSY_UTF8_RE),
        ("CESU8", "Six bytes for one character.", utf8_variants.CESU8_RE),
        ("UTF8_VARIANTS", "Bytes that plain UTF-8 has not.", utf8_variants.SPECIAL_BYTES_RE),
        ("ENTITY", "What may be an HTML entity, for ftfy.", chardata.HTML_ENTITY_RE),
        ("REFERENCE", "What may be one, for html.unescape.", html._charref),  # type: ignore[attr-defined]
        ("TERMINAL_ESCAPE", "Colours and the like.", fixes.ANSI_RE),
        ("SINGLE_QUOTE", "Curly ones.", chardata.SINGLE_QUOTE_RE),
        ("DOUBLE_QUOTE", "Curly ones.", chardata.DOUBLE_QUOTE_RE),
    ):
        yield name, about, _javascript(pattern)
    yield "CONTROLS", "Characters that are dropped.", _class(chardata.CONTROL_CHARS)
    yield (
        "LIGATURES",
        "Taken apart.",
        {chr(code): text for code, text in chardata.LIGATURES.items()},
    )
    yield (
        "INVALID_CODES",
        "Numbers that html.unescape drops.",
        _class(html._invalid_codepoints),  # type: ignore[attr-defined]
    )
    yield (
        "REPLACED_CODES",
        "Numbers that mean another character.",
        {str(code): text for code, text in html._invalid_charrefs.items()},  # type: ignore[attr-defined]
    )
    yield (
        "ENTITIES",
        "Sorted: letters shared with the one before (base 36), the others, =, the characters, ~.",
        _entities(name[:-1] for name in html5 if name.endswith(";")),
    )
    yield (
        "BARE_ENTITIES",
        "Those that need no semicolon.",
        " ".join(sorted(name for name in html5 if not name.endswith(";"))),
    )


def _noncharacter(code: int) -> bool:
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _cased(code: int) -> bool:
    return f"{chr(code)}Σ".lower()[-1] == "ς"


def _charmap(encoding: str) -> str:
    characters = bytes(range(0x80, 0x100)).decode(encoding)
    assert characters.encode(encoding) == bytes(range(0x80, 0x100))
    ascii_ = "".join(map(chr, (*range(0x1A), *range(0x1B, 0x80))))
    assert ascii_.encode(encoding).decode("ascii") == ascii_
    assert b"\x1a".decode(encoding) == ("\ufffd" if encoding.startswith("sloppy") else "\x1a")
    return characters


def _entities(names: Iterable[str]) -> str:
    before, parts = "", []
    for name in sorted(names):
        shared = next(
            (at for at, (a, b) in enumerate(zip(before, name, strict=False)) if a != b),
            min(len(before), len(name)),
        )
        assert "~" not in html5[f"{name};"]
        parts.append(f"{_base36(shared)}{name[shared:]}={html5[f'{name};']}")
        before = name
    assert all(html5[f"{name};"] == text for name, text in html5.items() if name[-1] != ";")
    return "~".join(parts)


# Expressions -----------------------------------------------------------------------------------
def _javascript(pattern: re.Pattern[Any]) -> str:
    """The source of the same expression; bytes become the characters U+0000-U+00FF."""
    return _sequence(_parser.parse(pattern.pattern, pattern.flags))


def _sequence(tokens: Iterable[tuple[Any, Any]]) -> str:
    return "".join(_token(kind, value) for kind, value in tokens)


def _token(kind: Any, value: Any) -> str:
    match kind, value:
        case _constants.LITERAL, code:
            return _character(code)
        case _constants.NOT_LITERAL, code:
            return f"[^{_character(code)}]"
        case _constants.ANY, None:
            return "[^\\n]"
        case _constants.IN, [(_constants.CATEGORY, category)]:
            return _CATEGORIES[category]
        case _constants.IN, members:
            return _set(members)
        case _constants.BRANCH, (None, branches):
            return f"(?:{'|'.join(map(_sequence, branches))})"
        case _constants.SUBPATTERN, (_, 0, 0, tokens):
            return f"(?:{_sequence(tokens)})"
        case _constants.MAX_REPEAT, (low, high, tokens):
            count = "" if high == _constants.MAXREPEAT else str(high)
            return f"(?:{_sequence(tokens)}){{{low},{count}}}"
        case _constants.ASSERT_NOT, (1, tokens):
            return f"(?!{_sequence(tokens)})"
        case _constants.ASSERT_NOT, (-1, tokens):
            return f"(?<!{_sequence(tokens)})"
        case _constants.AT, _constants.AT_BEGINNING:
            return "^"
        case _constants.AT, _constants.AT_END:
            return "$"
    raise ValueError(f"no JavaScript is known for {kind} {value}")


def _set(members: list[tuple[Any, Any]]) -> str:
    """A character class, its characters sorted into ranges."""
    codes: set[int] = set()
    negated = ""
    categories = ""
    for kind, value in members:
        match kind:
            case _constants.NEGATE:
                negated = "^"
            case _constants.LITERAL:
                codes.add(value)
            case _constants.RANGE:
                codes.update(range(value[0], value[1] + 1))
            case _constants.CATEGORY:
                categories += _CATEGORIES[value]
            case _:
                raise ValueError(f"no JavaScript is known for {kind} in a class")
    return f"[{negated}{_class(codes)[1:-1]}{categories}]"


def _class(codes: Iterable[int]) -> str:
    parts = []
    for first, last in _ranges(sorted(codes)):
        parts.append(_character(first))
        if last > first:
            parts.append("-" * (last > first + 1) + _character(last))
    return f"[{''.join(parts)}]"


def _ranges(codes: Iterable[int]) -> Iterator[tuple[int, int]]:
    for _, run in itertools.groupby(enumerate(codes), lambda pair: pair[1] - pair[0]):
        members = [code for _, code in run]
        yield members[0], members[-1]


def _character(code: int) -> str:
    character = chr(code)
    if character.isprintable() and (code > 0xFF or _PLAIN.match(character)):
        return character
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{{{code:x}}}"


# Text ------------------------------------------------------------------------------------------
def _gaps(holds: Callable[[int], bool]) -> str:
    end, parts = 0, []
    for first, last in _ranges(filter(holds, range(sys.maxunicode + 1))):
        parts += [_base36(first - end), _base36(last - first + 1)]
        end = last + 1
    return " ".join(parts)


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = digits[number % 36]
    while number := number // 36:
        text = digits[number % 36] + text
    return text


def _literal(value: Any) -> str:
    """A JavaScript literal: characters that print as they are, others as escapes."""
    if isinstance(value, dict):
        entries = (f"  {_literal(key)}: {_literal(text)},\n" for key, text in value.items())
        return f"{{\n{''.join(entries)}}}"
    escaped = (
        character if character.isprintable() else _escape(character)
        for character in json.dumps(value, ensure_ascii=False)[1:-1]
    )
    return f'"{"".join(escaped)}"'


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code <= 0xFF else json.dumps(character)[1:-1]


if __name__ == "__main__":
    main()
