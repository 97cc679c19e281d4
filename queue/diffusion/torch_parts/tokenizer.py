"""Token ids of a cleaned prompt, as the folder's own tokenizer makes them, without padding."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from diffusion.model_folder import ModelFolderError, read_json

# Classes that add nothing to tokenizer.json, so that transformers need not be imported
_PLAIN_CLASSES: Final = ("PreTrainedTokenizerFast", "TokenizersBackend")
_LONGEST: Final = 4096  # "no limit" is written as 1e30, for which PRX could not pad either

Tokenize = Callable[[str], list[int]]


def load_tokenizer(folder: Path) -> Tokenize:
    """A function from a cleaned prompt to at most `model_max_length` ids.

    Raises ModelFolderError for a tokenizer without a maximal length.
    """
    path = folder / "tokenizer"
    config = read_json(path / "tokenizer_config.json")
    longest = config.get("model_max_length", _LONGEST + 1)
    if longest > _LONGEST:
        raise ModelFolderError("tokenizer/tokenizer_config.json: no model_max_length")
    if config.get("tokenizer_class") not in _PLAIN_CLASSES:
        return _with_transformers(path, longest)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return lambda text: list(tokenizer.encode(text).ids)


def _with_transformers(path: Path, longest: int) -> Tokenize:
    """Gemma's own class adds BOS or EOS by rules of its own: ask transformers."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, truncation=True, max_length=longest)["input_ids"]
        return ids

    return tokenize
