"""Real steps of a real model in a room without a server: every lie is found by the other tab, and
honest ones never refuse each other.

The tabs are real but for their GPUs: what they compute is torch's (torch_engine.py), and of a liar
what tests/liars.py says.
"""

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion.backends import Backend, open_backend
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise
from diffusion.random_model import write_random_model
from tests.diffusion.plan.rounded import write_rounded_model
from tests.faults import torch_engine
from tests.faults.fault import injected, lots_of
from tests.js.pictures import pixels
from tests.js.room.conftest import bare_relay, relay, rtc_chromium, tabs
from tests.js.room.tabs import Tabs
from tests.js.work.sharing import Member, member, settled
from tests.liars import LIES, Liar
from tests.relay import BareRelay

__all__ = ["bare_relay", "relay", "rtc_chromium", "tabs"]

SIDE, STEPS, GUIDANCE = 64, 6, 4.0
PROMPT = "a rocket on a blue background"
HONEST_SECONDS = 0.6  # at most, of about two that three pictures take
MOST_JOBS = 6
PACKAGES = {"f32": "f" * 64, "f16": "e" * 64}
PICTURES = """async () => Promise.all(room.jobs.flatMap(({ images }) => images).map(
  async ({ seed, url, doubt }) => [seed, doubt,
    url && btoa(String.fromCharCode(...await coordinator.blob(url)))]))"""
FINISHED = "room.jobs.length === {} && room.jobs.every(({{ state }}) => state === 'done')"
SHUT_OUT = "(room.head?.shut_out ?? [])"


@pytest.fixture(scope="module")
def backends(tmp_path_factory) -> dict[str, Backend]:
    """The same weights, written in f32, as tabs of each variant have them."""
    place = tmp_path_factory.mktemp("variants")
    exact = write_random_model(place / "f32", dtype=torch.float32)
    folders: dict[str, Path] = {"f32": exact}
    for variant in ("f16", "int8"):
        folders[variant] = write_rounded_model(exact, place / variant, variant)
    return {name: open_backend("torch", read_model_folder(path)) for name, path in folders.items()}


@pytest.fixture
def engine(tabs: Tabs, backends: dict[str, Backend]) -> Iterator[torch_engine.TorchEngine]:
    engine = torch_engine.TorchEngine(backends["f32"].folder)
    tabs.answers[torch_engine.PATH] = engine.answer
    yield engine
    del tabs.answers[torch_engine.PATH]


def comes(tabs: Tabs, relay: BareRelay, client: str, variant: str, backend: Backend) -> Member:
    folder = backend.folder
    about = {
        "latent_channels": folder.latent_channels, "vae_scale": folder.vae_scale,
        "text_dim": folder.text_dim, "max_tokens": folder.max_tokens,
        "packages": list(PACKAGES.values()),
        "variants": {package: name for name, package in PACKAGES.items()},
    }  # fmt: skip
    return member(
        tabs, relay, client, engine=torch_engine.ENGINE, model=about, stepMs=5, wholeRanges=True,
        checks=True, packageId=PACKAGES[variant],
    )  # fmt: skip


def asks(
    one: Member, seed: int, images: int = 1, steps: int = STEPS, guidance: float = GUIDANCE,
    width: int = SIDE,
):  # fmt: skip
    one.submits({
        "prompt": PROMPT, "seed": seed, "steps": steps, "guidance": guidance, "width": width,
        "height": SIDE, "num_images": images,
    })  # fmt: skip


def honest(backend: Backend, seed: int, width: int) -> np.ndarray:
    latent = backend.denoise(
        backend.encode(PROMPT, "", GUIDANCE),
        initial_noise(seed, backend.folder.latent_shape(width, SIDE)),
        steps=STEPS, guidance=GUIDANCE, start=0, stop=STEPS,
    )  # fmt: skip
    return backend.decode(latent).astype(int)


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_found_told_and_done_again(tabs, relay, engine, backends, lie, request):
    """From a random moment on, of several pictures in a row."""
    both = {client: comes(tabs, relay, client, "f16", backends["f16"]) for client in "ab"}
    holder = settled(*both.values())
    [(name, liar)] = [(name, one) for name, one in both.items() if one is not holder]
    engine.others = {client * 32: backends["f16"] for client in both}
    widths: dict[int, int] = {}  # of all pictures, by seed
    jobs = 0
    while jobs == 0 or not holder.page.evaluate(SHUT_OUT):
        assert jobs < MOST_JOBS, f"{lie} was not found"
        # Of a size that is new to everybody ranges are short at first, so images change hands
        width = SIDE + 32 * jobs
        asks(holder, 10 * jobs, images=3, width=width)
        widths |= {10 * jobs + image: width for image in range(3)}
        if jobs == 0:
            passed = lots_of(request).random() * HONEST_SECONDS
            time.sleep(passed)
            engine.others[name * 32] = Liar(lie, backends["f16"], backends["int8"])
            injected(request, "liar", f"{passed:.2f} s ({lie})")
        jobs += 1
        holder.waits(FINISHED.format(jobs), 60)
    for one in both.values():
        one.waits(FINISHED.format(jobs), 60)
        one.waits(f"{SHUT_OUT}.length === 1", 30)
        [shut_out] = one.page.evaluate(SHUT_OUT)
        assert shut_out["client"] == one.page.evaluate(
            "async (id) => (await import('work/clients.js')).clientLabel(id)", name * 32
        )
        assert shut_out["reason"].startswith("steps ")
        found = one.page.evaluate(PICTURES)
        assert [(seed, doubt) for seed, doubt, _png in found] == [(seed, None) for seed in widths]
        for seed, _doubt, png in found:
            made = pixels(base64.b64decode(png)).astype(int)
            assert np.abs(made - honest(backends["f16"], seed, widths[seed])).max() <= 2
    asks(liar, 990)  # may ask all the same, and is answered
    liar.waits(FINISHED.format(jobs + 1), 60)
    for one in both.values():
        assert one.page.evaluate("troubles") == []


def test_honest_tabs_of_f32_and_f16_never_refuse_each_other(tabs, relay, engine, backends):
    crowd = {
        client: comes(tabs, relay, client, variant, backends[variant])
        for client, variant in (("a", "f16"), ("b", "f32"), ("c", "f16"))
    }
    settled(*crowd.values())
    engine.others = {
        "a" * 32: backends["f16"], "b" * 32: backends["f32"], "c" * 32: backends["f16"],
    }  # fmt: skip
    for seed, one in enumerate(crowd.values()):
        asks(one, 10 * seed, images=3)
        asks(one, 10 * seed, images=1, steps=3, guidance=1.0)
    checked = 0
    for one in crowd.values():
        one.waits(FINISHED.format(6), 120)
        assert one.page.evaluate(SHUT_OUT) == []
        doubts = "room.jobs.flatMap(({ images }) => images).filter(({ doubt }) => doubt).length"
        one.waits(f"{doubts} === 0", 30)
        checked += one.page.evaluate("leases.filter(({ fresh }) => fresh).length")
    assert checked >= 15
