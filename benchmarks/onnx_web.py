"""PRX in one browser by our engine and by onnxruntime-web with WebGPU: outputs, then times.

    PYTHONPATH=.:queue:EXPORTER python benchmarks/onnx_web.py [FOLDER] [--side 128] [--steps 4]
        [--rounds 3] [--kind f16] [--out result.json]

EXPORTER holds what torch needs to write ONNX, see onnx_export.py. onnxruntime-web comes through npm
into --cache, once, and its hash is checked. Both engines get the same prompt, noise and schedule,
compute in f32 (--kind says how our weights are stored) and make the same pictures by turns, so
that a busy machine slows both. They must agree, or nothing is said about times.

Chromium's software adapter is what is measured unless --hardware takes the GPU that the browser
has. Text and picture of onnxruntime-web are computed as well as the steps; it is spared the
tokenizer. Prints JSON: medians in seconds and their ratios, theirs through ours.
"""

import argparse
import base64
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "queue")]

from onnx_export import export_folder  # noqa: E402

from diffusion.cleaning import clean_prompt  # noqa: E402
from diffusion.model_folder import read_model_folder  # noqa: E402
from diffusion.noise import initial_noise  # noqa: E402
from diffusion.packaging.manifest import dtypes_of  # noqa: E402
from diffusion.packaging.pack import CompiledPlan, pack_model  # noqa: E402
from diffusion.plan.compiler import compile_folder  # noqa: E402
from diffusion.plan.schema import write_plan  # noqa: E402
from diffusion.plan.shaders import shader_hashes  # noqa: E402
from diffusion.schedule import read_schedule_config  # noqa: E402
from diffusion.torch_parts.tokenizer import load_tokenizer  # noqa: E402
from tests.browser import ARGUMENTS, CHROMIUM, WEBGPU  # noqa: E402
from tests.js.pictures import decibels  # noqa: E402

RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
RUNTIME_FILES = (
    "ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
PROMPT = "a rocket above a full moon on a black background"
SEED = 7
CLOSE = 1e-3  # relative L2; latents of f32 and of f16 that came from f16
FAITHFUL_DECIBELS = 38
HARDWARE = ["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-angle=vulkan"]
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "models/prx-emoji")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3, help="pictures of each, after a first one")
    parser.add_argument("--kind", default="f16", help="our package: f16, f32, int8, int4")
    parser.add_argument("--hardware", action="store_true", help="this browser's GPU")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/p2pweb-benchmarks")
    parser.add_argument("--out", type=Path, help="a file for the JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        served = Path(scratch)
        (served / "static").symlink_to(ROOT / "static")
        (served / "benchmarks").symlink_to(ROOT / "benchmarks")
        (served / "ort").symlink_to(runtime(options.cache))
        (served / "index.html").write_text("<!doctype html><title>onnx_web</title>")
        request = prepare(options, served)
        document = json.dumps(measure(options, served, request), indent=2)
    print(document)
    if options.out:
        options.out.write_text(document)


def runtime(cache: Path) -> Path:
    """The folder with onnxruntime-web. Raises RuntimeError where npm gives another archive."""
    folder = cache / RUNTIME
    if not folder.exists():
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(["npm", "pack", RUNTIME], cwd=scratch, check=True, capture_output=True)
            [archive] = Path(scratch).glob("*.tgz")
            digest = hashlib.sha512(archive.read_bytes()).digest()
            if base64.b64encode(digest).decode() != RUNTIME_SHA512:
                raise RuntimeError(f"what npm gave as {RUNTIME} is another file")
            with tarfile.open(archive) as files:
                names = [f"package/dist/{name}" for name in RUNTIME_FILES]
                files.extractall(scratch, [files.getmember(name) for name in names], filter="data")
            cache.mkdir(parents=True, exist_ok=True)
            unpacked = cache / f"{RUNTIME}.{os.getpid()}"
            (Path(scratch) / "package/dist").rename(unpacked)
            unpacked.rename(folder)
    return folder


def prepare(options: argparse.Namespace, served: Path) -> dict[str, Any]:
    """Writes our package and the graphs below `served`; what a picture is asked with."""
    folder = read_model_folder(options.folder)
    compiled = compile_folder(folder, options.kind)
    wgsl = shader_hashes(compiled.plan, ROOT / "static" / "wgsl")
    pack_model(
        folder.path, served / "package", dtypes_of(options.kind),
        plan=CompiledPlan(write_plan(compiled.plan), wgsl), weights=list(compiled.weights.values()),
    )  # fmt: skip
    tokenize = load_tokenizer(folder.path)
    texts = ["", PROMPT] if options.guidance > 1 else [PROMPT]
    ids = [tokenize(clean_prompt(text)) for text in texts]
    shape = folder.latent_shape(options.side, options.side)
    export_folder(
        folder.path, served / "graphs",
        halves=len(ids), tokens=max(len(text) for text in ids), sides=shape[1:],
    )  # fmt: skip
    schedule = read_schedule_config(folder.path).schedule(options.steps)
    return {
        "prompt": PROMPT,
        "ids": ids,
        "latent": initial_noise(SEED, shape).ravel().tolist(),
        "shape": list(shape),
        "times": schedule.times.tolist(),
        "strides": schedule.strides.tolist(),
        "guidance": options.guidance,
    }


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def log_message(self, *_: object) -> None:
        """The result is on the way to the same screen."""


OPEN = """async ({ name, request }) => {
  const engines = await import('/benchmarks/onnx_web.js');
  const engine = await engines[name](request);
  window[name] = engine; // it stays open
  return { seconds: engine.seconds, device: engine.device };
}"""
PICTURE = "({ name, request }) => window[name].picture(request)"


def measure(options: argparse.Namespace, served: Path, request: dict[str, Any]) -> dict[str, Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*ARGUMENTS, *(HARDWARE if options.hardware else WEBGPU)],
        )
        page = browser.new_page()
        page.set_default_timeout(0)
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        result = take_turns(page, options, request)
        result["browser"] = f"Chromium {browser.version}"
        browser.close()
    server.shutdown()
    return result


