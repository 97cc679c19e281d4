"""Packs a model as large as prx-1024 and measures what it takes.

    python benchmarks/pack_large.py [--dtypes int8,int4] [--folder FOLDER]

Without a folder one is made with the exact shapes of prx-1024-t2i-beta (transformer, T5Gemma-2B
encoder, Flux VAE) in f32: 15.5 GB of sparse files, which read as zeros and take no disk. Packing
costs the same whatever the numbers are. Each variant is packed by a process of its own. Prints
JSON: bytes in and out, seconds, peak resident memory in MB.
"""

import argparse
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--dtypes", default="f16,int8,int4", help="variants, by commas")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # variant, out
    options = parser.parse_args()
    if options.one:
        pack_one(options.folder, *options.one)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or write_sparse_folder(Path(scratch) / "prx-1024")
        for variant in options.dtypes.split(","):
            with tempfile.TemporaryDirectory() as out:
                command = [
                    sys.executable, __file__, "--folder", str(folder), "--one", variant,
                    f"{out}/package",
                ]  # fmt: skip
                subprocess.run(command, check=True)


def pack_one(folder: Path, variant: str, out: str) -> None:
    from diffusion.packaging.manifest import dtypes_of
    from diffusion.packaging.pack import pack_model
    from diffusion.packaging.source import folder_weights

    source = sum(weight.nbytes for weight in folder_weights(folder))
    started = time.monotonic()
    packed = pack_model(folder, Path(out), dtypes_of(variant))
    numbers = {
        "variant": variant,
        "bytes_in": source,
        "bytes_out": sum(
            piece.nbytes for t in packed.manifest.tensors.values() for piece in t.pieces
        ),
        "shards": len(packed.manifest.shards),
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(numbers), flush=True)


def write_sparse_folder(path: Path) -> Path:
    """A PRX folder of zeros in the shapes of prx-1024-t2i-beta."""
    import torch
    from diffusers import AutoencoderKL, PRXTransformer2DModel
    from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    with torch.device("meta"):
        transformer = PRXTransformer2DModel(
            in_channels=16, patch_size=2, context_in_dim=2304, hidden_size=1792, mlp_ratio=3.5,
            num_heads=28, depth=16, axes_dim=[32, 32],
        )  # fmt: skip
        encoder_config = T5GemmaModuleConfig(
            vocab_size=256000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26,
            num_attention_heads=8, num_key_value_heads=4, head_dim=256,
        )  # fmt: skip
        encoder_config.dropout_rate = 0.0
        encoder_config._attn_implementation = "eager"
        encoder = T5GemmaEncoder(encoder_config)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2, latent_channels=16, norm_num_groups=32, sample_size=1024,
            use_quant_conv=False, use_post_quant_conv=False,
        )  # fmt: skip
    write_json(
        path / "model_index.json", {"_class_name": "PRXPipeline", "default_sample_size": 1024}
    )
    write_json(path / "scheduler/scheduler_config.json", {"shift": 3.0})
    write_json(path / "tokenizer/tokenizer_config.json", {"model_max_length": 256})
    write_json(path / "tokenizer/tokenizer.json", {})
    write_json(path / "text_encoder/config.json", {"encoder": {"hidden_size": 2304}})
    for part, module in (("transformer", transformer), ("vae", vae)):
        config = {k: v for k, v in dict(module.config).items() if not k.startswith("_")}
        write_json(path / part / "config.json", config | {"_class_name": type(module).__name__})
        write_sparse_weights(path / part / "diffusion_pytorch_model.safetensors", module)
    write_sparse_weights(path / "text_encoder/model.safetensors", encoder)
    return path


def write_sparse_weights(path: Path, module: Any) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in module.state_dict().items():
        size = 4 * tensor.numel()
        header[name] = {
            "dtype": "F32", "shape": list(tensor.shape), "data_offsets": [end, end + size],
        }  # fmt: skip
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


if __name__ == "__main__":
    main()
