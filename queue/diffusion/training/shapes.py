"""The shapes of PRX-Emoji's parts. Same architecture as PRX-1024 in every part, only smaller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PRXTransformer2DModel
from transformers import T5GemmaConfig, T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

LATENT_CHANNELS = 16
VAE_SCALE = 8
VOCABULARY = 3072


@dataclass(frozen=True)
class Widths:
    """What makes the model small or large; the defaults are the shipped model's."""

    hidden: int = 256
    depth: int = 12
    text_layers: int = 4
    vae_channels: tuple[int, ...] = (32, 64, 128, 128)
    vae_groups: int = 16


def make_text_encoder(widths: Widths, vocabulary: int) -> T5GemmaEncoder:
    """T5Gemma's encoder with `widths.hidden` features and heads of 64."""
    heads = widths.hidden // 64
    config = T5GemmaModuleConfig(
        vocab_size=vocabulary,
        hidden_size=widths.hidden,
        intermediate_size=widths.hidden * 3,
        num_hidden_layers=widths.text_layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        head_dim=64,
        query_pre_attn_scalar=64,
        max_position_embeddings=256,
        sliding_window=4096,
    )
    config.dropout_rate = 0.0
    config._attn_implementation = "eager"
    return T5GemmaEncoder(config)


def make_transformer(widths: Widths) -> PRXTransformer2DModel:
    """PRX's transformer, initialised so that every block starts as the identity."""
    model = PRXTransformer2DModel(
        in_channels=LATENT_CHANNELS,
        patch_size=2,
        context_in_dim=widths.hidden,
        hidden_size=widths.hidden,
        mlp_ratio=3.5,
        num_heads=widths.hidden // 64,
        depth=widths.depth,
        axes_dim=[32, 32],
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    closed = [block.modulation.lin for block in model.blocks]
    closed += [model.final_layer.linear, model.final_layer.adaLN_modulation[1]]
    for linear in closed:
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    return model


def make_vae(widths: Widths) -> AutoencoderKL:
    """A Flux-type autoencoder: 16 latent channels, 8x, no quant convolutions."""
    levels = len(widths.vae_channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=widths.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=widths.vae_groups,
        sample_size=256,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def load_parts(folder: Path) -> tuple[T5GemmaEncoder, PRXTransformer2DModel, AutoencoderKL]:
    """The parts of a written model folder in f32, ready to be trained on or sampled from."""
    # The folder holds the composite config; the encoder alone wants its own part of it.
    config = T5GemmaConfig.from_pretrained(folder / "text_encoder").encoder
    config.dropout_rate = 0.0
    encoder = T5GemmaEncoder.from_pretrained(
        folder / "text_encoder", config=config, dtype=torch.float32, attn_implementation="eager"
    )
    transformer = PRXTransformer2DModel.from_pretrained(folder / "transformer", dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32)
    return encoder, transformer, vae