def take_turns(page: Page, options: argparse.Namespace, request: dict[str, Any]) -> dict[str, Any]:
    allow = {"allowSoftware": not options.hardware}
    where = {
        "ours": {"packageUrl": "/package/", **allow},
        "theirs": {"graphs": "/graphs/", **allow},
    }
    opened = {
        name: page.evaluate(OPEN, {"name": name, "request": given}) for name, given in where.items()
    }
    pictures: dict[str, list[Any]] = {name: [] for name in where}
    for number in range(1 + options.rounds):
        for name, made in pictures.items():
            made.append(page.evaluate(PICTURE, {"name": name, "request": request}))
            seconds = made[-1]["seconds"]
            print(f"picture {number}, {name}: {seconds}", file=sys.stderr, flush=True)
        if number == 0:
            apart = compare(*(made[0] for made in pictures.values()))
    ours, theirs = (times(made) for made in pictures.values())
    return {
        "model": options.folder.name,
        "side": options.side,
        "steps": options.steps,
        "guidance": options.guidance,
        "tokens": [len(text) for text in request["ids"]],
        "rounds": options.rounds,
        "devices": {name: one["device"] for name, one in opened.items()},
        "runtime": RUNTIME,
        "apart": apart,
        "open": {name: round(one["seconds"], 2) for name, one in opened.items()},
        "ours": ours,
        "theirs": theirs,
        "ratio": {stage: round(theirs[stage] / ours[stage], 2) for stage in ours},
        "load_average": round(os.getloadavg()[0], 1),
    }


def compare(ours: Any, theirs: Any) -> dict[str, float]:
    """Relative L2 of features and latents, and the pictures' PSNR in dB.

    Raises RuntimeError where they are too far apart."""
    result = {}
    for name in ("features", "latent"):
        mine, other = (np.array(one[name], np.float64) for one in (ours, theirs))
        result[name] = float(f"{np.linalg.norm(mine - other) / np.linalg.norm(other):.2e}")
        if not result[name] < CLOSE:
            raise RuntimeError(f"{name}: {result[name]} apart")
    mine, other = (np.array(one["picture"], np.float64) for one in (ours, theirs))
    result["picture_decibels"] = round(decibels(mine, other), 1)
    if not result["picture_decibels"] > FAITHFUL_DECIBELS:
        raise RuntimeError(f"pictures: {result['picture_decibels']} dB")
    return result


def times(pictures: list[Any]) -> dict[str, float]:
    """Seconds: the first picture apart, since pipelines are made on its way; else medians."""
    wholes = [one["seconds"] for one in pictures]
    total = [one["encode"] + sum(one["steps"]) + one["decode"] for one in wholes]
    later = wholes[1:]
    result = {
        "first picture": total[0],
        "picture": statistics.median(total[1:]),
        "encode": statistics.median(one["encode"] for one in later),
        "step": statistics.median(step for one in later for step in one["steps"]),
        "decode": statistics.median(one["decode"] for one in later),
    }
    return {name: round(seconds, 3) for name, seconds in result.items()}


if __name__ == "__main__":
    main()
