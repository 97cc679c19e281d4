"""Model folders with random weights: every part real, nothing learned.

For tests and benchmarks. All modulation is away from zero (diffusers starts it at zero, where each
block is the identity and every comparison would be empty).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from diffusion import byte_bpe
from diffusion.model_writer import MAX_SHARD_BYTES, transformers_tokenizer, write_model_folder

_TEXTS = (
    "a red apple on a white background",
    "a big cat left of a small dog on a green background",
    "a rocket above a full moon on a black background",
    "a snowman below a crown and a banana on a blue to pink gradient background",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a random model. The defaults are the smallest that still exercise every part."""

    hidden: int = 64
    depth: int = 2
    heads: int = 2
    axes: tuple[int, int] = (16, 16)
    mlp_ratio: float = 3.5
    text_layers: int = 2
    text_hidden: int = 48
    text_heads: int = 4
    text_kv_heads: int = 2
    text_head_dim: int = 16
    text_mlp: int = 96
    vocab_size: int = 448
    vae: Literal["kl", "dc-ae"] = "kl"
    vae_channels: tuple[int, ...] = (16, 16, 32, 32)
    vae_layers: int = 1
    vae_groups: int = 8
    sample_size: int = 256


# The shape of PRX-Emoji, for measuring speed
EMOJI_SHAPE = Shape(
    hidden=256,
    depth=12,
    heads=4,
    axes=(32, 32),
    text_layers=4,
    text_hidden=256,
    text_heads=4,
    text_kv_heads=2,
    text_head_dim=64,
    text_mlp=768,
    vae_channels=(32, 64, 128, 128),
    vae_groups=16,
)

# DC-AE (32 channels, 32 times smaller, patch 1), with every kind of block it has
DC_AE_SHAPE = Shape(vae="dc-ae", vae_channels=(16, 16, 16, 32, 32, 32))


def write_random_model(
    path: Path,
    shape: Shape | None = None,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    max_shard: int = MAX_SHARD_BYTES,
) -> Path:
    """Write a diffusers PRX folder of the given shape at `path` and return `path`.

    The same seed gives the same weights. torch's global random state is left as it was.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    shape = shape or Shape()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = _vae(shape)
        transformer = _transformer(shape)
        text_encoder = _text_encoder(shape)
    write_model_folder(
        path,
        transformer,
        vae,
        text_encoder,
        transformers_tokenizer(byte_bpe.train(_TEXTS, shape.vocab_size)),
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        dtype=dtype,
        max_shard=max_shard,
        default_sample_size=shape.sample_size,
    )
    return path


def _transformer(shape: Shape) -> Any:
    from diffusers import PRXTransformer2DModel

    deep_compression = shape.vae == "dc-ae"
    model = PRXTransformer2DModel(
        in_channels=32 if deep_compression else 16,
        patch_size=1 if deep_compression else 2,
        context_in_dim=shape.text_hidden,
        hidden_size=shape.hidden,
        mlp_ratio=shape.mlp_ratio,
        num_heads=shape.heads,
        depth=shape.depth,
        axes_dim=list(shape.axes),
    )
    spread = shape.hidden**-0.5
    for name, parameter in model.named_parameters():
        if "modulation" in name:
            nn.init.normal_(parameter, std=spread if parameter.ndim > 1 else 0.3)
        elif parameter.ndim == 1:  # biases around 0, norm weights around 1
            centre = float(name.endswith(("norm_q.weight", "norm_k.weight", "added_k.weight")))
            nn.init.normal_(parameter, mean=centre, std=0.1)
        else:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model.eval()


def _text_encoder(shape: Shape) -> Any:
    from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    config = T5GemmaModuleConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.text_hidden,
        intermediate_size=shape.text_mlp,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_heads,
        num_key_value_heads=shape.text_kv_heads,
        head_dim=shape.text_head_dim,
        query_pre_attn_scalar=shape.text_head_dim,
    )
    config.dropout_rate = 0.0  # the module reads it, but its config class does not declare it
    config._attn_implementation = "eager"  # soft-capped logits exist in no other implementation
    model = T5GemmaEncoder(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.1)
        elif "embed_tokens" not in name:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model.eval()


def _vae(shape: Shape) -> Any:
    from diffusers import AutoencoderDC, AutoencoderKL

    sizes = shape.vae_channels
    model: Any
    if shape.vae == "kl":
        model = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(sizes),
            up_block_types=("UpDecoderBlock2D",) * len(sizes),
            block_out_channels=sizes,
            layers_per_block=shape.vae_layers,
            latent_channels=16,
            norm_num_groups=shape.vae_groups,
            sample_size=shape.sample_size,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    else:
        half = len(sizes) // 2
        blocks = ("ResBlock",) * half + ("EfficientViTBlock",) * (len(sizes) - half)
        scales = ((),) * half + ((5,),) * (len(sizes) - half)
        model = AutoencoderDC(
            latent_channels=32,
            attention_head_dim=16,
            encoder_block_types=blocks,
            decoder_block_types=blocks,
            encoder_block_out_channels=sizes,
            decoder_block_out_channels=sizes,
            encoder_layers_per_block=(1,) * len(sizes),
            decoder_layers_per_block=(1,) * len(sizes),
            encoder_qkv_multiscales=scales,
            decoder_qkv_multiscales=scales,
            upsample_block_type="interpolate",
            downsample_block_type="conv",
            scaling_factor=0.41407,
        )
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # biases around 0, norm weights around 1
                centre = float("norm" in name and name.endswith(".weight"))
                nn.init.normal_(parameter, mean=centre, std=0.1)
    return model.eval()
