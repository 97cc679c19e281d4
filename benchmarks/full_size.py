"""The whole path at full size: a PRX of prx-1024's exact shapes is packed, served, and run by the
browser's own modules on Dawn in Node; torch in f32 beside it.

python benchmarks/full_size.py FOLDER [--dawn DAWN] [--variants f16,int8,int4,int4-f16-f16]
    [--model prx-1024|prx-emoji|tiny] [--side 1024] [--steps 28] [--guidance 5] [--kind F32]
    [--reference-only] [--write] [--clear]

The weights are random, with modulation away from zero; the tokenizer has as many tokens as prx-1024
has embeddings. FOLDER gets description.json (configurations, names and shapes; --write makes only
that, which needs diffusers), model/ (15.6 GB in F32), theirs.* (torch), packages/VARIANT,
runs/VARIANT, summary.json and table.md. What is there is not made again, so that the work may be
cut into several commands; --clear deletes each package after its run. Nothing runs without --dawn.

The table: bytes, seconds of each stage, the most memory on the device (our buffers, and what
nvidia-smi sees), the most JavaScript heap with array buffers, and how far each stage is from torch:
relative L2 of the texts' features, of the first step (from torch's own features) and of the final
latents; PSNR of our decode of torch's latents, and of the picture.

Not exercised: engine.js and engine-worker.js, which carry messages to the engine's Worker, and what
browsers store (OPFS). What Node lacks comes from benchmarks/engine_in_node.mjs.

For a machine with no more than Python 3.12 with torch, tokenizers and safetensors, an NVIDIA GPU
and libvulkan. Before, in the repository, with diffusers and npm (let .git/info/exclude hide .carry;
node.tar.xz has 32 MB, so that models/, which is not needed there, may have to stay behind):

    python benchmarks/full_size.py .carry/full --write
    pip download --no-deps -d .carry/wheels ftfy==6.3.1 wcwidth
    npm pack webgpu@0.6.2 && tar xzf webgpu-0.6.2.tgz package/dist/linux-x64/dawn.node
    tar cf - -C /usr/bin node -C "$PWD/package/dist/linux-x64" dawn.node | xz > .carry/node.tar.xz

There, two commands of at most ten minutes, each after

    python3 -m pip install -q --no-index --no-deps --target /tmp/site .carry/wheels/*.whl
    tar xJf .carry/node.tar.xz -C /tmp; mkdir -p /tmp/full; cp -n .carry/full/* /tmp/full
    export PYTHONPATH=/tmp/site PATH=/tmp:$PATH PYTHONUNBUFFERED=1

    python3 benchmarks/full_size.py /tmp/full --dawn /tmp/dawn.node --variants f16
    python3 benchmarks/full_size.py /tmp/full --dawn /tmp/dawn.node --clear \\
        --variants f16,int8,int4-f16-f16,int4

and `cp /tmp/full/summary.json /tmp/full/table.md $OUT`. Here, without a GPU, the same path in
minutes (Dawn refuses Mesa 22's lavapipe; Chromium comes with SwiftShader):

    VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json python benchmarks/full_size.py \\
        /tmp/full-tiny --model tiny --side 64 --steps 4 --dawn package/dist/linux-x64/dawn.node
"""

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
WGSL = ROOT / "static" / "wgsl"
sys.path[:0] = [str(ROOT), str(ROOT / "queue")]

from full_size_model import KINDS, MODELS, TEXTS, describe, write_folder  # noqa: E402

from diffusion.model_folder import read_model_folder  # noqa: E402
from diffusion.packaging.manifest import dtypes_of  # noqa: E402
from diffusion.packaging.pack import CompiledPlan, pack_model  # noqa: E402
from diffusion.plan.compiler import compile_folder  # noqa: E402
from diffusion.plan.schema import write_plan  # noqa: E402
from diffusion.plan.shaders import shader_hashes  # noqa: E402

PROMPT = ", ".join(TEXTS)
NEGATIVE = "a green background"


def main() -> None:
    arguments = parsed()
    if arguments.one:
        {"reference": reference, "pack": pack}[arguments.one](arguments)
        return
    out: Path = arguments.folder
    out.mkdir(parents=True, exist_ok=True)
    described = out / "description.json"
    if not described.exists():
        described.write_text(json.dumps(describe(arguments.model)))
    if arguments.write:
        return
    if not (out / "model.json").exists():
        began = time.monotonic()
        nbytes = write_folder(out / "model", json.loads(described.read_text()), arguments.kind)
        facts = {"bytes": nbytes, "kind": arguments.kind, "seconds": time.monotonic() - began}
        (out / "model.json").write_text(json.dumps(facts))
        print(f"model: {nbytes:,} bytes in {facts['seconds']:.1f} s", flush=True)
    if not (out / "theirs.json").exists():
        child(arguments, "reference")
    for variant in [] if arguments.reference_only else arguments.variants.split(","):
        package = out / "packages" / variant
        wanted = arguments.dawn and not (out / "runs" / variant / "ours.json").exists()
        packed = (out / f"packed-{variant}.json").exists()
        if not packed or (wanted and not package.exists()):
            child(arguments, "pack", variant)
        if wanted:
            run(arguments, package)
        if arguments.clear:
            shutil.rmtree(package, ignore_errors=True)
    summary = summarise(out)
    (out / "summary.json").write_text(json.dumps(summary, indent=1))
    (out / "table.md").write_text(table(summary))
    print(table(summary))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=MODELS, default="prx-1024")
    parser.add_argument("--kind", choices=KINDS, default="F32", help="how the folder is stored")
    parser.add_argument("--variants", default="f16,int8,int4,int4-f16-f16", help="by commas")
    parser.add_argument("--dawn", type=Path, help='npm\'s package "webgpu": its dawn.node')
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--side", type=int, default=1024, help="of the picture, in pixels")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="only description.json")
    parser.add_argument("--reference-only", action="store_true", help="only model and torch")
    parser.add_argument("--clear", action="store_true", help="delete packages that were run")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    return parser.parse_args()


