"""PRX with random weights on this machine: our kernels with wgpu-native and Dawn, and torch.

python benchmarks/plan_speed.py FOLDER [--dawn DAWN] [--seconds 0.3] [--write] [--tiny]
    [--variants few=64x128x8x2]

Operations, whole steps with both halves of guidance and decodes, at PRX's three and two sizes.
FOLDER gets the programs, every result as JSON, and all in summary.json. --write only writes the
programs, which needs diffusers; a FOLDER that has them is measured as it is, on any machine.
torch is measured where it has CUDA; Dawn where `--dawn` names npm's package "webgpu" (and node is
there). --variants: what a device's trial chose, by class of static/wgsl/variants.json; otherwise
all dispatches are as planned. The processor's share of a step is that of all threads of the process
that submits it, commands made anew each time; Dawn in Node waits by asking without pause. --tiny:
tiny sizes, each operation compared with its twin in numpy; that is a check.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
sys.path[:0] = [str(ROOT), str(ROOT / "queue")]

from plan_programs import (  # noqa: E402
    TINY,
    Scale,
    Single,
    add_operations,
    add_stages,
    torch_model,
)
from programs import Programs  # noqa: E402

from diffusion.plan.variants import Choice, read_variants  # noqa: E402
from diffusion.random_model import write_random_model  # noqa: E402

CLOSE = 2e-5  # relative L2, as near as sums in another order come
CLOSE_F16 = 1e-3  # where pictures are f16, which WGSL lets a device round either way


def write(out: Path, variants: dict[str, str], *, tiny: bool) -> list[Single]:
    shaders = ROOT / "static" / "wgsl"
    programs = Programs(shaders, Choice(read_variants(shaders), variants))
    scale = TINY if tiny else Scale()
    singles = add_operations(programs, scale)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "prx"
        if tiny:
            write_random_model(folder)
        else:
            from tests.diffusion.plan.hollow import write_hollow_prx

            write_hollow_prx(folder)
            (out / "model.json").write_text(json.dumps(torch_model(folder)))
        add_stages(programs, folder, scale)
    programs.write(out / "programs.json")
    return singles


def measure(out: Path, dawn: str | None, seconds: float) -> list[str]:
    """Run all that can run here; the runners' names."""
    programs, given = out / "programs.json", str(seconds)
    commands = {
        "wgpu": [sys.executable, HERE / "programs_wgpu.py", programs, out / "wgpu.json",
                 out / "wgpu", "--seconds", given],
    }  # fmt: skip
    if dawn:
        commands["dawn"] = ["node", HERE / "programs_dawn.mjs", Path(dawn).resolve(), programs,
                            out / "dawn.json", out / "dawn", given]  # fmt: skip
    if torch.cuda.is_available() and (out / "model.json").exists():
        commands["torch"] = [sys.executable, HERE / "programs_torch.py", out / "model.json",
                             out / "torch.json", "--seconds", given]  # fmt: skip
    for command in commands.values():
        subprocess.run([str(part) for part in command], check=True)
    return list(commands)


def result(out: Path, runner: str, name: str) -> Any:
    [path] = (out / runner).glob(f"{name}.0")
    return np.frombuffer(path.read_bytes(), np.float32).astype(np.float64)


def distance(ours: Any, theirs: Any) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def summary(out: Path, runners: list[str]) -> dict[str, Any]:
    """By program: milliseconds and TFLOP/s of each runner, and how far Dawn is from wgpu."""
    devices, rows = {}, {}
    for runner in runners:
        document = json.loads((out / f"{runner}.json").read_text())
        devices[runner] = document["device"]
        for one in document["results"]:
            name, column = one["name"], runner
            if runner == "torch":
                dtype, name = name.split(" ", 1)
                column = f"torch {dtype}"
            row = rows.setdefault(name, {})
            row[column] = {"ms": 1000 * one["seconds"], "tflops": one.get("tflops")}
            if "processor" in one:
                row[column]["processor"] = one["processor"]
    if "dawn" in runners:
        for name, row in rows.items():
            row["apart"] = distance(result(out, "dawn", name), result(out, "wgpu", name))
    return {"devices": devices, "rows": rows}


def table(document: dict[str, Any]) -> str:
    columns = ["wgpu", "dawn", "torch f32", "torch bf16"]
    columns = [one for one in columns if any(one in row for row in document["rows"].values())]
    text = "\n".join(f"{name}: {device}" for name, device in document["devices"].items())
    text += f"\n\n{'ms (TFLOP/s)':<28}" + "".join(f"{one:>20}" for one in columns)
    for name, row in document["rows"].items():
        text += f"\n{name:<28}"
        for column in columns:
            cell = ""
            if column in row:
                rate = row[column]["tflops"]
                cell = f"{row[column]['ms']:.3f}" + (f" ({rate:.2f})" if rate else "")
            text += f"{cell:>20}"
        if "torch f32" in row:  # how much of its speed we reach
            reached = row["torch f32"]["ms"] / row["wgpu"]["ms"]
            text += f"  {reached:.0%} of torch f32"
        if name.startswith("step"):
            shares = [row[one]["processor"] for one in ("wgpu", "dawn") if one in row]
            text += f"  processor {' / '.join(f'{share:.1%}' for share in shares)}"
        if "apart" in row:
            text += f"  {row['apart']:.0e} apart"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dawn", help='npm\'s package "webgpu": its folder or its dawn.node')
    parser.add_argument("--seconds", type=float, default=0.3, help="to measure each program")
    parser.add_argument("--write", action="store_true", help="write programs, measure nothing")
    parser.add_argument(
        "--variants", nargs="*", default=[], metavar="CLASS=VARIANT", help="what a trial chose"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, compared with the twins")
    arguments = parser.parse_args()
    out: Path = arguments.folder
    out.mkdir(parents=True, exist_ok=True)
    singles: list[Single] = []
    if arguments.write or arguments.tiny or not (out / "programs.json").exists():
        variants = dict(one.split("=", 1) for one in arguments.variants)
        singles = write(out, variants, tiny=arguments.tiny)
    if arguments.write:
        return
    runners = measure(out, arguments.dawn, arguments.seconds)
    document = summary(out, runners)
    (out / "summary.json").write_text(json.dumps(document, indent=1))
    print(table(document))
    wrong = [
        name
        for name, row in document["rows"].items()
        if not row.get("apart", 0) < (CLOSE_F16 if name.startswith("decode") else CLOSE)
    ]
    if arguments.tiny:
        for single in singles:
            expected = single.expected()
            for runner in runners:
                ours = result(out, runner, single.program.name)
                if not distance(ours, expected[: ours.size]) < CLOSE:
                    wrong.append(f"{single.program.name} ({runner})")
    if wrong:
        sys.exit(f"wrong: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
