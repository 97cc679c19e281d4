# ruff: noqa: RUF001  (look-alike letters are what this is about)
"""Cleaning gives the very text that diffusers' PRX pipeline gives."""

import time

import pytest
from diffusers.pipelines.prx.pipeline_prx import TextPreprocessor
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diffusion.cleaning import clean_prompt

theirs = TextPreprocessor().clean_text

# Pieces that the rules are about, so that random text meets them often
PIECES = [
    "<person>", "https://", "http:a", "www:", "cats.com", "a.b.co/x-y/", "x.it@", "@bob",
    "@é_1", "猫", "\u31c0", "\u31ef", "\u31f0", "\u9fff", "\ua000", "\u2014", "\u2012",
    "\u301c", "\uff0d", "-", "_", "`", "´", "«", "»", "¨", "'", '"', "\u2019", "&quot;",
    "&quot", "&amp;", "&lt;", "&#65;", "&amp;amp;lt;", "&#x41;1b2", "1.2.3.4",
    "255.255.255.255", "7:30 ", "\\n", "\n", "\t", "\u00a0", "#12", "#1234", "#12345",
    "123456", "x.png", "a.b.mp4", "...", ".", " . ", ",", "/", "(", ")", "[", "]", "{", "}",
    "|", "\\", "*", "~", "®", "½", "jc6640", "jc6640vc", "6640vc231", "j2d1a2a",
    "worldwide ", "free ", "shipping", "download", "click for cats", "click on", "png",
    "jpg images", "page 12", "20x30", "1.5х2", "3×4", " : ", ":", ";", "+", "%41",
    "%E7%8C%AB", "%", "a cat", "RED", "İ", "ß", "ﬁ", "ﬀ", "Ｆｕｌｌ", "Ã©", "â€™", "\u200d",
    "\u0301", "🍎", "١٢٣", "x", "1", " ",
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=14).map("".join))
@example("a-b-c-d-e")
@example("'quoted'")
@example("&#65;bc123")
def test_any_text_is_cleaned_as_diffusers_cleans_it(text: str) -> None:
    assert clean_prompt(text) == theirs(text)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A Snowman on a BLUE background", "a snowman on a blue background"),
        ("一只红色的猫", ""),
        ("a 猫 and a dog", "a and a dog"),
        ("see https://example.com/cat now", "see now"),
        ("cats &amp; dogs", "cats ; dogs"),
        ("", ""),
    ],
)
def test_known_prompts_come_out_as_expected(text: str, cleaned: str) -> None:
    assert clean_prompt(text) == cleaned
    assert theirs(text) == cleaned


@pytest.mark.parametrize(
    "piece", ["a", "a1", "1a", "a.", "-", " ", "a-", "1.", "\"'", "9x", "free "]
)
def test_the_longest_prompt_is_cleaned_without_running_away(piece: str) -> None:
    text = (piece * 2000)[:2000]
    started = time.perf_counter()
    clean_prompt(text)
    assert time.perf_counter() - started < 2
