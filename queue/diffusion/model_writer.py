"""Writes a PRX pipeline as a folder in the diffusers layout.

- model_index.json, transformer/, vae/, text_encoder/, tokenizer/, scheduler/
- weights as safetensors files below a size limit, with an index when there are several
- a text encoder config that `PRXPipeline.from_pretrained` and transformers both read right

Does not know where the weights come from (training or random numbers), nor how to run them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn

MIB: Final = 1024 * 1024
MAX_SHARD_BYTES: Final = 16 * MIB
_HEADER_BYTES_PER_TENSOR: Final = 256  # a safetensors header names every tensor in JSON


def write_model_folder(
    path: Path,
    transformer: Any,
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    scheduler: Any,
    dtype: torch.dtype = torch.float16,
    max_shard: int = MAX_SHARD_BYTES,
    default_sample_size: int = 256,
) -> None:
    """Write a folder that `diffusers.PRXPipeline.from_pretrained` loads without further arguments.

    transformer: `PRXTransformer2DModel`; vae: `AutoencoderKL` or `AutoencoderDC`; text_encoder:
    `T5GemmaEncoder`; tokenizer: a transformers tokenizer backed by `tokenizers`; scheduler:
    `FlowMatchEulerDiscreteScheduler`. Weights are stored as `dtype`, in files of at most
    `max_shard` bytes. `default_sample_size` is the native side in pixels.

    Raises ValueError for a weight larger than `max_shard`, for a non-finite weight (also one that
    overflows in `dtype`), and for a tokenizer that does not pad on the right.
    """
    if tokenizer.padding_side != "right":
        raise ValueError(f"PRX needs right padding, the tokenizer pads {tokenizer.padding_side}")
    path.mkdir(parents=True, exist_ok=True)
    for name, module in (("transformer", transformer), ("vae", vae)):
        config = {
            **_plain(dict(module.config)),
            "_class_name": type(module).__name__,
            "_diffusers_version": _diffusers_version(),
        }
        _write_json(path / name / "config.json", config)
        _write_weights(path / name, "diffusion_pytorch_model", module, dtype, max_shard)

    _write_json(path / "text_encoder" / "config.json", text_encoder_config(text_encoder))
    _write_weights(path / "text_encoder", "model", text_encoder, dtype, max_shard)
    tokenizer.save_pretrained(path / "tokenizer")
    scheduler.save_pretrained(path / "scheduler")
    _write_json(
        path / "model_index.json",
        {
            "_class_name": "PRXPipeline",
            "_diffusers_version": _diffusers_version(),
            "default_sample_size": default_sample_size,
            "scheduler": ["diffusers", type(scheduler).__name__],
            # diffusers' own class. As ["transformers", ...] it loads only if transformers happens
            # to be imported after diffusers, which patches its class into the module.
            "text_encoder": ["prx", "T5GemmaEncoder"],
            "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
            "transformer": ["diffusers", type(transformer).__name__],
            "vae": ["diffusers", type(vae).__name__],
        },
    )


def transformers_tokenizer(tokenizer: Tokenizer, max_length: int = 256) -> Any:
    """The tokenizer as transformers' class, as PRX calls it: padded on the right to `max_length`.

    The tokenizer must hold the tokens <pad>, <eos>, <bos> and <unk>.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="right",
        model_max_length=max_length,
    )


def text_encoder_config(text_encoder: Any) -> dict[str, Any]:
    """The config.json of a T5Gemma encoder that loads again.

    `T5GemmaEncoder.save_pretrained` writes the flat module config, which `from_pretrained` then
    takes for the default 2 B model. The loader wants the composite config, whose `encoder` part
    describes the weights; the `decoder` part must exist but describes nothing here.
    """
    encoder = text_encoder.config.to_dict()
    for key in ("architectures", "transformers_version", "_name_or_path"):
        encoder.pop(key, None)
    encoder |= {
        "dtype": "float32",
        "dropout_rate": 0.0,
        "attention_dropout": 0.0,
        "is_decoder": False,
    }
    decoder = encoder | {"is_decoder": True, "cross_attention_hidden_size": encoder["hidden_size"]}
    return {
        "architectures": ["T5GemmaEncoder"],
        "model_type": "t5gemma",
        "is_encoder_decoder": False,
        "dropout_rate": 0.0,
        "attention_dropout": 0.0,
        "vocab_size": encoder["vocab_size"],
        "dtype": "float32",
        "encoder": _plain(encoder),
        "decoder": _plain(decoder),
    }


def _write_weights(
    folder: Path, stem: str, module: nn.Module, dtype: torch.dtype, max_shard: int
) -> None:
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in module.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{folder.name}: {name} is not finite in {dtype}")
    for stale in folder.glob(f"{stem}*.safetensors*"):
        stale.unlink()
    shards = list(_split(tensors, max_shard))
    if len(shards) == 1:
        _save(shards[0], folder / f"{stem}.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file_name = f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        _save(shard, folder / file_name)
        weight_map |= dict.fromkeys(shard, file_name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    _write_json(
        folder / f"{stem}.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": weight_map},
    )


def _split(
    tensors: Mapping[str, torch.Tensor], max_shard: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Cut the tensors, in their order, into groups whose files stay within `max_shard` bytes."""
    shard: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        cost = tensor.nbytes + _HEADER_BYTES_PER_TENSOR
        if cost > max_shard:
            raise ValueError(
                f"{name} needs {tensor.nbytes} bytes, more than a file may have ({max_shard})"
            )
        if size + cost > max_shard:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += cost
    yield shard


def _save(shard: dict[str, torch.Tensor], path: Path) -> None:
    save_file(shard, path, {"format": "pt"})  # transformers refuses a file without a format
    path.chmod(0o644)  # safetensors makes files that only their owner may read


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Only what describes the architecture: no private notes of the library, JSON types alone."""
    kept = {key: value for key, value in config.items() if not key.startswith("_")}
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def _diffusers_version() -> str:
    import diffusers

    return str(diffusers.__version__)
