"""One picture on two devices of one host: a half of guidance on each, a velocity exchanged a step.

python benchmarks/guidance_split.py FOLDER [--backend torch|wgpu] [--precision f32|bf16|f16]
    [--model prx-1024|prx-emoji|tiny] [--side 512] [--steps 28] [--guidance 5] [--runs 3]

Two processes, each with a device of its own (CUDA or, with wgpu, adapter 0 and 1; where there is
but one, both share it), run `diffusion.halves.denoise_half`. Velocities cross a pipe as bytes.
Prints JSON: seconds a step of both halves in one batch on the first device (`alone`), of one half
by itself (`half`, without any exchange), of the split, and their ratio; how far the split's latents
are from those of one device (relative L2), and whether both processes have the same bits.

FOLDER gets description.json (which needs diffusers; see full_size.py --write) and model/, random
weights in f32 of the model's exact shapes; what is there is not made again.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WGSL = ROOT / "static" / "wgsl"
sys.path[:0] = [str(ROOT), str(ROOT / "queue"), str(ROOT / "benchmarks")]

PROMPT = "a big cat left of a small dog on a green background under a full moon"
NEGATIVE = "blurry"
HALVES = ("prompt", "negative")  # of the first and of the second process


def main() -> None:
    options = parsed()
    prepare(options)
    context = multiprocessing.get_context("spawn")
    between = context.Pipe()
    lines, processes = [], []
    for number in range(2):
        mine, theirs = context.Pipe()
        process = context.Process(
            target=work, args=(number, vars(options), theirs, between[number]), daemon=True
        )
        process.start()
        lines.append(mine)
        processes.append(process)
    try:
        print(json.dumps(measured(options, lines), indent=1))
    finally:
        for line, process in zip(lines, processes, strict=True):
            line.close()
            process.join(20)
            process.kill()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backend", choices=("torch", "wgpu"), default="torch")
    parser.add_argument("--precision", choices=("f32", "bf16", "f16"), default="f32")
    parser.add_argument("--model", default="prx-1024")
    parser.add_argument("--side", type=int, default=512, help="of the picture, in pixels")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> None:
    from full_size_model import describe, write_folder

    options.folder.mkdir(parents=True, exist_ok=True)
    described = options.folder / "description.json"
    if not described.exists():
        described.write_text(json.dumps(describe(options.model)))
    if not (options.folder / "model").exists():
        write_folder(options.folder / "model", json.loads(described.read_text()), "F32")


def measured(options: argparse.Namespace, lines: Sequence[Connection]) -> dict[str, Any]:
    devices = [line.recv() for line in lines]
    texts = asked(lines[:1], "encode")[0]
    runs: dict[str, list[float]] = {"alone": [], "half": [], "split": []}
    for kind in (*runs, *list(runs) * options.runs):  # the first of each warms up
        answers = asked(lines[:1] if kind == "alone" else lines, kind, texts)
        if kind == "alone":
            [(seconds, alone)] = answers
        else:
            seconds = max(answer[0] for answer in answers)
            latents = [answer[1] for answer in answers]
        runs[kind].append(seconds)
        if kind == "split":
            same = bool(np.array_equal(*latents))
            apart = float(np.linalg.norm(latents[0] - alone) / np.linalg.norm(alone))
    a_step = {kind: statistics.median(found[1:]) for kind, found in runs.items()}
    return {
        "devices": devices,
        "model": options.model,
        "precision": options.precision,
        "side": options.side,
        "steps": options.steps,
        "seconds_a_step": {kind: round(seconds, 5) for kind, seconds in a_step.items()},
        "split_of_alone": round(a_step["split"] / a_step["alone"], 3),
        "exchange_seconds_a_step": round(a_step["split"] - a_step["half"], 5),
        "latents_apart": apart,
        "same_bits_on_both": same,
    }


def asked(lines: Sequence[Connection], *message: Any) -> list[Any]:
    for line in lines:
        line.send(message)
    return [line.recv() for line in lines]


def work(number: int, options: dict[str, Any], line: Connection, other: Connection) -> None:
    """A process with a device: answers what `measured` asks, until the line is closed."""
    backend = opened(number, options)
    line.send(f"{backend.name} {backend.device}")
    while True:
        try:
            what, *more = line.recv()
        except EOFError:
            return
        if what == "encode":
            line.send(backend.encode(PROMPT, NEGATIVE, options["guidance"]))
        else:
            line.send(timed(backend, number, options, other, what, *more))


def opened(number: int, options: dict[str, Any]) -> Any:
    from diffusion.model_folder import read_model_folder

    if options["backend"] == "torch":
        gpus = count_gpus()
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
        from diffusion.backends import open_backend

        folder = read_model_folder(options["folder"] / "model")
        return open_backend("torch", folder, options["precision"])
    from diffusion.backends import wgpu_device
    from diffusion.backends.wgpu_backend import open_wgpu

    every = wgpu_device.adapters()
    real = [adapter for adapter in every if adapter.info["adapter_type"] != "CPU"] or every
    chosen = [real[number % len(real)]]
    wgpu_device.adapters = lambda: chosen  # type: ignore[assignment]
    folder = read_model_folder(options["folder"] / "model")
    return open_wgpu(folder, wgpu_device.Device(WGSL), variant=options["precision"])


def count_gpus() -> int:
    """NVIDIA's, without CUDA in this process yet: it reads its environment once."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def timed(
    backend: Any, number: int, options: dict[str, Any], other: Connection, what: str, texts: Any
) -> tuple[float, Any]:
    """Seconds a step, of the steps after the first, and the latent."""
    from diffusion.halves import denoise_half
    from diffusion.noise import initial_noise

    side, steps, guidance = options["side"], options["steps"], options["guidance"]
    noise = initial_noise(7, backend.folder.latent_shape(side, side))
    at: list[float] = []

    def on_step(step: int, latent: Any) -> None:
        at.append(time.perf_counter())

    def exchange(step: int, velocity: Any) -> Any:
        if what == "half":
            return velocity
        if number == 0:  # a pipe holds less than a velocity: only one of them sends first
            other.send_bytes(velocity.tobytes())
        given = np.frombuffer(other.recv_bytes(), np.float32).reshape(velocity.shape)
        if number == 1:
            other.send_bytes(velocity.tobytes())
        return given

    run = {"steps": steps, "guidance": guidance, "start": 0, "stop": steps, "on_step": on_step}
    if what == "alone":
        latent = backend.denoise(texts, noise, **run)
    else:
        half = HALVES[number]
        latent, _ = denoise_half(
            backend, {half: texts[half]}, noise, half=half, exchange=exchange, **run
        )
    return (at[-1] - at[0]) / (steps - 1), latent


if __name__ == "__main__":
    main()