def child(arguments: argparse.Namespace, part: str, variant: str = "") -> None:
    """A process of its own: its memory is its own, and ends with it."""
    again = [*sys.argv, "--one", part, "--variant", variant]
    subprocess.run([sys.executable, *again], check=True)


def reference(arguments: argparse.Namespace) -> None:
    """torch in f32, every stage: theirs.* as rows of f32, or bytes."""
    from diffusion.backends.torch_backend import TorchBackend
    from diffusion.noise import initial_noise

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds[stage] = time.monotonic() - began

    with timed("load"):
        backend = TorchBackend(read_model_folder(arguments.folder / "model"))
    shape = backend.folder.latent_shape(arguments.side, arguments.side)
    noise = initial_noise(arguments.seed, shape)
    backend.encode("warm up", "", arguments.guidance)
    with timed("encode"):
        texts = backend.encode(arguments.prompt, NEGATIVE, arguments.guidance)
    given: dict[str, Any] = {"steps": arguments.steps, "guidance": arguments.guidance, "start": 0}
    first = backend.denoise(texts, noise, stop=1, **given)
    with timed("denoise"):
        latent = backend.denoise(texts, noise, stop=arguments.steps, **given)
    backend.decode(latent)
    with timed("decode"):
        picture = backend.decode(latent)
    found = {**texts, "noise": noise, "first": first, "latent": latent, "picture": picture}
    for name, values in found.items():
        if values.dtype == np.float32 and not np.isfinite(values).all():
            raise SystemExit(f"torch's {name} is not finite")
        values.tofile(arguments.folder / f"theirs.{name}")
    facts = {
        "device": backend.device, "torch": torch.__version__, "seconds": seconds,
        "shape": shape, "tokens": [len(values) for values in texts.values()],
        "asked": {
            "prompt": arguments.prompt, "negativePrompt": NEGATIVE, "seed": arguments.seed,
            "width": arguments.side, "height": arguments.side, "steps": arguments.steps,
            "guidance": arguments.guidance,
        },
    }  # fmt: skip
    (arguments.folder / "theirs.json").write_text(json.dumps(facts))
    print(f"torch on {backend.device}: {seconds}", flush=True)


