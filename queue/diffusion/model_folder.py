"""What a model folder says of itself: sizes, defaults, vocabulary. Reads JSON only.

A model folder has the diffusers layout of a PRX pipeline. It may also hold
- p2pweb.json: title, default_width, default_height, default_steps, default_guidance, min_side,
  max_side, examples
- vocabulary.json: names, colours, relations, words: what the model can draw
- preview.json: matrix (C x 3) and bias (3), from latent channels to RGB in 0..1

Does not load weights and never imports torch.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from diffusion.cleaning import clean_prompt

logger = logging.getLogger(__name__)

MODEL_INDEX: Final = "model_index.json"
PIPELINE_CLASS: Final = "PRXPipeline"
_DEFAULT_STEPS: Final = 28  # the model cards of PRX
_DEFAULT_GUIDANCE: Final = 5.0
_MIN_SIDE_IN_CELLS: Final = 4
_MOST_TOKENS: Final = 4096
# What diffusers takes for options that vae/config.json leaves out, as far as decoding needs them
_VAE_DEFAULTS: Final[Mapping[str, dict[str, Any]]] = {
    "AutoencoderKL": {
        "up_block_types": ["UpDecoderBlock2D"],
        "block_out_channels": [64],
        "layers_per_block": 1,
        "act_fn": "silu",
        "latent_channels": 4,
        "norm_num_groups": 32,
        "scaling_factor": 0.18215,
        "shift_factor": None,
    },
    "AutoencoderDC": {
        "in_channels": 3,
        "latent_channels": 32,
        "attention_head_dim": 32,
        "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
        "decoder_block_types": "ResBlock",
        "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
        "decoder_layers_per_block": [3, 3, 3, 3, 3, 3],
        "decoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
        "upsample_block_type": "pixel_shuffle",
        "decoder_norm_types": "rms_norm",
        "decoder_act_fns": "silu",
        "decoder_in_shortcut": True,
        "decoder_conv_act_fn": "relu",
        "scaling_factor": 1.0,
    },
}
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


class ModelFolderError(ValueError):
    """The folder is not a PRX pipeline that can be read; the message names file and reason."""


@dataclass(frozen=True)
class Vocabulary:
    """Words and names a model was trained on, in the lower case of cleaned prompts."""

    names: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @cached_property
    def known_words(self) -> frozenset[str]:
        """Every single word of every entry."""
        entries = (*self.names, *self.colours, *self.relations, *self.words)
        return frozenset(word for entry in entries for word in _WORD.findall(entry.lower()))


@dataclass(frozen=True)
class ModelFolder:
    """One model as the site and the workers need to know it. Sides are in pixels."""

    name: str
    path: Path
    title: str
    side_multiple: int
    min_side: int
    max_side: int
    default_width: int
    default_height: int
    default_steps: int
    default_guidance: float
    latent_channels: int
    vae_scale: int  # pixels per latent cell
    text_dim: int  # features per text token
    max_tokens: int  # of a prompt; 0 without a tokenizer that says so, which nothing can run
    examples: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    preview: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def conditioning_shape(self) -> tuple[range, int]:
        """(tokens, features) of an encoded text. It has no padding: any number up to the most."""
        return range(self.max_tokens + 1), self.text_dim

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(channels, rows, columns) of the latent of a picture of `width` x `height` pixels."""
        return (self.latent_channels, height // self.vae_scale, width // self.vae_scale)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the cleaned prompt that the vocabulary lacks, in order, each once.

        Empty for a model without a vocabulary. Numbers count as words.
        """
        if self.vocabulary is None:
            return []
        known = self.vocabulary.known_words
        words = _WORD.findall(clean_prompt(prompt))
        return list(dict.fromkeys(word for word in words if word not in known))


def find_models(*roots: Path) -> dict[str, ModelFolder]:
    """Every PRX folder directly below the roots, by name; an earlier root wins a name.

    Roots that do not exist hold nothing. A folder that claims to be a pipeline but cannot be read
    is logged and left out, so that one bad download does not hide the other models.
    """
    models: dict[str, ModelFolder] = {}
    for root in roots:
        if not root.is_dir():
            continue
        for path in sorted(root.iterdir()):
            if path.name in models:
                continue
            try:
                if not (path / MODEL_INDEX).is_file():
                    continue
                models[path.name] = read_model_folder(path)
            except (ModelFolderError, OSError) as error:  # OSError: not ours to look into
                _warn_once(path, str(error))
    return models


@lru_cache(maxsize=256)
def _warn_once(path: Path, reason: str) -> None:
    """Sites and workers look every few seconds."""
    logger.warning("%s is left out: %s", path, reason)


def read_model_folder(path: Path) -> ModelFolder:
    """Read one folder. Raises ModelFolderError when it is no PRX pipeline or contradicts itself."""
    path = path.resolve()
    index = read_json(path / MODEL_INDEX)
    if index.get("_class_name") != PIPELINE_CLASS:
        raise ModelFolderError(f"{MODEL_INDEX}: a {index.get('_class_name')}, not {PIPELINE_CLASS}")
    transformer = read_json(path / "transformer" / "config.json")
    vae = read_vae_config(path)
    about = read_json(path / "p2pweb.json") if (path / "p2pweb.json").is_file() else {}
    try:
        vae_scale = _vae_scale(vae)
        latent_channels = int(vae["latent_channels"])
        if latent_channels != transformer.get("in_channels", 16):
            raise ModelFolderError("the VAE and the transformer differ in their latent channels")
        multiple = vae_scale * int(transformer.get("patch_size", 2))
        native = _round_up(int(index.get("default_sample_size", 512)), multiple)
        folder = ModelFolder(
            name=path.name,
            path=path,
            title=str(about.get("title", path.name)),
            side_multiple=multiple,
            min_side=_round_up(int(about.get("min_side", _MIN_SIDE_IN_CELLS * multiple)), multiple),
            max_side=int(about.get("max_side", 2 * native)) // multiple * multiple,
            default_width=int(about.get("default_width", native)),
            default_height=int(about.get("default_height", native)),
            default_steps=int(about.get("default_steps", _DEFAULT_STEPS)),
            default_guidance=float(about.get("default_guidance", _DEFAULT_GUIDANCE)),
            latent_channels=latent_channels,
            vae_scale=vae_scale,
            text_dim=int(transformer.get("context_in_dim", 2304)),
            max_tokens=_max_tokens(path),
            examples=tuple(str(example) for example in about.get("examples", ())),
            vocabulary=_vocabulary(path),
            preview=_preview(path, latent_channels),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise ModelFolderError(f"its JSON lacks or garbles something: {error!r}") from error
    for side in (folder.default_width, folder.default_height):
        if side % multiple or not folder.min_side <= side <= folder.max_side:
            raise ModelFolderError(f"a default side of {side} is outside of its own limits")
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelFolderError, naming the file from its folder on."""
    where = f"{path.parent.name}/{path.name}"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFolderError(f"{where}: {error.strerror}") from error
    except ValueError as error:
        raise ModelFolderError(f"{where}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"{where}: not a JSON object")
    return value


def read_vae_config(path: Path) -> dict[str, Any]:
    """vae/config.json of a folder, and in it also what it leaves to diffusers' defaults.

    Raises ModelFolderError for a class of VAE that PRX does not have.
    """
    config = read_json(path / "vae" / "config.json")
    defaults = _VAE_DEFAULTS.get(str(config.get("_class_name")))
    if defaults is None:
        raise ModelFolderError(
            f"vae/config.json: PRX has no VAE of class {config.get('_class_name')}"
        )
    return defaults | config


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of one part of a model: one file, or those that its index names.

    `stem` is "diffusion_pytorch_model" (diffusers) or "model" (transformers). Raises
    ModelFolderError for an index that names a file elsewhere; the files need not exist.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [folder / f"{stem}.safetensors"]
    names = sorted(set(read_json(index)["weight_map"].values()))
    if any(Path(name).name != name for name in names):
        raise ModelFolderError(f"{folder.name}/{index.name} names a file outside of its folder")
    return [folder / name for name in names]


def _vae_scale(config: Mapping[str, Any]) -> int:
    kl = config["_class_name"] == "AutoencoderKL"
    levels = config["block_out_channels" if kl else "encoder_block_out_channels"]
    return int(2 ** (len(levels) - 1))


def _max_tokens(path: Path) -> int:
    config = path / "tokenizer" / "tokenizer_config.json"
    if not config.is_file():
        return 0
    tokens = int(read_json(config).get("model_max_length", 0))
    return tokens if tokens <= _MOST_TOKENS else 0  # "no limit" is written as 1e30


def _vocabulary(path: Path) -> Vocabulary | None:
    if not (path / "vocabulary.json").is_file():
        return None
    lists = read_json(path / "vocabulary.json")
    return Vocabulary(
        **{
            key: tuple(str(entry) for entry in lists.get(key, ()))
            for key in ("names", "colours", "relations", "words")
        }
    )


def _preview(path: Path, channels: int) -> Mapping[str, Any] | None:
    if not (path / "preview.json").is_file():
        return None
    preview = read_json(path / "preview.json")
    matrix, bias = preview["matrix"], preview["bias"]
    if len(matrix) != channels or len(bias) != 3 or any(len(row) != 3 for row in matrix):
        raise ModelFolderError(f"preview.json: not a {channels} x 3 matrix and 3 biases")
    return preview


def _round_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple
