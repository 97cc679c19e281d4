"""The browser's tokens are Python's, one for one, and a broken tokenizer is told apart."""

import base64
import json
import string
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from diffusion.byte_bpe import BYTE_TOKENS, SPACE
from diffusion.cleaning import clean_prompt
from diffusion.torch_parts.tokenizer import load_tokenizer
from tests.js.engine.prompts import BY_HAND, by_chance, long_ones

ROOT = Path(__file__).parents[3]
EMOJI = ROOT / "models/prx-emoji"
LONGEST = 256

ENCODE = """
const [tokenizer, texts, longest] = args;
const { buffer } = Uint8Array.from(atob(tokenizer), (byte) => byte.charCodeAt(0));
try {
  return (await m.encodeTexts(buffer, texts, longest)).map((ids) => [...ids]);
} catch (error) {
  return [error.name, error.code, error.message];
}
"""

# What cleaning leaves, and what it would not have left
TEXTS = [clean_prompt(text) for text in (*BY_HAND, *by_chance(900, seed=7), *long_ones(20, seed=8))]
TEXTS += [*BY_HAND, *by_chance(900, seed=9), *long_ones(20, seed=10)]
TEXTS += ["<bos>", "a <bos> b", "<pad><eos>x", "<0x41>", "<unk>", "  two  spaces  ", " ", "\n\n\n",
          "▁▁ a▁b", "x" * 3000, "🍎" * 300]  # fmt: skip


def gemma_like(behavior: str = "merged_with_previous") -> Tokenizer:
    tokenizer = Tokenizer.from_str(gemma_like_file())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior)
    return tokenizer


