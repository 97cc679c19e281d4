"""One decode on several devices of one host: a band of rows each, moments exchanged at each norm.

python benchmarks/band_split.py FOLDER [--precision f16|f32] [--model prx-1024|prx-emoji|tiny]
    [--sides 512 1024] [--bands 2] [--runs 5]

As many processes as bands, each with a wgpu adapter of its own (where there are fewer, some share
one), run `PlanBackend.decode_bands`. The first one joins the moments, which cross pipes as bytes.
Prints JSON: seconds of a whole decode on the first device (`alone`), of the slowest band without
any exchange (`band`), of the split, and their ratio; the seconds on one device of all bands one
after the other (`bands_on_one`); and how far the split's pixels are from those of one device, in
levels of 255 on average.

FOLDER as of guidance_split.py.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "queue"), str(ROOT / "benchmarks")]


def main() -> None:
    from guidance_split import prepare

    options = parsed()
    prepare(options)
    context = multiprocessing.get_context("spawn")
    between = [context.Pipe() for _ in range(options.bands - 1)]  # from the first to each other
    lines, processes = [], []
    for number in range(options.bands):
        mine, theirs = context.Pipe()
        others = [end for end, _ in between] if number == 0 else [between[number - 1][1]]
        process = context.Process(
            target=work, args=(number, vars(options), theirs, others), daemon=True
        )
        process.start()
        lines.append(mine)
        processes.append(process)
    try:
        devices = [line.recv() for line in lines]
        sides = {side: measured(options, lines, side) for side in options.sides}
        told = {"devices": devices, "model": options.model, "precision": options.precision}
        print(json.dumps({**told, "bands": options.bands, "sides": sides}, indent=1))
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
    parser.add_argument("--precision", choices=("f32", "f16"), default="f16")
    parser.add_argument("--model", default="prx-1024")
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--bands", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def measured(options: argparse.Namespace, lines: list[Connection], side: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"alone": [], "bands_on_one": [], "band": [], "split": []}
    pixels: dict[str, Any] = {}
    for kind in list(seconds) * (1 + options.runs):  # the first of each warms up
        asked = lines[:1] if kind in ("alone", "bands_on_one") else lines
        for line in asked:
            line.send((kind, side))
        answers = [line.recv() for line in asked]
        seconds[kind].append(max(answer[0] for answer in answers))
        pixels[kind] = np.concatenate([answer[1] for answer in answers]).astype(int)
    took = {kind: statistics.median(found[1:]) for kind, found in seconds.items()}
    return {
        "seconds": {kind: round(found, 5) for kind, found in took.items()},
        "split_of_alone": round(took["split"] / took["alone"], 3),
        "exchange_seconds": round(took["split"] - took["band"], 5),
        "levels_apart": float(np.abs(pixels["split"] - pixels["alone"]).mean()),
        "levels_apart_on_one": float(np.abs(pixels["bands_on_one"] - pixels["alone"]).mean()),
    }


def work(number: int, options: dict[str, Any], line: Connection, others: list[Connection]) -> None:
    """A process with a device: answers what `measured` asks, until the line is closed."""
    from guidance_split import opened

    backend = opened(number, {**options, "backend": "wgpu"})
    line.send(f"{backend.name} {backend.device}")
    while True:
        try:
            what, side = line.recv()
        except EOFError:
            return
        line.send(timed(backend, number, options["bands"], others, what, side))


def timed(
    backend: Any, number: int, count: int, others: list[Connection], what: str, side: int
) -> tuple[float, Any]:
    """Seconds, and the pixels that were computed here."""
    from diffusion.bands import even_bands, joined
    from diffusion.noise import initial_noise

    latent = initial_noise(7, backend.folder.latent_shape(side, side))
    bands = even_bands(latent.shape[1], count)
    rows = [band.rows for band in bands]

    def exchange(norm: int, parts: list[Any]) -> Any:
        [own] = parts
        if what == "band":
            return own
        if number:
            others[0].send_bytes(own.tobytes())
            return np.frombuffer(others[0].recv_bytes(), np.float32).reshape(own.shape)
        given = [np.frombuffer(other.recv_bytes(), np.float32) for other in others]
        together = joined([own, *(part.reshape(own.shape) for part in given)], rows)
        for other in others:
            other.send_bytes(together.tobytes())
        return together

    began = time.perf_counter()
    if what == "alone":
        pixels = backend.decode(latent)
    elif what == "bands_on_one":
        found = backend.decode_bands(latent, bands, lambda _, parts: joined(parts, rows))
        pixels = np.concatenate(found)
    else:
        [pixels] = backend.decode_bands(latent, [bands[number]], exchange)
    return time.perf_counter() - began, pixels


if __name__ == "__main__":
    main()