def pack(arguments: argparse.Namespace) -> None:
    variant = arguments.variant
    began = time.monotonic()
    model = read_model_folder(arguments.folder / "model")
    compiled = compile_folder(model, variant)
    plan = CompiledPlan(write_plan(compiled.plan), shader_hashes(compiled.plan, WGSL))
    packed = pack_model(
        model.path,
        arguments.folder / "packages" / variant,
        dtypes_of(variant),
        plan=plan,
        weights=list(compiled.weights.values()),
    )
    facts = {
        "bytes": packed.manifest.nbytes,
        "shards": len(packed.manifest.shards),
        "seconds": time.monotonic() - began,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    (arguments.folder / f"packed-{variant}.json").write_text(json.dumps(facts))
    print(f"packed as {variant}: {facts}", flush=True)


def run(arguments: argparse.Namespace, package: Path) -> None:
    """Serve the package and the shaders, and make the picture in Node."""
    out = arguments.folder / "runs" / package.name
    out.mkdir(parents=True, exist_ok=True)
    asked = json.loads((arguments.folder / "theirs.json").read_text())["asked"]
    for theirs in arguments.folder.glob("theirs.*"):
        (out / theirs.name).unlink(missing_ok=True)
        (out / theirs.name).symlink_to(theirs.resolve())
    with served(package) as packages, served(WGSL) as shaders, watched() as memory:
        request = {**asked, "package": packages, "shaders": shaders}
        (out / "request.json").write_text(json.dumps(request))
        command = ["node", "--import", HERE / "engine_in_node.mjs", HERE / "full_size.mjs",
                   arguments.dawn.resolve(), out / "request.json", out]  # fmt: skip
        print(f"{package.name} on Dawn", flush=True)
        subprocess.run([str(part) for part in command], check=True)
    (out / "smi.json").write_text(json.dumps(memory))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, which ends with a slash."""

    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@contextmanager
def watched() -> Iterator[dict[str, int | None]]:
    """peak_mb: what the first GPU has in use beyond what it had before; None without NVIDIA's."""
    memory: dict[str, int | None] = {"peak_mb": None}
    if not shutil.which("nvidia-smi"):
        yield memory
        return
    ended = threading.Event()

    def used() -> int:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return int(subprocess.check_output(query, text=True).split()[0])

    def watch() -> None:
        while not ended.wait(0.2):
            memory["peak_mb"] = max(memory["peak_mb"] or 0, used() - before)

    before = used()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def summarise(out: Path) -> dict[str, Any]:
    theirs = json.loads((out / "theirs.json").read_text())
    summary = {
        "model": json.loads((out / "model.json").read_text()),
        "torch": theirs,
        "variants": {},
    }
    for packed in sorted(out.glob("packed-*.json")):
        variant = packed.stem.removeprefix("packed-")
        facts = summary["variants"][variant] = {"packed": json.loads(packed.read_text())}
        ours = out / "runs" / variant / "ours.json"
        if ours.exists():
            memory = json.loads(ours.with_name("smi.json").read_text())
            facts |= {"run": json.loads(ours.read_text()), "smi": memory}
            facts["errors"] = errors(out, ours.parent)
    return summary


def errors(out: Path, ran: Path) -> dict[str, float]:
    def both(name: str, dtype: str = "<f4", theirs: str = "") -> list[Any]:
        paths = ran / f"ours.{name}", out / f"theirs.{theirs or name}"
        return [np.fromfile(path, dtype).astype(np.float64) for path in paths]

    def distance(ours: Any, its: Any) -> float:
        return float(np.linalg.norm(ours - its) / np.linalg.norm(its))

    def decibels(name: str) -> float:
        ours, its = both(name, "u1", "picture")
        ours = ours.reshape(-1, 4)[:, :3].reshape(-1)
        return float(10 * np.log10(255**2 / max(np.mean((ours - its) ** 2), 1e-9)))

    noise = both("noise")
    first = [after - before for after, before in zip(both("first"), noise, strict=True)]
    found = {
        "noise": float(np.abs(noise[0] - noise[1]).max()),
        "encode": max(distance(*both(half)) for half in ("prompt", "negative")),
        "first step": distance(*first),
        "latents": distance(*both("latent")),
        "decode dB": decibels("decoded"),
        "picture dB": decibels("picture"),
    }
    if not all(map(math.isfinite, found.values())):
        raise SystemExit(f"{ran.name}: not finite: {found}")
    return found


def table(summary: dict[str, Any]) -> str:
    """Markdown: one row a variant."""
    its, asked = summary["torch"]["seconds"], summary["torch"]["asked"]
    text = (
        f"{asked['width']} px, {asked['steps']} steps, guidance {asked['guidance']}, texts of"
        f" {summary['torch']['tokens']} tokens; {summary['model']['bytes']:,} bytes of"
        f" {summary['model']['kind']}. torch f32 on {summary['torch']['device']}: encode"
        f" {its['encode']:.3f} s, denoise {its['denoise']:.3f} s, decode {its['decode']:.3f} s\n\n"
        "| variant | bytes | shards | to pack, s | load, s | pipelines, s | encode, s |"
        " denoise, s | a step, s | decode, s | device, MB (smi) | heap, MB | encode |"
        " first step | latents | decode | picture |\n" + "|---" * 17 + "|\n"
    )
    for variant, facts in summary["variants"].items():
        if "run" not in facts:
            continue
        stages = {stage["name"]: stage for stage in facts["run"]["stages"]}
        seconds = {name: stage["seconds"] for name, stage in stages.items()}
        made = sum(stage["pipelineSeconds"] for stage in stages.values())
        load = sum(taken for name, taken in seconds.items() if name.startswith("load")) - made
        peaks = [
            max(stage[kind] for stage in stages.values()) / 1e6
            for kind in ("deviceBytes", "heapBytes")
        ]
        wrong = facts["errors"]
        cells = [
            variant, f"{facts['packed']['bytes']:,}", facts["packed"]["shards"],
            f"{facts['packed']['seconds']:.0f}", f"{load:.1f}", f"{made:.1f}",
            f"{seconds['encode']:.2f}", f"{seconds['denoise']:.2f}",
            f"{np.median(facts['run']['stepSeconds'] or [math.nan]):.3f}",
            f"{seconds['decode']:.2f}", f"{peaks[0]:.0f} ({facts['smi']['peak_mb']})",
            f"{peaks[1]:.0f}",
            *(f"{wrong[name]:.1e}" for name in ("encode", "first step", "latents")),
            *(f"{wrong[name]:.1f} dB" for name in ("decode dB", "picture dB")),
        ]  # fmt: skip
        text += "| " + " | ".join(map(str, cells)) + " |\n"
    return text


if __name__ == "__main__":
    main()
