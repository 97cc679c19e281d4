"""A model folder of a real PRX's exact shapes in no space: configurations, names, holes.

The weight files have a real header, and of their gigabytes nothing is ever written.
"""

import json
import os
import struct
from pathlib import Path
from typing import Any, Literal

import torch


def write_hollow_prx(
    path: Path, kind: Literal["F16", "F32"] = "F16", vae: Literal["kl", "dc-ae"] = "kl"
) -> Path:
    """Write the folder at `path` and return `path`. Values read as zeros; the Hub's are F32.

    vae: that of prx-1024-t2i-beta, or that of prx-512-t2i-dc-ae.
    """
    from diffusers import PRXTransformer2DModel
    from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    text = T5GemmaModuleConfig(
        vocab_size=256000,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=26,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        query_pre_attn_scalar=256,
    )
    text.dropout_rate = 0.0  # the module reads it, but its config class does not declare it
    text._attn_implementation = "eager"
    with torch.device("meta"):
        transformer = PRXTransformer2DModel(
            in_channels=16 if vae == "kl" else 32,
            patch_size=2 if vae == "kl" else 1,
            context_in_dim=2304,
            hidden_size=1792,
            mlp_ratio=3.5,
            num_heads=28,
            depth=16,
            axes_dim=[32, 32],
        )
        decoder = _kl() if vae == "kl" else _dc_ae()
        encoder = T5GemmaEncoder(text)
    _json(
        path / "model_index.json",
        {"_class_name": "PRXPipeline", "default_sample_size": 1024 if vae == "kl" else 512},
    )
    schedule = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    _json(path / "scheduler" / "scheduler_config.json", schedule)
    _json(path / "tokenizer" / "tokenizer.json", {})
    _json(path / "tokenizer" / "tokenizer_config.json", {"model_max_length": 256})
    _json(path / "text_encoder" / "config.json", {"encoder": json.loads(text.to_json_string())})
    for name, model in (("transformer", transformer), ("vae", decoder)):
        config = json.loads(json.dumps(dict(model.config), default=str))
        _json(path / name / "config.json", config | {"_class_name": type(model).__name__})
    for name, module, stem in (
        ("transformer", transformer, "diffusion_pytorch_model"),
        ("vae", decoder, "diffusion_pytorch_model"),
        ("text_encoder", encoder, "model"),
    ):
        shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        _holes(path / name / f"{stem}.safetensors", shapes, kind)
    return path


def _kl() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=16,
        norm_num_groups=32,
        sample_size=1024,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _dc_ae() -> Any:
    """As diffusers' scripts convert dc-ae-f32c32-sana-1.0."""
    from diffusers import AutoencoderDC

    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    channels = (128, 256, 512, 512, 1024, 1024)
    scales = ((),) * 3 + ((5,),) * 3
    return AutoencoderDC(
        latent_channels=32,
        attention_head_dim=32,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
        decoder_layers_per_block=(3, 3, 3, 3, 3, 3),
        encoder_qkv_multiscales=scales,
        decoder_qkv_multiscales=scales,
        upsample_block_type="interpolate",
        downsample_block_type="conv",
        scaling_factor=0.41407,
    )


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _holes(path: Path, shapes: dict[str, tuple[int, ...]], kind: str) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + int(kind[1:]) // 8 * torch.Size(shape).numel()
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + end)
