"""From Generate to the finished picture, through everything. Prints JSON; ends what it starts.

    python benchmarks/generate_to_picture.py [--side 256] [--runs 9]

Starts `manage.py serve` with a data folder of its own, and one more process that holds
`diffusers.PRXPipeline` and our backend, called directly with the same settings, number of threads
and niceness as the worker's. The three take turns, so that a busy machine slows all of them.

- `generate_to_picture`: from the POST until a client hears on the room's WebSocket that the picture
  is finished; `fetched`: until it has the PNG. `first_message`: the job appears; `first_progress`:
  it runs; `first_step`: a step is done and has its preview.
- `where_the_time_goes`: medians, from the queue's own rows. What `backend` does is the same in the
  direct call; everything else is the price of the room.
- `peak_memory_mb`: of the site and of the worker, over the whole run.
- `stats`: /api/stats at 20 requests/s while pictures are made.
"""

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from api_stats import ROOT, own_server, wait_until_quiet, while_generating
from pipeline_vs_diffusers import PROMPT, call_diffusers, load_diffusers, wanted
from room_client import Poster, RoomSocket

ROOM = "benchmark"
WARM_UPS = 2
TIMEOUT_SECONDS = 120
WORKER_NICENESS = 2  # as the embedded worker's
MODEL = ROOT / "models" / "prx-emoji"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--stats-seconds", type=float, default=10)
    parser.add_argument("--direct", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder = MODEL
    if options.direct:
        serve_direct_calls(options)
    else:
        print(json.dumps(measure(options), indent=2))


def measure(options):
    load_before = os.getloadavg()[0]
    with own_server() as (url, folder, server), Direct(options) as direct:
        address = urlsplit(url)
        wait_until_quiet(url)
        socket = RoomSocket(address.hostname, address.port, ROOM)
        poster = Poster(address.hostname, address.port, ROOM)
        runs, ours, theirs = [], [], []
        for _ in range(WARM_UPS + options.runs):
            theirs.append(direct.call("diffusers"))
            runs.append(one_run(socket, poster, options))
            ours.append(direct.call("ours"))
        socket.close()
        poster.close()
        stats = while_generating(url, address.hostname, address.port, 20, options.stats_seconds)
        parts = [parts_of(folder, run) for run in runs[WARM_UPS:]]
        worker = children_of(server.pid)[0]
        memory = {"site": peak_mb(server.pid), "worker": peak_mb(worker)}
        versions = direct.facts
    runs, ours, theirs = runs[WARM_UPS:], ours[WARM_UPS:], theirs[WARM_UPS:]
    seen = [run["seen"] - run["start"] for run in runs]
    return {
        "side": options.side,
        "steps": options.steps,
        "guidance": options.guidance,
        "runs": options.runs,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
        "load_average": [round(load_before, 1), round(os.getloadavg()[0], 1)],
        "generate_to_picture_seconds": spread(seen),
        "fetched_seconds": spread([run["fetched"] - run["start"] for run in runs]),
        "first_message_seconds": spread([run["shown"] - run["start"] for run in runs]),
        "first_progress_seconds": spread([run["running"] - run["start"] for run in runs]),
        "first_step_seconds": spread([run["stepped"] - run["start"] for run in runs]),
        "backend_called_directly_seconds": spread(ours),
        "diffusers_called_directly_seconds": spread(theirs),
        "ratio_to_diffusers": ratio(seen, theirs),
        "ratio_to_backend": ratio(seen, ours),
        "where_the_time_goes_ms": {
            name: round(1000 * statistics.median(part[name] for part in parts), 1)
            for name in parts[0]
        },
        "peak_memory_mb": memory,
        "stats": stats,
    }


def spread(seconds):
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"median": round(statistics.median(ordered), 3), "p95": round(p95, 3)}


def ratio(ours, theirs):
    return round(statistics.median(ours) / statistics.median(theirs), 3)


def one_run(socket, poster, options):
    """Moments (`time.time()`) of one job, as its client lives through them."""
    start = time.time()
    job = poster.post(
        {
            "prompt": PROMPT, "width": options.side, "height": options.side,
            "steps": options.steps, "guidance": options.guidance, "seed": 7,
        }
    )  # fmt: skip
    run = {"job": job["id"], "start": start, "posted": time.time()}

    def ended(job):
        if job["state"] in ("failed", "cancelled"):
            raise RuntimeError(f"the job {job['state']}: {job['error']}")
        return job["images"][0]["url"] is not None

    for arrived, now in socket.jobs_until(job["id"], ended, TIMEOUT_SECONDS):
        run.setdefault("shown", arrived)
        if now["state"] != "queued":
            run.setdefault("running", arrived)
        if now["images"][0]["step"]:
            run.setdefault("stepped", arrived)
        run["seen"] = arrived
    png = poster.get(now["images"][0]["url"])
    run["fetched"] = time.time()
    if not png.startswith(b"\x89PNG"):
        raise RuntimeError("that is no picture")
    return run


def parts_of(folder: Path, run):
    """Where the time of one run went: seconds."""
    database = sqlite3.connect(f"file:{folder}/p2pweb.sqlite3?mode=ro", uri=True)
    rows = database.execute(
        "SELECT kind, leased_at, finished_at, seconds FROM queue_chunk WHERE job_id=? ORDER BY id",
        [run["job"].replace("-", "")],
    ).fetchall()
    database.close()
    chunks = [(kind, moment(leased), moment(done), took) for kind, leased, done, took in rows]
    parts = {
        "until the worker has the job": chunks[0][1] - run["start"],
        "encode": 0.0, "denoise, with previews and progress": 0.0, "decode, with PNG": 0.0,
        "leasing, handing in, between chunks": 0.0,
        "from the last commit to the client": run["seen"] - chunks[-1][2],
    }  # fmt: skip
    names = dict(zip(("encode", "denoise", "decode"), list(parts)[1:4], strict=True))
    for kind, _leased, _done, took in chunks:
        parts[names[kind]] += took
    computing = sum(took for *_, took in chunks)
    parts["leasing, handing in, between chunks"] = chunks[-1][2] - chunks[0][1] - computing
    return parts


def moment(text):
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


class Direct:
    """The process that is called without a site: one line in, the seconds of one call out."""

    def __init__(self, options):
        command = [sys.executable, __file__, "--direct"]
        for name in ("side", "steps", "guidance"):
            command += [f"--{name}", str(getattr(options, name))]
        self.command = command

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = json.loads(self.process.stdout.readline())
        return self

    def call(self, what):
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def serve_direct_calls(options):
    os.nice(WORKER_NICENESS)
    import torch

    from diffusion.backends import open_backend
    from diffusion.pipeline import generate

    folder, settings = wanted(options)
    backend = open_backend("torch", folder)
    pipeline = load_diffusers(options.folder, backend)
    calls = {
        "ours": lambda: generate(backend, settings),
        "diffusers": lambda: call_diffusers(pipeline, settings, "pil"),
    }
    facts = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": backend.device,
    }
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        calls[line.strip()]()
        print(time.perf_counter() - start, flush=True)


def children_of(pid):
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def peak_mb(pid):
    """The most memory that the process has held at once (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return round(int(kilobytes) / 1024)


if __name__ == "__main__":
    main()
