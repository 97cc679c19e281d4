"""What sharing out costs: workers that wait half a second a step and compute nothing.

    PYTHONPATH=.:queue python benchmarks/overhead.py [--workers 8] [--steps 8] [--only site|room]

One image by one of the workers, then as many images as workers, at both queues, over the real
protocols: `site` is `manage.py serve` on its own folder with helpers of `rooms.remote` over
WebSockets (its own worker is kept out of the room), `room` are tabs of Chromium that share a queue
over WebRTC, one of them its holder. The batch should take at most 1.1 times as long as one image.
Everything runs on this machine, so with fewer processor cores than workers it says more of them.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import django
import numpy as np
from playwright.sync_api import sync_playwright

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "p2pweb.settings")

STEP_SECONDS = 0.5
MOST = 1.1
ROOM = "kitchen"
WITHOUT_THE_SERVER = f"""
INSERT INTO queue_room (id, owner, title, listed, paused, server_helps, tabs_help, created_at,
  visited_at, revision, last_turn)
VALUES ('{ROOM}', '', '', 0, 0, 0, 1, datetime('now'), datetime('now'), 0, 0)
"""

Make = Callable[[int, int], float]  # make(images, seed): seconds until the last one is there


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["site", "room"])
    options = parser.parse_args()
    django.setup()
    print(f"{os.cpu_count()} processor cores, load {os.getloadavg()[0]:.0f} at the beginning")
    print("| queue | one image, s | a batch, s | ratio |\n|---|---:|---:|---:|")
    for name, queue in (("site", site), ("room", room)):
        if options.only in (None, name):
            with queue(options.workers, options.steps) as make:
                report(name, make, options.workers, options.rounds)


def report(name: str, make: Make, workers: int, rounds: int) -> None:
    make(workers, 1)  # everybody's speed is measured
    ones = [make(1, 100 * n) for n in range(1, rounds + 1)]
    batches = [make(workers, 1000 * n) for n in range(1, rounds + 1)]
    one, batch = median(ones), median(batches)
    said = "" if batch <= MOST * one else f", more than {MOST}"
    print(f"| {name} | {one:.2f} | {batch:.2f} | {batch / one:.3f}{said} |", flush=True)


# With a server -----------------------------------------------------------------------------------
class Waiting:
    """A backend whose results are zeros of the right shapes, after the time that they take."""

    name, device, kernels, precision = "torch", "nothing", "", "f32"

    def __init__(self, folder: Any) -> None:
        self.folder = folder

    def encode(self, prompt: str, negative_prompt: str, guidance: float) -> dict[str, Any]:
        text = np.zeros((4, self.folder.text_dim), np.float32)
        return {"prompt": text, "negative": text} if guidance > 1 else {"prompt": text}

    def denoise(
        self, conditioning: Any, latent: Any, *, start: int, stop: int, on_step: Any, **_: Any
    ) -> Any:
        for step in range(start, stop):
            time.sleep(STEP_SECONDS)
            on_step(step + 1, latent)
        return latent

    def decode(self, latent: Any) -> Any:
        _, rows, columns = latent.shape
        scale = self.folder.vae_scale
        return np.zeros((rows * scale, columns * scale, 3), np.uint8)

    def close(self) -> None:
        pass


@contextmanager
def site(workers: int, steps: int) -> Iterator[Make]:
    from diffusion.model_folder import read_model_folder
    from diffusion.random_model import write_random_model
    from genqueue.identity import identity
    from rooms.remote.address import join, room_address
    from rooms.remote.helper import Helper, Models
    from rooms.remote.line import Line
    from tests.genqueue.processes import Site

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = read_model_folder(write_random_model(root / "models/tiny"))
        running = Site(root / "data", root / "models", root / "log", P2PWEB_SPOT_CHECKS="0")
        helpers, threads = [], []
        try:
            running.ready()
            running.write(WITHOUT_THE_SERVER)
            address = room_address(f"http://127.0.0.1:{running.port}/rooms/{ROOM}/")
            for number in range(workers):
                models = Models({identity(folder): folder}, Waiting)
                described = {
                    "name": f"worker {number}", "device": "nothing", "software": True,
                    "variant": "f32", "models": list(models.folders),
                }  # fmt: skip
                join_ = partial(join, address, described)
                helpers.append(Helper(models, join_, Line, lambda _: None))
                threads.append(threading.Thread(target=helpers[-1].run))
                threads[-1].start()
            ready = "SELECT 1 FROM queue_worker WHERE kind = 'remote' AND state = 'ready'"
            wait(lambda: len(running.rows(ready)) == workers)

            def make(images: int, seed: int) -> float:
                began = time.monotonic()
                job = running.submit(ROOM, steps=steps, num_images=images, seed=seed)
                query = "SELECT 1 FROM queue_job WHERE id = ? AND state = 'done'"
                wait(lambda: running.rows(query, job["id"].replace("-", "")))
                return time.monotonic() - began

            yield make
        finally:
            for helper in helpers:
                helper.stop()
            for thread in threads:
                thread.join()
            running.stop()


def wait(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


# Without one -------------------------------------------------------------------------------------
@contextmanager
def room(workers: int, steps: int) -> Iterator[Make]:
    from tests.browser import ARGUMENTS, CHROMIUM
    from tests.js.room.conftest import RTC
    from tests.js.room.tabs import Tabs
    from tests.js.work.sharing import member, settled
    from tests.relay import BareRelay

    relay = BareRelay()
    relay.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, RTC])
        with Tabs(browser) as tabs:
            step_ms = 1000 * STEP_SECONDS
            members = [
                member(tabs, relay, "0123456789abcdef"[n], stepMs=step_ms) for n in range(workers)
            ]
            settled(*members, seconds=60)
            asker = members[0]
            asker.waits(f"room.head.workers.length === {workers}")
            seen = 0

            def make(images: int, seed: int) -> float:
                nonlocal seen
                began = time.monotonic()
                asker.asks(seed, steps=steps, images=images)
                seen += images
                asker.waits(
                    "room.jobs.flatMap(({ images }) => images).filter(({ url }) => url).length"
                    f" === {seen}",
                    120,
                )
                return time.monotonic() - began

            yield make
        browser.close()
    relay.stop()


if __name__ == "__main__":
    main()
