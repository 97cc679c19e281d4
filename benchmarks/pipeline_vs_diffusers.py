"""The time of one picture, ours against diffusers.PRXPipeline called directly, in the same run.

    python benchmarks/pipeline_vs_diffusers.py [FOLDER] [--side 256] [--steps 8] [--guidance 4]

FOLDER is any PRX folder in the diffusers layout; without one, a folder of PRX-Emoji's shape with
random weights is made. The two take turns, so that a busy machine slows both. Prints JSON: medians
of wall and of processor time in seconds, their ratios (on a busy machine only the second means
something), how far the latents are apart, and what a fresh process of ours needs to load the model
and make one picture.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.backends import Backend, open_backend
from diffusion.model_folder import read_model_folder
from diffusion.pipeline import generate
from diffusion.settings import Settings, check

PROMPT = "a rocket above a full moon on a black background"
WARM_UPS = 2
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as `open_backend` does, before torch is imported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.folder is None:
            from diffusion.random_model import EMOJI_SHAPE, write_random_model

            options.folder = write_random_model(Path(scratch) / "random-emoji", EMOJI_SHAPE)
        measure = measure_fresh if options.fresh else measure_both
        print(json.dumps(measure(options), indent=None if options.fresh else 2))


def wanted(options: argparse.Namespace) -> tuple[Any, Settings]:
    folder = read_model_folder(options.folder)
    settings = Settings(
        prompt=PROMPT,
        model=folder.name,
        width=options.side,
        height=options.side,
        steps=options.steps,
        guidance=options.guidance,
        seed=7,
    )
    check(settings, folder)
    return folder, settings


def measure_fresh(options: argparse.Namespace) -> dict[str, Any]:
    """What a new process needs, as a worker starts."""
    folder, settings = wanted(options)
    start = time.perf_counter()
    backend = open_backend("torch", folder)
    loaded = time.perf_counter()
    generate(backend, settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "load_seconds": round(loaded - start, 3),
        "first_picture_seconds": round(time.perf_counter() - loaded, 3),
        "peak_memory_mib": round(peak),
    }


def measure_both(options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, str(options.folder), "--fresh"]
    for name in ("side", "steps", "guidance"):
        command += [f"--{name}", str(getattr(options, name))]
    fresh = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    folder, settings = wanted(options)
    backend = open_backend("torch", folder)
    pipeline = load_diffusers(options.folder, backend)
    ours: list[tuple[float, float]] = []  # (wall, processor) seconds
    theirs: list[tuple[float, float]] = []
    for _ in range(WARM_UPS + options.repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        [picture] = generate(backend, settings)
        between, between_cpu = time.perf_counter(), time.process_time()
        call_diffusers(pipeline, settings, "pil")
        end, end_cpu = time.perf_counter(), time.process_time()
        ours.append((between - start, between_cpu - start_cpu))
        theirs.append((end - between, end_cpu - between_cpu))
    reference = call_diffusers(pipeline, settings, "latent").float().cpu().numpy()
    distance = np.linalg.norm(picture.latent - reference) / np.linalg.norm(reference)

    import torch

    wall_ours, cpu_ours = medians(ours)
    wall_theirs, cpu_theirs = medians(theirs)
    return {
        "model": folder.name,
        "side": options.side,
        "steps": options.steps,
        "guidance": options.guidance,
        "device": backend.device,
        "threads": torch.get_num_threads(),
        "repeats": options.repeats,
        "ours_seconds": wall_ours,
        "diffusers_seconds": wall_theirs,
        "ratio": round(wall_ours / wall_theirs, 3),
        "ours_processor_seconds": cpu_ours,
        "diffusers_processor_seconds": cpu_theirs,
        "processor_ratio": round(cpu_ours / cpu_theirs, 3),
        "latent_relative_l2": float(f"{distance:.2e}"),
        "stages": stages(backend, settings, options.repeats),
        "fresh_process": fresh,
    }


def medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    wall, processor = zip(*times[WARM_UPS:], strict=True)
    return round(statistics.median(wall), 3), round(statistics.median(processor), 3)


def stages(backend: Backend, settings: Settings, repeats: int) -> dict[str, float]:
    """Median seconds of each stage."""
    from diffusion.noise import initial_noise

    seconds: dict[str, list[float]] = {"encode": [], "denoise": [], "decode": []}
    noise = initial_noise(7, backend.folder.latent_shape(settings.width, settings.height))
    for _ in range(repeats):
        times = [time.perf_counter()]
        conditioning = backend.encode(settings.prompt, "", settings.guidance)
        times.append(time.perf_counter())
        latent = backend.denoise(
            conditioning,
            noise,
            steps=settings.steps,
            guidance=settings.guidance,
            start=0,
            stop=settings.steps,
        )
        times.append(time.perf_counter())
        backend.decode(latent)
        times.append(time.perf_counter())
        for stage, start, end in zip(seconds, times, times[1:], strict=False):
            seconds[stage].append(end - start)
    return {stage: round(statistics.median(values), 3) for stage, values in seconds.items()}


def load_diffusers(folder: Path, backend: Backend) -> Any:
    warnings.simplefilter("ignore")
    import torch
    from diffusers import PRXPipeline
    from diffusers.pipelines.prx import T5GemmaEncoder
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Passed in, because an index that names transformers for it does not load in every process
    encoder = T5GemmaEncoder.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    pipeline = PRXPipeline.from_pretrained(folder, text_encoder=encoder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(backend.device.split()[0])


def call_diffusers(pipeline: Any, settings: Settings, output: str) -> Any:
    import torch

    return pipeline(
        settings.prompt,
        height=settings.height,
        width=settings.width,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=torch.Generator("cpu").manual_seed(settings.seed),
        output_type=output,
        use_resolution_binning=False,
    ).images[0]


if __name__ == "__main__":
    main()
