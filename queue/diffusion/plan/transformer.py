"""PRX's transformer as four stages of a plan.

- `prepare`: keys and values of the texts for every block, once a prompt
- `modulation`: shifts, scales and gates of every block and step, once a schedule
- `denoise`: from a latent to its velocities, cut between blocks; 8 dispatches a block
- `advance`: the Euler step, along the guided velocity

Source: diffusers' models/transformers/transformer_prx.py. B halves of guidance are one batch: rows
of the same matrix products, each attending to its own text, whose length `text_lengths` says.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np

from diffusion.model_folder import ModelFolderError, read_json
from diffusion.plan import kernels, tiles
from diffusion.plan.builder import PlanBuilder, Recipe, StageBuilder
from diffusion.plan.rotations import turns
from diffusion.plan.weights import FolderTensors

COMPONENT: Final = "transformer"
_EPS: Final = 1e-6
_TIME_FEATURES: Final = 256
_UNSUPPORTED: Final = ("bottleneck_size", "resolution_embeds")
_WIDE: Final = 1024  # features from which on large tiles have enough to do


class TransformerCompiler:
    """Compiles the transformer of a folder. Raises ModelFolderError for one it does not know."""

    def __init__(self, folder: Path, tensors: FolderTensors, plan: PlanBuilder) -> None:
        config = read_json(folder / "transformer" / "config.json")
        for option in _UNSUPPORTED:
            if config.get(option):
                raise ModelFolderError(f"transformer/config.json: {option} is not supported")
        self._plan = plan
        self._patch = int(config.get("patch_size", 2))
        self._heads = int(config.get("num_heads", 28))
        self._depth = int(config.get("depth", 16))
        self._channels = int(config.get("in_channels", 16))
        self._theta = float(config.get("theta", 10000))
        self._axes: list[int] = config.get("axes_dim") or [32, 32]
        self._time = {
            "features": _TIME_FEATURES,
            "factor": float(config.get("time_factor", 1000.0)),
            "max_period": float(config.get("time_max_period", 10000)),
        }
        self._width, self._features = tensors.shape("img_in.weight")
        self._text_width = tensors.shape("txt_in.weight")[1]
        self._inner = tensors.shape("blocks.0.gate_proj.weight")[0]
        self._head_dim = self._width // self._heads
        for name, value, multiple in (
            ("hidden_size", self._width, 4 * self._heads),
            ("the MLP's width", self._inner, 4),
            ("features of a patch", self._features, 4),
            ("axes_dim", self._axes[0], 4),
        ):
            if value % multiple:
                raise ModelFolderError(f"transformer: {name} {value}, no multiple of {multiple}")
        self._tile = tiles.TILE if self._width >= _WIDE else tiles.SMALL_TILE

    def compile(self) -> dict[str, Any]:
        """Add the stages; what the host must know of them."""
        self._prepare()
        self._modulation()
        self._denoise()
        self._advance()
        return {
            "depth": self._depth,
            "patch": self._patch,
            "channels": self._channels,
            "text_width": self._text_width,
            "time": self._time,
        }

    def _prepare(self) -> None:
        stage = self._plan.stage("prepare")
        stage.tensor("text", ("B", "T", self._text_width), "input")
        stage.tensor("text_in", ("B", "T", self._width), "state")
        for block in range(self._depth):
            stage.tensor(f"text_kv.{block}", ("B", "T", 2 * self._width), "output")
        stage.segment("begin")
        weight, bias = self._linear("txt_in", self._width, self._text_width)
        kernels.matmul(
            stage,
            "text",
            weight,
            "text_in",
            rows="B * T",
            columns=self._width,
            inner=self._text_width,
            bias=bias,
            tile=tiles.SMALL_TILE,
        )
        for block in range(self._depth):
            stage.segment(f"block.{block}")
            name = f"blocks.{block}.attention"
            kernels.matmul(
                stage,
                "text_in",
                self._matrix(f"{name}.txt_kv_proj", 2 * self._width, self._width),
                f"text_kv.{block}",
                rows="B * T",
                columns=2 * self._width,
                inner=self._width,
                tile=tiles.SMALL_TILE,
            )
            kernels.head_norm(
                stage,
                f"text_kv.{block}",
                self._vector(f"{name}.norm_added_k", self._head_dim),
                rows="B * T",
                heads=self._heads,
                row_heads=2 * self._heads,
                head_dim=self._head_dim,
                eps=_EPS,
            )
        stage.finish()

    def _modulation(self) -> None:
        stage = self._plan.stage("modulation")
        stage.tensor("waves", ("S", _TIME_FEATURES), "input")
        stage.tensor("moment", ("S", self._width), "state")
        for block in range(self._depth):
            stage.tensor(f"modulation.{block}", ("S", 6 * self._width), "output")
        stage.tensor("modulation.last", ("S", 2 * self._width), "output")
        stage.segment("begin")
        inner = stage.tensor("inner", ("S", self._width))
        self._time_layer(stage, "waves", "time_in.in_layer", inner, _TIME_FEATURES)
        self._time_layer(stage, inner, "time_in.out_layer", "moment", self._width)
        for block in range(self._depth):
            stage.segment(f"block.{block}")
            name = f"blocks.{block}.modulation.lin"
            self._table(stage, name, f"modulation.{block}", 6 * self._width)
        stage.segment("end")
        name = "final_layer.adaLN_modulation.1"
        self._table(stage, name, "modulation.last", 2 * self._width)
        stage.finish()

    def _time_layer(
        self, stage: StageBuilder, left: str, name: str, output: str, inner: int
    ) -> None:
        weight, bias = self._linear(name, self._width, inner)
        kernels.matmul(
            stage,
            left,
            weight,
            output,
            rows="S",
            columns=self._width,
            inner=inner,
            bias=bias,
            silu=True,
            tile=tiles.SMALL_TILE,
        )

    def _table(self, stage: StageBuilder, name: str, output: str, columns: int) -> None:
        weight, bias = self._linear(name, columns, self._width)
        kernels.matmul(
            stage,
            "moment",
            weight,
            output,
            rows="S",
            columns=columns,
            inner=self._width,
            bias=bias,
            tile=tiles.SMALL_TILE,
        )

    def _denoise(self) -> None:
        plan, width = self._plan, self._width
        places = max(plan.symbols["H"].largest, plan.symbols["W"].largest) // self._patch
        for axis, size in zip(("row", "column"), self._axes, strict=True):
            recipe = Recipe(computed=turns(places, size, self._theta))
            plan.weight(f"transformer.{axis}_turns", (places * size,), recipe)
        stage = plan.stage("denoise")
        stage.tensor("latent", (self._channels, "H", "W"), "input")
        stage.tensor("step", (1,), "input", "u32")
        stage.tensor("text_lengths", ("B",), "input", "u32")
        for block in range(self._depth):
            stage.tensor(f"text_kv.{block}", ("B", "T", 2 * width), "input")
            stage.tensor(f"modulation.{block}", ("S", 6 * width), "input")
        stage.tensor("modulation.last", ("S", 2 * width), "input")
        stage.tensor("hidden", ("B", "L", width), "state")
        stage.tensor("velocity", ("B", self._channels, "H", "W"), "output")
        grid: dict[str, Any] = {
            "channels": self._channels,
            "rows": "H",
            "columns": "W",
            "batch": "B",
            "patch": self._patch,
        }

        stage.segment("begin")
        patches = stage.tensor("patches", ("B", "L", self._features))
        kernels.patchify(stage, "latent", patches, **grid)
        weight, bias = self._linear("img_in", width, self._features)
        self._matmul(stage, patches, weight, "hidden", width, self._features, bias=bias)
        for block in range(self._depth):
            stage.segment(f"block.{block}")
            self._block(stage, block)
        stage.segment("end")
        normal = stage.tensor("normal", ("B", "L", width))
        self._norm(stage, "modulation.last", normal, 2 * width, 0)
        patches = stage.tensor("patches", ("B", "L", self._features))
        weight, bias = self._linear("final_layer.linear", self._features, width)
        self._matmul(stage, normal, weight, patches, self._features, width, bias=bias)
        kernels.unpatchify(stage, patches, "velocity", **grid)
        stage.finish()

    def _block(self, stage: StageBuilder, block: int) -> None:
        width, heads, inner = self._width, self._heads, self._inner
        name, table, stride = f"blocks.{block}", f"modulation.{block}", 6 * width

        normal = stage.tensor("normal", ("B", "L", width))
        self._norm(stage, table, normal, stride, 0)
        qkv = stage.tensor("qkv", ("B", "L", 3 * width))
        weight = self._matrix(f"{name}.attention.img_qkv_proj", 3 * width, width)
        self._matmul(stage, normal, weight, qkv, 3 * width, width)
        gain = self._plan.weight(
            f"transformer.{name}.norm_qk",
            (2 * self._head_dim,),
            Recipe(
                COMPONENT,
                (f"{name}.attention.norm_q.weight", f"{name}.attention.norm_k.weight"),
            ),
        )
        kernels.head_norm_rope(
            stage,
            qkv,
            gain,
            "transformer.row_turns",
            "transformer.column_turns",
            rows="B * L",
            heads=heads,
            length="L",
            columns=f"W // {self._patch}",
            head_dim=self._head_dim,
            axis=self._axes[0],
            eps=_EPS,
        )
        mixed = stage.tensor("mixed", ("B", "L", width))
        kernels.attention(
            stage,
            qkv,
            mixed,
            batch="B",
            length="L",
            heads=heads,
            kv_heads=heads,
            head_dim=self._head_dim,
            scale=self._head_dim**-0.5,
            text_kv=f"text_kv.{block}",
            text="T",
        )
        weight = self._matrix(f"{name}.attention.to_out.0", width, width)
        gate = kernels.Gate(table, stride, 2 * width)
        self._matmul(stage, mixed, weight, "hidden", width, width, gate=gate)

        normal = stage.tensor("normal", ("B", "L", width))
        self._norm(stage, table, normal, stride, 3 * width)
        widened = stage.tensor("widened", ("B", "L", inner))
        weight = self._plan.weight(
            f"transformer.{name}.gate_up",
            (2 * inner, width),
            Recipe(COMPONENT, (f"{name}.gate_proj.weight", f"{name}.up_proj.weight"), interleave=4),
        )
        self._matmul(stage, normal, weight, widened, 2 * inner, width, paired=True)
        weight = self._matrix(f"{name}.down_proj", width, inner)
        gate = kernels.Gate(table, stride, 5 * width)
        self._matmul(stage, widened, weight, "hidden", width, inner, gate=gate)

    def _advance(self) -> None:
        stage = self._plan.stage("advance")
        stage.tensor("latent", (self._channels, "H", "W"), "state")
        stage.tensor("velocity", ("B", self._channels, "H", "W"), "input")
        stage.tensor("strides", ("S",), "input")
        stage.tensor("guidance", (1,), "input")
        stage.tensor("step", (1,), "input", "u32")
        stage.segment("all")
        kernels.euler(stage, count=f"{self._channels} * H * W", batch="B")
        stage.finish()

    def _norm(self, stage: StageBuilder, table: str, output: str, stride: int, shift: int) -> None:
        kernels.layer_norm_modulate(
            stage,
            "hidden",
            table,
            output,
            rows="B * L",
            width=self._width,
            stride=stride,
            shift=shift,
            scale=shift + self._width,
            eps=_EPS,
        )

    def _matmul(
        self,
        stage: StageBuilder,
        left: str,
        weight: str,
        output: str,
        columns: int,
        inner: int,
        **options: Any,
    ) -> None:
        kernels.matmul(
            stage,
            left,
            weight,
            output,
            rows="B * L",
            columns=columns,
            inner=inner,
            tile=self._tile,
            **options,
        )

    def _matrix(self, name: str, rows: int, columns: int) -> str:
        recipe = Recipe(COMPONENT, (f"{name}.weight",))
        return self._plan.weight(f"transformer.{_short(name)}", (rows, columns), recipe)

    def _vector(self, name: str, length: int) -> str:
        recipe = Recipe(COMPONENT, (f"{name}.weight",))
        return self._plan.weight(f"transformer.{_short(name)}", (length,), recipe)

    def _linear(self, name: str, rows: int, columns: int) -> tuple[str, str]:
        """A matrix and its bias."""
        bias = self._plan.weight(
            f"transformer.{_short(name)}.bias", (rows,), Recipe(COMPONENT, (f"{name}.bias",))
        )
        return self._matrix(name, rows, columns), bias


def time_waves(times: np.ndarray[Any, Any], time: dict[str, Any]) -> np.ndarray[Any, Any]:
    """f32 [steps, features]: what `modulation` takes as its waves, cosines first.

    times: f32 [steps] in 0..1; time: "time" of the plan's "host". Angles are f32, as in diffusers.
    """
    half = int(time["features"]) // 2
    rate = np.float32(-np.log(time["max_period"]) / half)
    falling = np.exp(np.arange(half, dtype=np.float32) * rate)
    angles = np.float32(time["factor"]) * (times.astype(np.float32)[:, None] * falling)
    exact = angles.astype(np.float64)
    return np.concatenate([np.cos(exact), np.sin(exact)], axis=1).astype(np.float32)


def _short(name: str) -> str:
    """Names of the plan: without the capitals of adaLN."""
    return name.replace("final_layer.adaLN_modulation.1", "final_layer.modulation")
