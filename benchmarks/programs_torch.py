"""Times PRX's transformer and decoder in torch, with random weights, for comparison with programs.

python benchmarks/programs_torch.py MODEL.json RESULTS.json [--seconds 0.5]

MODEL.json: what `plan_speed.py` writes: configurations, and names and shapes of all weights.
Results have the names of `plan_speed.py`'s programs. TF32 is off: f32 is f32.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "queue"))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from diffusion.torch_parts import decoder as decoders  # noqa: E402
from diffusion.torch_parts import transformer as transformers  # noqa: E402

TEXT = 256
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Random:
    """Weights for a part's names and shapes, in place of what `load_weights` reads."""

    def __init__(self, shapes: dict[str, dict[str, list[int]]]) -> None:
        self.shapes = shapes

    def __call__(
        self,
        folder: Path,
        _stem: str,
        device: torch.device,
        dtype: torch.dtype,
        wanted: Callable[[str], bool] = lambda name: True,
    ) -> dict[str, Tensor]:
        weights = {}
        for name, shape in self.shapes[folder.name].items():
            if wanted(name):
                inner = 1 if len(shape) == 1 else torch.Size(shape[1:]).numel()
                weight = torch.randn(shape, device=device, dtype=dtype)
                weights[name] = weight * inner**-0.5
        return weights


def timed(work: Callable[[], Any], long: float) -> float:
    """Seconds of one call, the best of three means."""

    def some(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            work()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / times

    some(1)
    times = max(1, round(long / 3 / some(1)))
    return min(some(times) for _ in range(3))


def measured(folder: Path, dtype: torch.dtype, long: float) -> Iterator[tuple[str, float]]:
    """What is timed, and its seconds."""
    device = torch.device("cuda")
    transformer = transformers.Transformer(folder, device, dtype)
    texts = [transformer.text_kv(torch.randn(TEXT, 2304)) for _ in range(2)]
    table = transformer.modulation(torch.tensor([0.5]))
    for side in (128, 64, 32):
        latent = torch.randn(16, side, side, device=device)
        turns = transformer.rotation(side // 2, side // 2)
        step = partial(transformer.velocity, latent, texts, table, 0, turns)
        yield f"step {side * side // 4}", timed(step, long)
    decoder = decoders.load_decoder(folder, device, dtype)
    for side in (128, 64):
        latent = torch.randn(16, side, side, device=device)
        yield f"decode {side * 8}", timed(partial(decoder.decode, latent), long)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seconds", type=float, default=0.5, help="to measure each")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    model = json.loads(arguments.model.read_text())
    random = Random({name: part["shapes"] for name, part in model.items()})
    decoders.load_weights = random  # type: ignore[assignment]
    transformers.load_weights = random  # type: ignore[assignment]
    results: list[dict[str, Any]] = []

    def report(name: str, seconds: float) -> None:
        results.append({"name": name, "seconds": seconds})
        print(f"torch {name:<33} {seconds:10.6f} s", flush=True)
        described = f"torch {torch.__version__} {torch.cuda.get_device_name()}"
        arguments.results.write_text(json.dumps({"device": described, "results": results}))

    with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
        folder = Path(temporary)
        for name, part in model.items():
            (folder / name).mkdir()
            (folder / name / "config.json").write_text(json.dumps(part["config"]))
        for label, dtype in DTYPES.items():
            for name, seconds in measured(folder, dtype, arguments.seconds):
                report(f"{label} {name}", seconds)


if __name__ == "__main__":
    main()
