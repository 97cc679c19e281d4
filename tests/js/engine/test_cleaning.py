# ruff: noqa: RUF001  (look-alike letters are what this is about)
"""The browser cleans a prompt into the very text that Python makes of it."""

import html
import random
import runpy
import time
import unicodedata
from html.entities import html5
from pathlib import Path

import ftfy
import pytest
from ftfy import chardata, fixes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffusion.cleaning import clean_prompt
from tests.diffusion.test_cleaning import PIECES
from tests.js.engine.prompts import BY_HAND, by_chance, long_ones, mojibake

ROOT = Path(__file__).parents[3]
TABLES = ROOT / "static/js/engine/text/tables.js"
# With another version of Unicode, Python treats the characters between the two in another way.
SAME_UNICODE = f'UNICODE = "{unicodedata.unidata_version}"' in TABLES.read_text()

CLEAN = "return args[0].map(m.cleanPrompt);"


def assert_equal_to_python(engine, prompts: list[str]) -> None:
    for prompt, cleaned in zip(prompts, engine("cleaning", CLEAN, prompts), strict=True):
        if SAME_UNICODE or not cleaned["unsure"]:
            assert cleaned["text"] == clean_prompt(prompt), ascii(prompt)


# Prompts -------------------------------------------------------------------------------------
def test_prompts_of_all_kinds_are_cleaned_as_python_cleans_them(engine) -> None:
    prompts = [*BY_HAND, *by_chance(2500, seed=1)]
    assert len(set(prompts)) > 2000
    assert_equal_to_python(engine, prompts)


def test_prompts_of_500_words_are_cleaned_as_python_cleans_them(engine) -> None:
    assert_equal_to_python(engine, long_ones(30, seed=2))


any_text = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=14)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(st.lists(any_text.map("".join), max_size=40))
def test_any_text_is_cleaned_as_python_cleans_it(engine, prompts: list[str]) -> None:
    assert_equal_to_python(engine, prompts)


@pytest.mark.parametrize(
    "piece", ["a", "a1", "1a", "a.", "-", " ", "a-", "1.", "\"'", "9x", "free ", "Ã¶", "&", "%4"]
)
def test_the_longest_prompt_is_cleaned_without_running_away(engine, piece: str) -> None:
    text = (piece * 2000)[:2000]
    started = time.perf_counter()
    assert_equal_to_python(engine, [text])
    assert time.perf_counter() - started < 4


# What cannot be promised -------------------------------------------------------------------------
def test_only_what_pythons_treat_differently_is_unsure(engine) -> None:
    halves = ["\ud83d", "\ude00 a", "x\udfff"]
    newer = ["\U0001fae8 shaking face of Unicode 15", "\u1c89 of 16"]
    assert_unsure(engine, halves, ["\ud83d", "\ude00", "\udfff"])
    assert_unsure(engine, newer, ["\U0001fae8", "\u1c89"])
    sure = [*BY_HAND, *PIECES, "\U000f0000\ue000 private", "\ufffe\U0001ffff never assigned"]
    sure.remove("\u31ef")  # of Unicode 16
    assert_unsure(engine, sure, [""] * len(sure))


def assert_unsure(engine, prompts: list[str], expected: list[str]) -> None:
    cleaned = engine("cleaning", CLEAN, prompts)
    assert ["".join(one["unsure"]) for one in cleaned] == expected


def test_characters_newer_than_the_tables_are_unsure_wherever_they_come_from(engine) -> None:
    assert_unsure(engine, ["%F0%9F%AB%A8", "＆＃x1fae8；"], ["\U0001fae8"] * 2)


def test_halves_of_a_pair_that_meet_are_one_character_here_and_two_in_python(engine) -> None:
    """The only difference with the tables' own Unicode; the queue refuses such prompts."""
    meeting = "\ud835猫\udc9c123456"
    [cleaned] = engine("cleaning", CLEAN, [meeting])
    assert cleaned == {"text": "\U0001d49c123456", "unsure": ["\ud835", "\udc9c"]}
    assert clean_prompt(meeting) == "\U0001d49c"


# ftfy --------------------------------------------------------------------------------------------
def test_repairs_are_ftfys(engine) -> None:
    """Without the cleaning's rules, and so with capitals, ampersands and lines."""
    dice = random.Random(3)
    texts = [*BY_HAND, *by_chance(1200, seed=4)]
    texts += [mojibake(text, dice) for text in BY_HAND for _ in range(12)]
    texts += ["&eacute;\n<p>&eacute;\n&eacute;", "a\n\nb\n", "\n", "P&EACUTE;REZ & &SZLIG;"]
    found = engine("text/ftfy", "return args[0].map(m.fixText);", texts)
    for text, fixed in zip(texts, found, strict=True):
        assert fixed == ftfy.fix_text(text), ascii(text)
    assert sum(ftfy.fix_text(text) != text for text in texts) > 1000


def test_entities_are_pythons_and_ftfys(engine) -> None:
    names = {name.removesuffix(";") for name in html5}
    forms = {form for name in names for form in (name, name.upper(), name.lower(), f"{name}x")}
    numbers = [*range(0x100), 0x2028, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFDD0, 0xFFFE, 0xFFFF,
               0x1FFFE, 0x10FFFD, 0x10FFFF, 0x110000, 10**30]  # fmt: skip
    forms |= {f"#{number}" for number in numbers} | {f"#x{number:x}" for number in numbers}
    forms |= {"#", "#x", "#xg", "#X41", "#65a", "", "lt&gt", "😀", "am p", "A" * 40}
    texts = [f"&{form}{end}" for form in sorted(forms) for end in (";", "", " ;")]
    body = "return args[0].map((text) => [m.unescapeHtml(text), m.unescapeEntities(text)]);"
    for text, found in zip(texts, engine("text/entities", body, texts), strict=True):
        assert found == [html.unescape(text), fixes.unescape_html(text)], text


