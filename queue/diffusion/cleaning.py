"""Cleans a prompt exactly as diffusers' PRX pipeline does before it tokenizes.

The rules are those of DeepFloyd IF (deepfloyd_if/modules/t5.py), which PRX was trained with. They
are odd: CJK ideographs, addresses, file names and long numbers vanish, and some words of
advertisements too. Any other result would be another picture, so every rule is kept, in its order.
"""

import html
import re
from typing import Final
from urllib.parse import unquote_plus

import ftfy

_Rule = tuple[re.Pattern[str], str]

_SUFFIXES: Final = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"

_DASHES: Final = (
    r"\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40"
    r"\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d"
)

# A host of a few old top-level domains with its path, or only the scheme of an address
_ADDRESS: Final = (
    r"\b(?:(?:https?|www):(?:/{1,3}|[a-z0-9%])"
    r"|[a-z0-9.-]+\.(?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?(?!@))"
)

# The text is lower case here.
_BEFORE_REPAIR: Final[tuple[_Rule, ...]] = (
    (re.compile("<person>"), "person"),
    (re.compile(_ADDRESS), ""),
    (re.compile(r"@\w+\b"), ""),
    (re.compile(r"[\u31c0-\u9fff]+"), ""),  # CJK strokes to CJK ideographs, without a gap
    (re.compile(f"[{_DASHES}]+"), "-"),
    (re.compile("[`\u00b4\u00ab\u00bb\u00a8]"), '"'),
    (re.compile(r"&quot;?"), ""),
    (re.compile(r"&amp"), ""),
    (re.compile(r"\d{1,3}(?:\.\d{1,3}){3}"), " "),  # IP addresses
    (re.compile(r"\d:\d\d\s+$"), ""),
    (re.compile(r"\\n"), " "),  # a backslash and an n, as text
    (re.compile(r"#\d{1,3}\b"), ""),
    (re.compile(r"#\d{5,}\b"), ""),
    (re.compile(r"\b\d{6,}\b"), ""),
    (re.compile(rf"\S+\.(?:{_SUFFIXES})"), ""),
    (re.compile(r"[\"']{2,}"), '"'),
    (re.compile(r"\.{2,}"), " "),
    (re.compile(r"[#®•©™&@·º½¾¿¡§~()\[\]{}|\\/*]+"), " "),
    (re.compile(r"\s+\.\s+"), " "),
)

_JOINT: Final = re.compile("[-_]")
_JOINTS_ALLOWED: Final = 3  # more make it a slug: this-is-my-cute-cat

# Capital letters can be back here: unescaping "&#65;" makes one.
_AFTER_REPAIR: Final[tuple[_Rule, ...]] = (
    (re.compile(r"\b[a-zA-Z]{1,3}\d{3,15}\b"), ""),
    (re.compile(r"\b[a-zA-Z]+\d+[a-zA-Z]+\b"), ""),
    (re.compile(r"\b\d+[a-zA-Z]+\d+\b"), ""),
    (re.compile(r"(?:worldwide\s+)?(?:free\s+)?shipping"), ""),
    (re.compile(r"(?:free\s)?download(?:\sfree)?"), ""),
    (re.compile(r"\bclick\b\s(?:for|on)\s\w+"), ""),
    (re.compile(rf"\b(?:{_SUFFIXES})(?:\simages?)?"), ""),
    (re.compile(r"\bpage\s+\d+\b"), ""),
    (re.compile(r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b"), " "),
    (re.compile(r"\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b"), ""),  # 20x30, Cyrillic x and times too
    (re.compile(r"\b\s+:\s+"), ": "),
    (re.compile(r"(\D[,./])\b"), r"\1 "),
    (re.compile(r"\s+"), " "),
    (re.compile(r"^[\"']([\w\W]+)[\"']$"), r"\1"),
    (re.compile(r"^['_,\-:;]"), ""),
    (re.compile(r"['_,\-:+]$"), ""),
    (re.compile(r"^\.\S+$"), ""),
)


def clean_prompt(text: str) -> str:
    """Return `text` as PRX's tokenizer gets it: lower case, cleaned, stripped; it may be empty.

    Equal to `TextPreprocessor.clean_text` in diffusers' `pipelines/prx/pipeline_prx.py`.
    """
    text = unquote_plus(text).strip().lower()
    text = _apply(_BEFORE_REPAIR, text)
    if len(_JOINT.findall(text)) > _JOINTS_ALLOWED:
        text = _JOINT.sub(" ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _apply(_AFTER_REPAIR, text).strip()


def _apply(rules: tuple[_Rule, ...], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text
