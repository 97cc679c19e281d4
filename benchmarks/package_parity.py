"""Packages of a model on the best wgpu device here, against torch f32 on its folder.

python benchmarks/package_parity.py [--variants f16 int8 int4] [--side 128] [--steps 8]
    [--kernels many=128x128x16f16]

Each stage from torch's input, relative L2; latents and picture of the whole way; PSNR in dB.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "queue"))

from diffusion.backends import Backend  # noqa: E402
from diffusion.backends.torch_backend import TorchBackend  # noqa: E402
from diffusion.backends.wgpu_backend import open_wgpu_package  # noqa: E402
from diffusion.backends.wgpu_device import Device  # noqa: E402
from diffusion.model_folder import ModelFolder, read_model_folder  # noqa: E402
from diffusion.noise import initial_noise  # noqa: E402
from diffusion.packaging.manifest import dtypes_of  # noqa: E402
from diffusion.packaging.pack import CompiledPlan, pack_model  # noqa: E402
from diffusion.packaging.package import Package  # noqa: E402
from diffusion.plan.compiler import compile_folder  # noqa: E402
from diffusion.plan.schema import write_plan  # noqa: E402
from diffusion.plan.shaders import shader_hashes  # noqa: E402
from diffusion.plan.variants import Choice, read_variants  # noqa: E402

WGSL = ROOT / "static" / "wgsl"
GUIDANCE = 4.0


def open_package(folder: ModelFolder, variant: str, device: Device, place: Path) -> Backend:
    compiled = compile_folder(folder, variant)
    plan = CompiledPlan(write_plan(compiled.plan), shader_hashes(compiled.plan, WGSL))
    weights = list(compiled.weights.values())
    pack_model(folder.path, place / "package", dtypes_of(variant), plan=plan, weights=weights)
    return open_wgpu_package(Package(place / "package"), place / "scratch", device, WGSL)


def compare(ours: Backend, theirs: Backend, prompt: str, side: int, steps: int) -> str:
    noise = initial_noise(1, theirs.folder.latent_shape(side, side))

    def latent(backend: Backend, texts: dict[str, Any], stop: int) -> Any:
        return backend.denoise(texts, noise, steps=steps, guidance=GUIDANCE, start=0, stop=stop)

    mine, texts = (backend.encode(prompt, "", GUIDANCE) for backend in (ours, theirs))
    step = [latent(backend, texts, 1) - noise for backend in (ours, theirs)]
    whole = latent(ours, mine, steps), latent(theirs, texts, steps)
    picture = theirs.decode(whole[1])
    return (
        f"encode {relative(mine['prompt'], texts['prompt']):.2g}, step {relative(*step):.2g}, "
        f"latents {relative(*whole):.2g}, decode {psnr(ours.decode(whole[1]), picture):.1f} dB, "
        f"picture {psnr(ours.decode(whole[0]), picture):.1f} dB"
    )


def relative(ours: Any, theirs: Any) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def psnr(ours: Any, theirs: Any) -> float:
    off = np.mean((ours.astype(float) - theirs) ** 2)
    return float(10 * np.log10(255**2 / max(off, 1e-9)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "prx-emoji")
    parser.add_argument("--variants", nargs="*", default=["f16", "int8", "int4"])
    parser.add_argument("--prompt", default="a red apple left of a small dog")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument(
        "--kernels",
        nargs="*",
        default=[],
        metavar="CLASS=VARIANT",
        help="of static/wgsl/variants.json",
    )
    arguments = parser.parse_args()
    folder = read_model_folder(arguments.model)
    table = read_variants(WGSL)
    device, theirs = Device(WGSL, variants=table), TorchBackend(folder)
    device.choice = Choice(table, dict(one.split("=") for one in arguments.kernels))
    print(device.description, f"{arguments.side} px, {arguments.steps} steps, {device.choice}")
    for variant in arguments.variants:
        with tempfile.TemporaryDirectory() as place:
            ours = open_package(folder, variant, device, Path(place))
            result = compare(ours, theirs, arguments.prompt, arguments.side, arguments.steps)
        print(f"{variant:<5} {result}", flush=True)


if __name__ == "__main__":
    main()