def test_bytes_are_read_as_ftfy_reads_them(engine) -> None:
    dice = random.Random(5)
    some = b"\xed\xa0\xaf\xb0\xbf\x80\xc0\xc3\xe2\xf0\x9f\x0a\x41"
    texts = [bytes(dice.choices(some, k=dice.randint(0, 9))) for _ in range(6000)]
    texts += [b"\xed\xa0\xbd\xed\xb8\x80", b"\xed\xa0\xbd\xed\xb8\n", b"\xc0\n", b"\xc0\x80a"]
    body = "return args[0].map((text) => [m.decodeUtf8(text), m.decodeUtf8Variants(text)]);"
    found = engine("text/charmaps", body, [text.decode("latin-1") for text in texts])
    for text, ours in zip(texts, found, strict=True):
        assert ours == [read(text, "utf-8"), read(text, "utf-8-variants")], text


def read(text: bytes, encoding: str) -> str | None:
    try:
        return text.decode(encoding)
    except UnicodeDecodeError:
        return None


def test_every_width_and_every_encoding_is_ftfys(engine) -> None:
    widths = [chr(code) for code in range(0xFF00, 0xFFF0)] + ["\u3000"]
    found = engine("text/ftfy", "return args[0].map((one) => m.fixText(one));", widths)
    assert found == [ftfy.fix_text(one) for one in widths]
    characters = [chr(code) for code in range(0x3000)] + ["\ufffd", "\uf8ff", "\ufb01", "😀"]
    body = "return m.encodings.map((name) => args[0].map((one) => m.encode(one, name)));"
    for name, row in zip(
        chardata.CHARMAP_ENCODINGS, engine("text/charmaps", body, characters), strict=True
    ):
        assert row == [
            one.encode(name).decode("latin-1") if chardata.possible_encoding(one, name) else None
            for one in characters
        ]


# Unicode -----------------------------------------------------------------------------------------
@pytest.mark.skipif(not SAME_UNICODE, reason="this Python's Unicode is not that of the tables")
def test_every_code_point_is_to_the_browser_what_it_is_to_python(engine) -> None:
    classes, lowered, normal, *sigmas = engine("text/python", EVERY_CODE_POINT)
    planes = [range(0xD800), range(0xE000, 0x33500), range(0xE0000, 0xE0200)]  # no others are used
    every = [chr(code) for plane in planes for code in plane]
    assert classes == [
        [ord(one) for one in every if one.isalnum() or one == "_"],
        [ord(one) for one in every if one.isdecimal()],
        [ord(one) for one in every if one.isspace()],
    ]
    assert lowered == [[one, one.lower()] for one in every if one.lower() != one]
    assert sigmas == [
        [ord(one) for one in every if f"{one}Σ".lower()[-1] == "ς"],
        [ord(one) for one in every if f"a{one}Σ".lower()[-1] == "ς"],
        [ord(one) for one in every if f"aΣ{one}".lower()[1] == "ς"],
        [ord(one) for one in every if f"aΣ{one}a".lower()[1] == "ς"],
    ]
    assert normal == [
        [one, unicodedata.normalize("NFC", f"{one}\u0323\u0301")]
        for one in every
        if unicodedata.normalize("NFC", f"{one}\u0323\u0301") != f"{one}\u0323\u0301"
    ]


EVERY_CODE_POINT = r"""
const every = [];
for (const [start, end] of [[0, 0xd800], [0xe000, 0x33500], [0xe0000, 0xe0200]]) {
  for (let code = start; code < end; code++) every.push(String.fromCodePoint(code));
}
const codes = (holds) => every.filter(holds).map((one) => one.codePointAt(0));
const changed = (map) => every.filter((one) => map(one)[0] !== map(one)[1])
  .map((one) => [one, map(one)[1]]);
const classes = ['\\w', '\\d', '\\s'].map((source) => {
  const expression = m.pythonRegExp(source, '');
  return codes((one) => expression.test(one));
});
return [
  classes,
  changed((one) => [one, m.lower(one)]),
  changed((one) => [`${one}\u0323\u0301`, m.normalize(`${one}\u0323\u0301`)]),
  codes((one) => m.lower(`${one}Σ`).endsWith('ς')),
  codes((one) => m.lower(`a${one}Σ`).endsWith('ς')),
  codes((one) => m.lower(`aΣ${one}`)[1] === 'ς'),
  codes((one) => m.lower(`aΣ${one}a`)[1] === 'ς'),
];
"""


# The tables --------------------------------------------------------------------------------------
def test_the_tables_are_what_the_script_makes_of_the_installed_ftfy() -> None:
    made = runpy.run_path(str(ROOT / "scripts/text_tables.py"))["tables"]()
    assert independent(made) == independent(TABLES.read_text())
    assert f"ftfy {ftfy.__version__} " in made
    assert TABLES.stat().st_size < 41_000


def independent(tables: str) -> list[str]:
    """The lines that do not depend on Python's version of Unicode, where this is another one."""
    names = () if SAME_UNICODE else ("UNICODE", "UNASSIGNED", "CASED", "CASE_IGNORABLE")
    moving = tuple(f"export const {name} " for name in names)
    return [line for line in tables.splitlines() if not line.startswith(moving)]
