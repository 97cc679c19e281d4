"""T5Gemma's encoder as a stage of a plan: `encode`, from rows of the embedding to features.

The embedding itself stays with the host, which picks the rows of a prompt's tokens: of the 2 B
encoder's 5.2 GB (f16) these 1.2 GB need never reach the device.
Source: transformers' models/t5gemma/modeling_t5gemma.py. One prompt at a time, no padding.
"""

from pathlib import Path
from typing import Any, Final

from diffusion.model_folder import ModelFolderError, read_json
from diffusion.plan import kernels, tiles
from diffusion.plan.builder import PlanBuilder, Recipe, StageBuilder
from diffusion.plan.rotations import turns_f32
from diffusion.plan.weights import FolderTensors

COMPONENT: Final = "text_encoder"
_THETA: Final = 10000.0


class TextEncoderCompiler:
    """Compiles the encoder of a folder. Raises ModelFolderError for one it does not know."""

    def __init__(self, folder: Path, tensors: FolderTensors, plan: PlanBuilder) -> None:
        config = read_json(folder / "text_encoder" / "config.json")
        config = config.get("encoder", config)
        _refuse_unknown(config)
        self._plan = plan
        self._heads = int(config["num_attention_heads"])
        self._kv_heads = int(config["num_key_value_heads"])
        self._head_dim = int(config["head_dim"])
        self._eps = float(config.get("rms_norm_eps", 1e-6))
        self._scale = float(config["query_pre_attn_scalar"]) ** -0.5
        self._soft_cap = float(config.get("attn_logit_softcapping", 50.0) or 0.0)
        self._layers = int(config["num_hidden_layers"])
        self._inner = int(config["intermediate_size"])
        rope = config.get("rope_parameters") or {}
        self._theta = float(rope.get("rope_theta", config.get("rope_theta", _THETA)))
        self._vocabulary, self._width = tensors.shape("embed_tokens.weight")
        self._tokens = plan.symbols["T"].largest
        window = config.get("sliding_window")
        if window is not None and self._tokens >= window:
            raise ModelFolderError(f"{self._tokens} tokens do not fit the window of {window}")

    def compile(self) -> dict[str, Any]:
        """Add the stage; what the host must know of it."""
        plan, width = self._plan, self._width
        embedding = plan.weight(
            "text_encoder.embedding",
            (self._vocabulary, width),
            self._recipe("embed_tokens.weight"),
            "rows",
        )
        plan.weight(
            "text_encoder.turns",
            (self._tokens * self._head_dim,),
            Recipe(computed=turns_f32(self._tokens, self._head_dim, self._theta)),
        )
        stage = plan.stage("encode")
        stage.tensor("token_rows", ("T", width), "input", plan.weights[embedding].row_type)
        stage.tensor("text_hidden", ("T", width), "state")
        stage.tensor("features", ("T", width), "output")
        stage.segment("begin")
        kernels.embed(
            stage, "token_rows", "text_hidden", count4=f"T * {width // 4}", scale=width**0.5
        )
        for number in range(self._layers):
            stage.segment(f"layer.{number}")
            self._layer(stage, number)
        stage.segment("end")
        self._norm(stage, "text_hidden", "norm", "features")
        stage.finish()
        return {"embedding": embedding, "width": width}

    def _layer(self, stage: StageBuilder, number: int) -> None:
        width, inner = self._width, self._inner
        row_heads = self._heads + 2 * self._kv_heads
        joint = self._heads * self._head_dim
        layer = f"layers.{number}"

        normal = stage.tensor("normal", ("T", width))
        self._norm(stage, "text_hidden", f"{layer}.pre_self_attn_layernorm", normal)
        qkv = stage.tensor("qkv", ("T", row_heads, self._head_dim))
        self._matmul(
            stage,
            normal,
            f"{layer}.qkv",
            qkv,
            row_heads * self._head_dim,
            width,
            *(f"{layer}.self_attn.{which}_proj.weight" for which in "qkv"),
        )
        kernels.rope_half(
            stage,
            qkv,
            "text_encoder.turns",
            rows="T",
            heads=self._heads + self._kv_heads,
            row_heads=row_heads,
            head_dim=self._head_dim,
        )
        mixed = stage.tensor("mixed", ("T", joint))
        kernels.attention(
            stage,
            qkv,
            mixed,
            batch=1,
            length="T",
            heads=self._heads,
            kv_heads=self._kv_heads,
            head_dim=self._head_dim,
            scale=self._scale,
            soft_cap=self._soft_cap,
        )
        joined = stage.tensor("joined", ("T", width))
        out = f"{layer}.self_attn.o_proj.weight"
        self._matmul(stage, mixed, f"{layer}.out", joined, width, joint, out)
        self._norm(stage, joined, f"{layer}.post_self_attn_layernorm", "text_hidden", add=True)

        normal = stage.tensor("normal", ("T", width))
        self._norm(stage, "text_hidden", f"{layer}.pre_feedforward_layernorm", normal)
        widened = stage.tensor("widened", ("T", inner))
        self._matmul(
            stage,
            normal,
            f"{layer}.gate_up",
            widened,
            2 * inner,
            width,
            f"{layer}.mlp.gate_proj.weight",
            f"{layer}.mlp.up_proj.weight",
            paired=True,
        )
        joined = stage.tensor("joined", ("T", width))
        down = f"{layer}.mlp.down_proj.weight"
        self._matmul(stage, widened, f"{layer}.down", joined, width, inner, down)
        self._norm(stage, joined, f"{layer}.post_feedforward_layernorm", "text_hidden", add=True)

    def _matmul(
        self,
        stage: StageBuilder,
        left: str,
        name: str,
        output: str,
        columns: int,
        inner: int,
        *sources: str,
        paired: bool = False,
    ) -> None:
        recipe = self._recipe(*sources, interleave=4 if paired else 0)
        weight = self._plan.weight(f"text_encoder.{name}", (columns, inner), recipe)
        kernels.matmul(
            stage,
            left,
            weight,
            output,
            rows="T",
            columns=columns,
            inner=inner,
            paired=paired,
            tile=tiles.SMALL_TILE,
        )

    def _norm(
        self, stage: StageBuilder, rows: str, name: str, output: str, *, add: bool = False
    ) -> None:
        gain = self._plan.weight(
            f"text_encoder.{name}", (self._width,), self._recipe(f"{name}.weight")
        )
        # The stored gain is a difference from 1
        kernels.rms_norm(
            stage, rows, gain, output, rows="T", width=self._width, eps=self._eps, plus=1, add=add
        )

    def _recipe(self, *names: str, interleave: int = 0) -> Recipe:
        return Recipe(COMPONENT, names, interleave=interleave)


def _refuse_unknown(config: dict[str, Any]) -> None:
    problems = []
    if config.get("hidden_activation", "gelu_pytorch_tanh") != "gelu_pytorch_tanh":
        problems.append(f"hidden_activation {config['hidden_activation']}")
    if config.get("attention_bias"):
        problems.append("attention_bias")
    kind = (config.get("rope_parameters") or {}).get("rope_type", "default")
    if kind != "default":
        problems.append(f"rope_type {kind}")
    needed = (
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "num_hidden_layers",
        "intermediate_size",
        "query_pre_attn_scalar",
    )
    problems += [f"no {key}" for key in needed if key not in config]
    if problems:
        raise ModelFolderError(f"text_encoder/config.json: {', '.join(problems)}")
