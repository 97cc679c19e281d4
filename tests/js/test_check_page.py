"""The page `/check` in a real Chromium, on the software adapter that it offers for tests.

The site of these tests has no worker: whatever was computed, the tab computed.
"""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from safetensors.numpy import load

from diffusion.backends.torch_backend import TorchBackend
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise
from diffusion.plan.kernel_cases import kernel_cases
from diffusion.random_model import write_random_model
from tests.browser import listen_for_errors, violations, webgpu_chromium
from tests.js.site import LiveSite

__all__ = ["webgpu_chromium"]

PROMPT, SEED, STEPS, GUIDANCE, WIDTH, HEIGHT = "a red apple", 5, 3, 4, 64, 96
PATIENCE_MS = 400_000  # SwiftShader takes seconds for each of some sixty pipelines
ALLOWED = "allow-software-gpu=1"

Open = Callable[[str], Page]


@pytest.fixture
def site(live_site: LiveSite, transactional_db, tmp_path: Path, settings) -> Iterator[LiveSite]:
    settings.MODEL_ROOTS = [tmp_path / "models"]
    settings.DATA_DIR = tmp_path / "data"
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    write_random_model(tmp_path / "models" / "tiny")
    yield live_site
    live_site.let_go()


@pytest.fixture
def open_check(webgpu_chromium: Browser, site: LiveSite) -> Iterator[Open]:
    context = webgpu_chromium.new_context(base_url=site.url)
    errors: list[str] = []

    def open_(query: str) -> Page:
        page = context.new_page()
        listen_for_errors(page, errors)
        page.goto(f"/check/?{query}")
        return page

    yield open_
    context.close()
    assert errors == []


def test_a_tab_is_right_in_every_kernel_and_segment_and_makes_torchs_picture(
    open_check: Open, tmp_path: Path
) -> None:
    page = open_check(
        f"{ALLOWED}&model=tiny&prompt={PROMPT}&seed={SEED}&steps={STEPS}&guidance={GUIDANCE}"
        f"&width={WIDTH}&height={HEIGHT}"
    )
    status = page.get_by_role("status")
    expect(status).to_have_text("All is as it should be.", timeout=PATIENCE_MS)
    result = page.evaluate("checkResult")
    assert result["done"]
    assert result["adapter"]["software"]
    assert [kernel["name"] for kernel in result["kernels"]] == [c.name for c in kernel_cases()]
    assert all(kernel["ok"] and kernel["error"] < 1e-4 for kernel in result["kernels"])
    assert all(part["ok"] and part["relativeL2"] < 5e-3 for part in result["segments"])
    stages = {part["name"].partition("/")[0] for part in result["segments"]}
    assert stages == {"encode", "prepare", "modulation", "denoise", "advance", "decode"}
    assert result["fits"]["seconds"] > 0
    assert all(stage["fits"] for stage in result["fits"]["stages"])
    assert result["submissions"] > STEPS
    expect(page.get_by_role("row", name="denoise/block.1 right")).to_be_visible()
    expect(page.get_by_role("img", name="The picture that this tab made")).to_be_visible()
    assert violations(page) == []

    ours = load(base64.b64decode(result["latents"]))["latent"]
    torch = TorchBackend(read_model_folder(tmp_path / "models" / "tiny"))
    latent = initial_noise(SEED, (16, HEIGHT // 8, WIDTH // 8))
    theirs = torch.denoise(
        torch.encode(PROMPT, "", GUIDANCE),
        latent,
        steps=STEPS,
        guidance=GUIDANCE,
        start=0,
        stop=STEPS,
    )
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 2e-2
    assert np.linalg.norm(ours - latent) / np.linalg.norm(latent) > 0.1


def test_a_software_adapter_is_refused_until_the_visitor_asks_for_it(open_check: Open) -> None:
    page = open_check("")
    expect(page.get_by_role("status")).to_contain_text("software adapter")
    link = page.get_by_role("link", name="Check it all the same")
    assert ALLOWED in (link.get_attribute("href") or "")
    assert page.evaluate("checkResult.error.code") == "software-only"
    assert page.evaluate("checkResult.kernels.length") == 0


def test_a_model_that_is_not_there_is_said(open_check: Open) -> None:
    page = open_check(f"{ALLOWED}&model=nobody")
    expect(page.get_by_role("status")).to_have_text("This site has no package of nobody in f16.")
    assert page.evaluate("checkResult.done")


def test_the_models_of_this_site_are_offered(open_check: Open) -> None:
    link = open_check(ALLOWED).get_by_role("link", name="Check tiny")
    assert link.get_attribute("href") == f"?model=tiny&variant=f16&{ALLOWED}"
