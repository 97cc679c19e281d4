"""A tab loses its GPU in the middle of a picture: real engine on the software adapter, no server.

What the device held is gone with it, and so are its pipelines; the picture goes on from the last
step that came out, on a new device.
"""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, Worker, expect

from diffusion.settings import Settings
from tests.browser import WEBGPU, _browser, ask, listen_for_errors
from tests.faults.fault import Fault, each_time, injected, lots_of
from tests.faults.reference import PROMPT, Reference
from tests.js.pictures import DECODED, decibels, made_by_torch, pixels
from tests.js.room.conftest import relay
from tests.js.test_exported_room import host, model, saved

__all__ = ["host", "model", "relay"]

PATIENCE_MS = 240_000  # the software GPU takes seconds for each pipeline, and makes all twice
STEPS, SEED = 40, 7
LATENTS = 0.02  # relative L2 of f16 from diffusers' f32

# In the engine's Worker
REMEMBER_THE_DEVICE = """() => {
  const { createCommandEncoder } = GPUDevice.prototype;
  GPUDevice.prototype.createCommandEncoder = function (...given) {
    self.device = this;
    return createCommandEncoder.apply(this, given);
  };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from _browser(*WEBGPU)


def is_engine(worker: Worker) -> bool:
    return worker.url.endswith("engine-worker.js")


def lose_the_device(engine: Worker) -> None:
    engine.evaluate("device.destroy()")


@each_time([Fault("GPU device lost", lose_the_device)])
def test_the_picture_goes_on_with_a_new_device(browser, host, model, fault, number, request):
    errors: list[str] = []
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_MS)
    listen_for_errors(page, errors)
    page.add_init_script(DECODED)
    with page.expect_event("worker", is_engine) as found:
        page.goto(f"{host.url}room.html?allow-software-gpu=1#kitchen")
    engine = found.value
    engine.evaluate(REMEMBER_THE_DEVICE)
    said = page.locator("#compute-said")
    expect(said).to_have_text(re.compile("^Ready on .*: waiting for work."), timeout=PATIENCE_MS)
    ask(page, PROMPT, size="64x64", Steps=STEPS, Guidance=4, Seed=SEED)
    step = 1 + int(lots_of(request).random() * (STEPS - 2))
    page.wait_for_function(
        "step => document.querySelector('#queue progress')?.value >= step", arg=step
    )
    fault.make(engine)
    injected(request, fault.name, f"step {step} of {STEPS}")
    expect(page.get_by_role("figure")).to_have_count(1, timeout=PATIENCE_MS)
    [latent] = page.evaluate("decoded")
    reference = Reference(model.path)
    latent = np.asarray(latent, np.float32).reshape(reference.latent(SEED, STEPS).shape)
    assert reference.distance(latent, SEED, STEPS) <= LATENTS
    wanted = Settings(PROMPT, "tiny", 64, 64, steps=STEPS, guidance=4.0, seed=SEED)
    assert decibels(pixels(saved(page)), made_by_torch(model.path, wanted)) >= 38
    expect(said).to_have_text(re.compile("^Ready on .*: waiting for work."))
    page.context.close()
    assert errors == []
