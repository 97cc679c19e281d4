"""The real deployment, once: Redis, a site and a separate Celery worker, and who computed what.

    PYTHONPATH=.:queue python benchmarks/deployment.py [--jobs 4] [--images 2] [--side 256]

Starts a redis-server of its own (and PostgreSQL where it is installed, else SQLite), the site and
one `celery -A p2pweb worker`, which takes the GPU when there is one. Makes the pictures, prints
every chunk with its worker, device and time as JSON, and ends what it started. Loopback only.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "queue")]

from tests.genqueue.processes import Site, until  # noqa: E402
from tests.genqueue.servers import has_postgres, postgres_server, redis_server  # noqa: E402

PROMPT = "a rocket above a full moon on a black background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        env = {
            "REDIS_URL": stack.enter_context(redis_server(folder)),
            "P2PWEB_DEFAULT_MODEL": "prx-emoji",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        database = "sqlite"
        if has_postgres():
            database = "postgresql"
            env["DATABASE_URL"] = stack.enter_context(postgres_server(folder))
        site = Site(folder / "data", folder / "models", folder / "log", **env)
        stack.callback(site.process.wait, 30)
        stack.callback(site.process.terminate)
        site.listening()
        worker = site.spawn(sys.executable, "-m", "celery", "-A", "p2pweb", "worker")
        stack.callback(worker.wait, 30)
        stack.callback(worker.terminate)
        until(lambda: site.get("/api/health")["worker"]["detail"] == "1 ready", 120, "a worker")
        print(json.dumps({"database": database, **measure(site, options, env)}, indent=1))


def measure(site, options, env):
    jobs = []
    for number in range(options.jobs):
        asked = {
            "prompt": PROMPT, "model": "prx-emoji", "width": options.side, "height": options.side,
            "steps": options.steps, "num_images": options.images, "seed": number,
        }  # fmt: skip
        jobs.append(site.submit("deployment", **asked))
    finished = [site.finished(job, 300) for job in jobs]
    os.environ.update(env, P2PWEB_DATA_DIR=str(site.data))
    os.environ["DJANGO_SETTINGS_MODULE"] = "p2pweb.settings"
    import django

    django.setup()
    from django.db import connections

    from genqueue.models import Chunk

    chunks = [
        {
            "kind": chunk.kind,
            "image": chunk.image.index if chunk.image else None,
            "steps": f"{chunk.start}..{chunk.stop}" if chunk.kind == "denoise" else None,
            "worker": chunk.worker.name,
            "device": chunk.worker.device,
            "attempt": chunk.attempt,
            "seconds": round(chunk.seconds, 4),
        }
        for chunk in Chunk.objects.select_related("image", "worker").order_by("finished_at")
    ]
    connections.close_all()  # PostgreSQL ends when nobody is connected any more
    return {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "states": sorted({job["state"] for job in finished}),
        "chunks": chunks,
    }


if __name__ == "__main__":
    main()