@cache
def gemma_like_file() -> str:
    """A tokenizer as Gemma's: bytes for what is unknown, spaces replaced and never split at, runs
    of spaces and line breaks as tokens of their own, a start token."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", SPACE)
    trainer = trainers.BpeTrainer(vocab_size=1500, show_progress=False, max_token_length=12)
    learner.train_from_iterator([*TEXTS, *([string.ascii_letters] * 3)], trainer)
    learned = json.loads(learner.to_str())["model"]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *BYTE_TOKENS]
    tokens += [token for token in learned["vocab"] if token not in tokens]
    made = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[tuple(pair) for pair in learned["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    made.normalizer = learner.normalizer
    made.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    runs = ["\n\n", "\n\n\n", SPACE * 2, SPACE * 3, "<start_of_turn>"]
    made.add_tokens([AddedToken(run, normalized=False) for run in runs])
    made.post_processor = TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)]
    )
    return made.to_str()


Encode = Callable[..., Any]


@pytest.fixture(scope="module")
def encode(engine) -> Encode:
    def call(tokenizer: str | bytes, texts: list[str], longest: float = LONGEST) -> Any:
        content = tokenizer.encode() if isinstance(tokenizer, str) else tokenizer
        return engine("tokenizer", ENCODE, base64.b64encode(content).decode(), texts, longest)

    return call


def assert_equal(found: list[list[int]], expected: list[list[int]], texts: list[str]) -> None:
    assert len(found) == len(expected)
    for text, ours, theirs in zip(texts, found, expected, strict=True):
        assert ours == theirs, ascii(text)


def truncated(tokenizer: Tokenizer, texts: list[str], longest: int = LONGEST) -> list[list[int]]:
    tokenizer.enable_truncation(longest)
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


# Equal to Python ---------------------------------------------------------------------------
def test_prx_emojis_tokens_are_pythons(encode) -> None:
    tokenize = load_tokenizer(EMOJI)
    found = encode((EMOJI / "tokenizer/tokenizer.json").read_bytes(), TEXTS)
    assert_equal(found, [tokenize(text) for text in TEXTS], TEXTS)
    lengths = [len(ids) for ids in found]
    assert lengths[TEXTS.index("")] == 0
    assert max(lengths) == LONGEST


@pytest.mark.parametrize("behavior", ["merged_with_previous", "merged_with_next", "isolated"])
def test_a_gemma_like_tokenizers_tokens_are_pythons(encode, behavior: str) -> None:
    tokenizer = gemma_like(behavior)
    found = encode(tokenizer.to_str(), TEXTS)
    assert_equal(found, truncated(tokenizer, TEXTS), TEXTS)
    assert found[TEXTS.index("")] == [2]


def test_merges_of_the_old_kind_are_read_too(encode) -> None:
    tokenizer = gemma_like()
    file = json.loads(tokenizer.to_str())
    file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    texts = TEXTS[:200]
    assert_equal(encode(json.dumps(file), texts), truncated(tokenizer, texts), texts)


@pytest.mark.parametrize("template", ["<bos> $A", "$A <eos>", "<bos> $A <eos> <eos>", "$A"])
@pytest.mark.parametrize("longest", [3, 5, 64])
def test_long_texts_are_cut_inside_the_template(encode, template: str, longest: int) -> None:
    tokenizer = gemma_like()
    tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    texts = ["", "a cat", "<bos><bos><bos><bos>", "<eos>" * 9, "a rather long text " * 40]
    found = encode(tokenizer.to_str(), texts, longest)
    assert_equal(found, truncated(tokenizer, texts, longest), texts)


# The Worker ------------------------------------------------------------------------------------
def test_the_worker_ends_after_encoding_and_after_an_error(encode, engine_page: Page) -> None:
    started: list[str] = []
    engine_page.on("worker", lambda worker: started.append(worker.url))
    assert len(encode(gemma_like().to_str(), ["a cat"])) == 1
    assert encode("{", ["a cat"])[0] == "TokenizerError"
    assert [url.rsplit("/", 1)[1] for url in started] == ["tokenizer-worker.js"] * 2
    assert_no_worker(engine_page)


def assert_no_worker(page: Page) -> None:
    deadline = time.monotonic() + 5
    while page.workers and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    assert page.workers == []


def test_encoding_can_be_given_up(engine, engine_page: Page) -> None:
    body = """
    const controller = new AbortController();
    const { signal } = controller;
    const buffers = [0, 1].map(() => new TextEncoder().encode('{}').buffer);
    const first = m.encodeTexts(buffers[0], ['a'], 256, { signal });
    controller.abort(new Error('enough'));
    const second = m.encodeTexts(buffers[1], ['a'], 256, { signal });
    return (await Promise.allSettled([first, second])).map(({ reason }) => reason.message);
    """
    assert engine("tokenizer", body) == ["enough", "enough"]
    assert_no_worker(engine_page)


# Refused -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ('{"model": ', "not JSON"),
        (b'{"model": "\xff"}', "not JSON"),
        ("[]", "no tokenizer"),
        ("{}", "no tokenizer"),
        ('{"model": {}}', "no tokenizer"),
        ('{"model": {"type": "BPE"}, "added_tokens": []}', "no vocabulary or no merges"),
    ],
)
def test_a_broken_file_is_told_to_be_broken(encode, content: str | bytes, message: str) -> None:
    name, code, said = encode(content, ["a"])
    assert (name, code) == ("TokenizerError", "broken")
    assert said.startswith("tokenizer.json: ")
    assert message in said


SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": False}
REPLACE = {"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("model", {"type": "Unigram"}, "Unigram"),
        ("model", {"dropout": 0.1}, "dropout"),
        ("model", {"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
        ("model", {"byte_fallback": False}, "single bytes"),
        ("model", {"vocab": {"a": 0}}, "single bytes"),
        ("normalizer", {"type": "NFKC"}, "NFKC"),
        ("normalizer", REPLACE, "Replace"),
        ("normalizer", {"type": "Sequence", "normalizers": [REPLACE]}, "Replace"),
        ("pre_tokenizer", {"type": "ByteLevel"}, "pre-tokenizer"),
        ("pre_tokenizer", {**SPLIT, "invert": True}, "pre-tokenizer"),
        ("pre_tokenizer", {**SPLIT, "behavior": "Contiguous"}, "pre-tokenizer"),
        ("pre_tokenizer", {**SPLIT, "pattern": {"Regex": " "}}, "pre-tokenizer"),
        ("post_processor", {"type": "ByteLevel"}, "ByteLevel"),
        ("added_tokens", [{"id": 0, "content": "<x>", "lstrip": True}], "<x>"),
    ],
)
def test_what_might_give_other_tokens_is_refused(encode, part: str, change, message: str) -> None:
    file = json.loads(gemma_like_file())
    file[part] = change if isinstance(change, list) else {**(file[part] or {}), **change}
    name, code, said = encode(json.dumps(file), ["a"])
    assert (name, code) == ("TokenizerError", "unsupported")
    assert message in said


@pytest.mark.parametrize("longest", [0, 1.5])
def test_a_length_that_leaves_no_room_is_refused(encode, longest: float) -> None:
    assert encode(gemma_like().to_str(), ["a"], longest)[1:] == [
        "broken", f"tokenizer.json: no text fits into {longest} tokens",
    ]  # fmt: skip


def test_a_worker_that_cannot_start_is_told(engine, engine_page: Page) -> None:
    engine_page.route("**/tokenizer-worker.js", lambda route: route.fulfill(status=404))
    body = "return m.encodeTexts(new ArrayBuffer(2), [], 9).catch((e) => [e.code, e.message]);"
    assert engine("tokenizer", body) == [
        "unavailable", "The tokenizer could not be started: not loaded.",
    ]  # fmt: skip
    engine_page.unroute("**/tokenizer-worker.js")


# At the real site --------------------------------------------------------------------------
def test_the_site_serves_the_worker_and_its_policy_lets_it_work(open_page, alice) -> None:
    page: Page = open_page(alice, "/stats/")
    ids = page.evaluate(
        """async (text) => {
          const { encodeTexts } = await import('/static/js/engine/tokenizer.js');
          const ids = await encodeTexts(new TextEncoder().encode(text).buffer, ['a cat'], 256);
          return [...ids[0]];
        }""",
        (EMOJI / "tokenizer/tokenizer.json").read_text(),
    )
    assert ids == load_tokenizer(EMOJI)("a cat")
