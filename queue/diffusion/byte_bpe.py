"""A small BPE tokenizer with byte fallback, of the kind Gemma uses, trained on given texts.

Any Unicode text can be encoded: what no merge covers becomes the tokens of its UTF-8 bytes. A
space becomes U+2581 and starts a piece, also before the first word, so that a word is the same
tokens wherever it stands. No start or end token is added: an empty prompt is zero tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL_TOKENS: Final = ("<pad>", "<eos>", "<bos>", "<unk>")
BYTE_TOKENS: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))
SPACE: Final = "\u2581"


def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of at most `vocabulary` tokens.

    Ids: 0-3 pad, eos, bos, unk; 4-259 the bytes; then characters and merges. Raises ValueError
    where `vocabulary` leaves no room for a merge.
    """
    reserved = len(SPECIAL_TOKENS) + len(BYTE_TOKENS)
    if vocabulary <= reserved:
        raise ValueError(f"vocabulary must be above {reserved}, got {vocabulary}")
    learner = _prepared(Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - reserved, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learned: dict[str, Any] = json.loads(learner.to_str())["model"]
    # Bytes enter as ordinary tokens: as special ones the literal text "<0x41>" would match them.
    tokens = [*SPECIAL_TOKENS, *BYTE_TOKENS, *sorted(learned["vocab"], key=learned["vocab"].get)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[(left, right) for left, right in learned["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    return _prepared(tokenizer)


def _prepared(tokenizer: Tokenizer) -> Tokenizer:
    """The same splitting before training and in use."""
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer
