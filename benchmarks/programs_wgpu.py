"""Runs a file of programs (see programs.py) with wgpu-native: seconds of each, and what it reads.

python benchmarks/programs_wgpu.py PROGRAMS.json RESULTS.json FOLDER [--seconds 0.3]
"""

import argparse
import json
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "queue"))

import wgpu  # noqa: E402

from diffusion.backends.wgpu_device import UNIFORM_STRIDE, Device  # noqa: E402
from diffusion.plan.variants import read_variants  # noqa: E402

STORAGE = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
KINDS = {"f32": 0, "f16": 1, "u32": 2}


def accesses(count: int, writes: list[int]) -> tuple[str, ...]:
    return tuple("storage" if one in writes else "read-only-storage" for one in range(count))


class Runner:
    """One device; pipelines are made once for each text and layout."""

    def __init__(self, modules: dict[str, str]) -> None:
        shaders = ROOT / "static" / "wgsl"
        self.device = Device(shaders, variants=read_variants(shaders))
        self.gpu = self.device.gpu
        self.modules = modules
        self.pipelines: dict[tuple[str, tuple[str, ...]], tuple[Any, Any]] = {}
        fill = (Path(__file__).parent / "fill.wgsl").read_text()
        self.modules = {**modules, "fill": fill}
        self.nothing = self.gpu.create_buffer(size=16, usage=STORAGE)

    def prepare(self, program: dict[str, Any]) -> None:
        """Make its pipelines at the same time, as `Device.pipelines` does."""
        keys = {
            (step["module"], accesses(len(step["buffers"]), step["writes"]))
            for step in program["steps"]
        }
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda key: self.pipeline(*key), keys))

    def pipeline(self, module: str, accesses: tuple[str, ...]) -> tuple[Any, Any]:
        key = (module, accesses)
        if key not in self.pipelines:
            entries: list[dict[str, Any]] = [{"binding": 0, "buffer": {"type": "uniform"}}]
            entries += [
                {"binding": number, "buffer": {"type": access}}
                for number, access in enumerate(accesses, 1)
            ]
            for entry in entries:
                entry["visibility"] = wgpu.ShaderStage.COMPUTE
            layout = self.gpu.create_bind_group_layout(entries=entries)
            text = self.device.directives + self.modules[module]
            code = self.gpu.create_shader_module(code=text)
            pipeline = self.gpu.create_compute_pipeline(
                layout=self.gpu.create_pipeline_layout(bind_group_layouts=[layout]),
                compute={"module": code, "entry_point": "main"},
            )
            self.pipelines[key] = (pipeline, layout)
        return self.pipelines[key]

    def command(
        self, module: str, sizes: bytes, buffers: list[Any], writes: list[int], groups: list[int]
    ) -> tuple[Any, Any, list[int]]:
        pipeline, layout = self.pipeline(module, accesses(len(buffers), writes))
        uniform = self.gpu.create_buffer_with_data(
            data=sizes.ljust(UNIFORM_STRIDE, b"\0"), usage=wgpu.BufferUsage.UNIFORM
        )
        entries = [
            {"binding": number, "resource": {"buffer": buffer, "offset": 0, "size": buffer.size}}
            for number, buffer in enumerate([uniform, *buffers])
        ]
        return pipeline, self.gpu.create_bind_group(layout=layout, entries=entries), groups

    def submit(self, commands: list[tuple[Any, Any, list[int]]], times: int = 1) -> None:
        encoder = self.gpu.create_command_encoder()
        work = encoder.begin_compute_pass()
        for _ in range(times):
            for pipeline, group, groups in commands:
                work.set_pipeline(pipeline)
                work.set_bind_group(0, group)
                work.dispatch_workgroups(*groups)
        work.end()
        self.gpu.queue.submit([encoder.finish()])

    def wait(self) -> None:
        self.gpu.queue.read_buffer(self.nothing, 0, 16)

    def run(self, program: dict[str, Any], folder: Path, long: float) -> dict[str, Any]:
        buffers = [
            self.gpu.create_buffer(size=one["bytes"], usage=STORAGE) for one in program["buffers"]
        ]
        fills = []
        for number, (buffer, one) in enumerate(zip(buffers, program["buffers"], strict=True)):
            sizes = struct.pack(
                "<IIIf", one["bytes"] // 4, number, KINDS[one["values"]], one["scale"]
            )
            groups = [min(-(-one["bytes"] // 1024), 4096), 1, 1]
            fills.append(self.command("fill", sizes, [buffer], [0], groups))
        start = time.perf_counter()
        self.prepare(program)
        commands = [
            self.command(
                step["module"],
                struct.pack(f"<{len(step['sizes'])}I", *step["sizes"]),
                [self.nothing if place < 0 else buffers[place] for place in step["buffers"]],
                step["writes"],
                step["workgroups"],
            )
            for step in program["steps"]
        ]
        compiled = time.perf_counter() - start
        self.submit(fills)
        self.submit(commands)
        for number, (place, first, size) in enumerate(program["read"]):
            data = self.gpu.queue.read_buffer(buffers[place], first, size)
            (folder / f"{program['name']}.{number}").write_bytes(data)
        self.wait()
        once = self.timed(commands, 1)
        times = max(1, min(200, round(long / 3 / once)))
        began, worked = time.perf_counter(), time.process_time()
        best = min(self.timed(commands, times) for _ in range(3))
        share = (time.process_time() - worked) / (time.perf_counter() - began)
        parts = self.parts(program, commands, long / 10) if len(commands) > 1 else []
        for buffer in buffers:
            buffer.destroy()
        return {
            "name": program["name"],
            "seconds": best,
            "compile": compiled,
            "processor": share,
            "tflops": program["operations"] / best / 1e12,
            "parts": parts,
        }

    def parts(
        self, program: dict[str, Any], commands: list[Any], long: float
    ) -> list[dict[str, Any]]:
        """The same dispatches together: how often, and how long all of them take alone."""
        alike: dict[str, list[int]] = {}
        for number, step in enumerate(program["steps"]):
            alike.setdefault(f"{step['module']} {step['sizes']}", []).append(number)
        found = []
        for numbers in alike.values():
            step = program["steps"][numbers[0]]
            group = [commands[number] for number in numbers]
            once = self.timed(group, 1)
            taken = self.timed(group, max(1, min(200, round(long / once))))
            found.append(
                {
                    "shader": step["shader"],
                    "sizes": step["sizes"],
                    "count": len(numbers),
                    "seconds": taken,
                    "tflops": step["operations"] * len(numbers) / taken / 1e12,
                }
            )
        return sorted(found, key=lambda part: -part["seconds"])

    def timed(self, commands: list[tuple[Any, Any, list[int]]], times: int) -> float:
        start = time.perf_counter()
        self.submit(commands, times)
        self.wait()
        return (time.perf_counter() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=0.3, help="to measure each program")
    arguments = parser.parse_args()
    document = json.loads(arguments.programs.read_text())
    arguments.folder.mkdir(parents=True, exist_ok=True)
    runner = Runner(document["modules"])
    print("wgpu", runner.device.description, flush=True)
    results = []
    for program in document["programs"]:
        result = runner.run(program, arguments.folder, arguments.seconds)
        results.append(result)
        print(
            f"wgpu {result['name']:<34} {result['seconds']:10.6f} s"
            f" {result['tflops']:8.3f} TFLOP/s, made in {result['compile']:5.2f} s",
            flush=True,
        )
        for part in result["parts"][:12]:
            print(
                f"       {part['count']:3} x {part['shader']:<20} {part['seconds']:10.6f} s"
                f" {part['tflops']:8.3f} TFLOP/s {part['sizes']}",
                flush=True,
            )
        arguments.results.write_text(
            json.dumps({"device": runner.device.description, "results": results})
        )


if __name__ == "__main__":
    main()
