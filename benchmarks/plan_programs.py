"""What plan_speed.py measures, as programs: operations in PRX's shapes, steps and decodes."""

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from programs import Buffer, Fill, Program, Programs, random_values

from diffusion.model_folder import read_model_folder
from diffusion.plan import kernels, tiles
from diffusion.plan.builder import PlanBuilder, Recipe, StageBuilder
from diffusion.plan.compiler import compile_folder
from diffusion.plan.schema import Plan
from diffusion.plan.twin_runner import TwinRun

READ = 2**20  # bytes of a result, at most, that are handed back
STAGE = "only"

Declare = Callable[[PlanBuilder, StageBuilder], None]


@dataclass(frozen=True)
class Scale:
    """PRX's sizes, or tiny ones. sides: of latents; decoded: of those that are decoded."""

    hidden: int = 1792
    mlp: int = 6272
    heads: int = 28
    text: int = 256
    sides: Sequence[int] = (128, 64, 32)
    decoded: Sequence[int] = (128, 64)
    channels: int = 512  # of the decoder
    patch: int = 2

    def tokens(self, side: int) -> int:
        return (side // self.patch) ** 2


TINY = Scale(
    hidden=40, mlp=100, heads=2, text=37, sides=(16,), decoded=(8,), channels=12
)  # with tails everywhere


@dataclass(frozen=True)
class Single:
    """A program of one operation. expected(): what it must leave, by the twin in numpy."""

    program: Program
    plan: Plan
    places: Mapping[str, int]

    def expected(self) -> Any:
        stage = self.plan.stages[STAGE]
        run = TwinRun(self.plan, lambda name: self._begin(name).view(np.uint8), {})
        for name, tensor in stage.tensors.items():
            if tensor.role == "input":
                shape = tuple(int(axis) for axis in tensor.shape)
                run.write(STAGE, name, self._begin(name)[: math.prod(shape)].reshape(shape))
        run.run(STAGE)
        return run.read(STAGE, "out").reshape(-1)

    def _begin(self, name: str) -> Any:
        number = self.places[name]
        buffer = self.program.buffers[number]
        if buffer.values == "u32":
            return np.full(buffer.bytes // 4, buffer.scale, np.uint32)
        count = buffer.bytes // (2 if buffer.values == "f16" else 4)
        values = random_values(torch, 0, count, buffer, number).cpu().numpy()
        return values.astype(np.float16 if buffer.values == "f16" else np.float32)


def matmul(rows: int, columns: int, inner: int) -> Declare:
    def declare(builder: PlanBuilder, stage: StageBuilder) -> None:
        kernels.matmul(
            stage,
            stage.tensor("left", (rows, inner), "input"),
            builder.weight("weight", (columns, inner), Recipe()),
            stage.tensor("out", (rows, columns), "output"),
            rows=rows,
            columns=columns,
            inner=inner,
            tile=tiles.TILE,
        )

    return declare


def attention(batch: int, length: int, heads: int, head_dim: int, text: int) -> Declare:
    def declare(_builder: PlanBuilder, stage: StageBuilder) -> None:
        given: dict[str, Any] = {}
        if text:
            stage.tensor("text_lengths", (batch,), "input", "u32")
            shape = (batch, text, 2 * heads * head_dim)
            given = {"text": text, "text_kv": stage.tensor("text_kv", shape, "input")}
        kernels.attention(
            stage,
            stage.tensor("qkv", (batch, length, 3 * heads * head_dim), "input"),
            stage.tensor("out", (batch, length, heads * head_dim), "output"),
            batch=batch,
            length=length,
            heads=heads,
            kv_heads=heads,
            head_dim=head_dim,
            scale=head_dim**-0.5,
            **given,
        )

    return declare


def conv2d(side: int, channels: int) -> Declare:
    def declare(builder: PlanBuilder, stage: StageBuilder) -> None:
        kernels.conv2d(
            stage,
            stage.tensor("picture", (side, side, channels), "input"),
            builder.weight("weight", (channels, 3, 3, channels), Recipe()),
            None,
            stage.tensor("out", (side, side, channels), "output"),
            rows=side,
            columns=side,
            channels_in=channels,
            channels_out=channels,
            norm=stage.tensor("norm", (2, channels), "input"),
            silu=True,
            tile=tiles.picture_tile(channels),
        )

    return declare


def operations(scale: Scale) -> dict[str, Declare]:
    found: dict[str, Declare] = {}
    for side in scale.sides:
        tokens = scale.tokens(side)
        found[f"gate, up {tokens}"] = matmul(2 * tokens, 2 * scale.mlp, scale.hidden)
        found[f"down {tokens}"] = matmul(2 * tokens, scale.hidden, scale.mlp)
        found[f"attention {tokens}"] = attention(2, tokens, scale.heads, 64, scale.text)
    side = scale.decoded[-1]
    found[f"attention 512 wide, {side**2}"] = attention(1, side**2, 1, 512, 0)
    found[f"conv2d {4 * side}"] = conv2d(4 * side, scale.channels)
    return found


def add_operations(programs: Programs, scale: Scale) -> list[Single]:
    singles = []
    for name, declare in operations(scale).items():
        builder = PlanBuilder({}, "f16")
        stage = builder.stage(STAGE)
        stage.segment(STAGE)
        declare(builder, stage)
        stage.finish()
        plan = builder.finish({})
        values: dict[str, tuple[Fill, float]] = {
            "weight": ("f16", 0.05),
            "text_lengths": ("u32", scale.text),
            "qkv": ("f32", 2.0),
        }
        program = programs.add_stage(name, plan, STAGE, {}, values=values)
        hand_back(program, programs.places["out"])
        singles.append(Single(program, plan, programs.places))
    return singles


def add_stages(programs: Programs, folder: Path, scale: Scale) -> None:
    """Steps with both halves of guidance, and decodes, of the folder's plan in f16."""
    plan = compile_folder(read_model_folder(folder), "f16").plan
    values: dict[str, tuple[Fill, float]] = {
        "step": ("u32", 0),
        "text_lengths": ("u32", scale.text),
    }
    for name, weight in plan.weights.items():
        if len(weight.shape) > 1 and weight.type in ("f32", "f16"):  # variance 1 / inner
            values[name] = (weight.type, (3 / math.prod(weight.shape[1:])) ** 0.5)
    for side in scale.sides:
        given = {"B": 2, "T": scale.text, "S": 1, "H": side, "W": side}
        name = f"step {scale.tokens(side)}"
        program = programs.add_stage(name, plan, "denoise", given, values=values)
        hand_back(program, programs.places["velocity"])
    for side in scale.decoded:
        given = {"H": side, "W": side}
        name = f"decode {8 * side}"
        program = programs.add_stage(name, plan, "decode", given, values=values)
        hand_back(program, programs.places["rgb"])


def hand_back(program: Program, place: int) -> None:
    buffer: Buffer = program.buffers[place]
    program.read = [(place, 0, min(buffer.bytes, READ))]


def torch_model(folder: Path) -> dict[str, Any]:
    """What programs_torch.py needs: configurations, and names and shapes of all weights."""
    model = {}
    for name in ("transformer", "vae"):
        part = folder / name
        with (part / "diffusion_pytorch_model.safetensors").open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        header.pop("__metadata__", None)
        model[name] = {
            "config": json.loads((part / "config.json").read_text()),
            "shapes": {key: value["shape"] for key, value in header.items()},
        }
    return model
