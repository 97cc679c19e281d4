"""PRX's transformer in ONNX Runtime's own WebGPU (PyPI onnxruntime-webgpu), to set beside ours.

    PYTHONPATH=queue:EXPORTER python benchmarks/onnx_native.py FOLDER --write [--tiny]
    PYTHONPATH=RUNTIME python benchmarks/onnx_native.py FOLDER [--seconds 3]

The first command, for which onnx_export.py says what it needs, writes a graph of a step with both
halves of guidance and texts of 256 tokens for each of PRX's three sizes, in the exact shapes of
prx-1024-t2i-beta, weights random. All blocks have the weights of one, so a graph has 0.3 GB of
them; they are not kept but made again where they are measured. --tiny: one tiny graph, its weights,
and what torch makes of it, which the second command then compares.

The second command needs a device that Dawn takes, and RUNTIME:

    pip install --no-deps --target RUNTIME onnxruntime-webgpu==1.27.0 flatbuffers==25.12.19

It prints the median of each step in milliseconds; plan_speed.py measures ours on the same machine
under the same names. Without a GPU, Chromium's software adapter does (--tiny):

    VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

TOKENS = (256, 1024, 4096)
TEXT = 256
FULL = {
    "in_channels": 16, "patch_size": 2, "context_in_dim": 2304, "hidden_size": 1792,
    "mlp_ratio": 3.5, "num_heads": 28, "depth": 16, "axes_dim": [32, 32],
}  # fmt: skip
SMALL = FULL | {"context_in_dim": 64, "hidden_size": 128, "num_heads": 2, "depth": 2}
SMALL_TOKENS, SMALL_TEXT = 16, 5
PROVIDERS = ("WebGpuExecutionProvider", "CPUExecutionProvider")  # the second for positions, once
CLOSE = 1e-3  # relative L2


def write(folder: Path, *, tiny: bool) -> None:
    import torch
    from diffusers import PRXTransformer2DModel
    from onnx_export import export_step

    torch.manual_seed(0)
    config, text = (SMALL, SMALL_TEXT) if tiny else (FULL, TEXT)
    transformer = PRXTransformer2DModel(**config)
    blocks = transformer.blocks
    transformer.blocks = torch.nn.ModuleList([blocks[0]] * len(blocks))
    for tokens in (SMALL_TOKENS,) if tiny else TOKENS:
        side = config["patch_size"] * round(tokens**0.5)
        path = folder / f"step {tokens}.onnx"
        export_step(
            transformer, path, halves=2, tokens=text, sides=(side, side), weights_apart=True
        )
        data = Path(f"{path}.data")
        about: dict[str, Any] = {"bytes": data.stat().st_size}
        if tiny:
            given = {name: torch.from_numpy(value) for name, value in inputs(side, config, text)}
            latent, when, features, mask = given.values()
            with torch.no_grad():
                latents = latent.expand(2, -1, -1, -1)
                expected = transformer(latents, when, features, mask, return_dict=False)[0]
            np.save(folder / "expected.npy", expected.numpy())
        else:
            data.unlink()
        about |= {"side": side, "text": text, "config": config}
        path.with_suffix(".json").write_text(json.dumps(about))


def inputs(side: int, config: dict[str, Any], text: int) -> list[tuple[str, Any]]:
    """The same numbers wherever they are made."""
    random = np.random.default_rng(5)

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape, np.float32)

    return [
        ("latent", normal(1, config["in_channels"], side, side)),
        ("time", np.array([0.5], np.float32)),
        ("text", normal(2, text, config["context_in_dim"])),
        ("mask", np.ones((2, text), bool)),
    ]


def measure(folder: Path, seconds: float) -> None:
    import onnxruntime

    for described in sorted(folder.glob("step *.json")):
        about = json.loads(described.read_text())
        path = described.with_suffix(".onnx")
        make_weights(Path(f"{path}.data"), about["bytes"])
        start = time.perf_counter()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, PROVIDERS)
        if "WebGpuExecutionProvider" not in session.get_providers():
            sys.exit("ONNX Runtime found no WebGPU device")
        opened = time.perf_counter() - start
        given = dict(inputs(about["side"], about["config"], about["text"]))
        times = [run(session, given)[0]]
        while len(times) < 4 or sum(times[1:]) < seconds:
            times.append(run(session, given)[0])
        row = {
            "name": path.stem,
            "milliseconds": round(1000 * statistics.median(times[1:]), 3),
            "first": round(1000 * times[0]),
            "runs": len(times) - 1,
            "open_seconds": round(opened, 2),
            "runtime": onnxruntime.__version__,
        }
        expected = folder / "expected.npy"
        if expected.exists():
            wanted = np.load(expected)
            off = np.linalg.norm(run(session, given)[1] - wanted) / np.linalg.norm(wanted)
            row["apart"] = float(f"{off:.2e}")
        print(json.dumps(row), flush=True)
        if row.get("apart", 0) > CLOSE:
            sys.exit("it computes something else")


def make_weights(path: Path, nbytes: int) -> None:
    """Small random numbers in f32: large enough for no zeros, small enough for no infinity."""
    if path.exists():
        return
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, nbytes, 2**26):
            count = min(2**26, nbytes - start) // 4
            file.write((0.02 * random.standard_normal(count, np.float32)).tobytes())


def run(session: Any, given: dict[str, Any]) -> tuple[float, Any]:
    """Seconds, and the velocity, which has then arrived here."""
    start = time.perf_counter()
    [velocity] = session.run(None, given)
    return time.perf_counter() - start, velocity


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="write graphs, measure nothing")
    parser.add_argument("--tiny", action="store_true", help="write one that can be compared")
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure each")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.write:
        write(options.folder, tiny=options.tiny)
    else:
        measure(options.folder, options.seconds)


if __name__ == "__main__":
    main()
