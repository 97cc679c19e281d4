"""Pictures without any server: an exported site on a host that knows nothing but files, a bare
relay, the real engine on a software GPU, the queue in the tabs."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.test import override_settings
from playwright.sync_api import Browser, expect

from diffusion.model_folder import ModelFolder, read_model_folder
from diffusion.pictures import settings_from_png
from diffusion.random_model import write_random_model
from diffusion.settings import Settings
from tests.browser import WEBGPU, _browser, ask
from tests.js.exported import PATH, exported
from tests.js.panel import ready
from tests.js.pictures import decibels, made_by_torch, pixels
from tests.js.room.conftest import RTC, relay
from tests.js.visiting import visit

__all__ = ["relay", "visit"]

PATIENCE_MS = 180_000  # the software GPU takes seconds for each pipeline
ASKED = {
    "prompt": "a rocket on a blue background", "negative_prompt": "", "model": "tiny",
    "width": 64, "height": 64, "steps": 4, "guidance": 4.0, "seed": 7, "num_images": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ModelFolder:
    folder = tmp_path_factory.mktemp("computing") / "tiny"
    write_random_model(folder)
    return read_model_folder(folder)


@pytest.fixture(scope="module")
def rtc_chromium() -> Iterator[Browser]:
    """With WebGPU as well."""
    yield from _browser(*WEBGPU, RTC)


@pytest.fixture(scope="module")
def host(model, relay, tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    site = override_settings(MODEL_ROOTS=[model.path.parent], DATA_DIR=root / "data")
    with site, exported(root / "host", "--relay", relay.url) as running:
        yield running


def saved(page) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("figure").first.get_by_role("link", name="Download").click()
    return Path(download.value.path()).read_bytes()


def ask_with(page, seed: int) -> None:
    ask(page, ASKED["prompt"], size="64x64", Steps=ASKED["steps"], Guidance=4, Seed=seed)


def test_a_tab_alone_makes_torchs_picture_and_shares_the_room_with_whom_it_meets(
    visit, host, model
):
    """One story, because the software GPU takes long to begin."""
    asked: set[str] = set()
    page = visit("about:blank", console=True)
    page.set_default_timeout(20_000)
    page.on("request", lambda request: asked.add(request.url))
    said = page.locator("#compute-said")
    progress = page.get_by_role("progressbar", name="Progress of")

    # It begins by itself, but not on a software GPU that nobody asked it to take
    page.goto(f"{host.url}room.html#kitchen")
    expect(said).to_contain_text("a software adapter")
    page.get_by_role("link", name="Compute all the same").click()
    expect(page).to_have_url(re.compile(r"allow-software-gpu=1#kitchen/$"))
    ready(page, PATIENCE_MS)
    expect(page.get_by_role("list", name="Peers")).to_contain_text("google swiftshader")

    # A picture
    ask_with(page, ASKED["seed"])
    queue = page.get_by_role("list", name="Queue").locator("> li")
    expect(queue).to_have_count(1)
    figure = page.get_by_role("figure")
    expect(figure).to_have_count(1, timeout=PATIENCE_MS)
    expect(figure.get_by_role("img", name=ASKED["prompt"])).to_be_visible()
    expect(queue).to_have_count(0)
    png = saved(page)
    assert settings_from_png(png) == ASKED
    wanted = Settings(**ASKED)
    assert decibels(pixels(png), made_by_torch(model.path, wanted)) >= 38

    # Its steps are seen; cancelled while it computes, it waits for work again
    page.get_by_label("Steps", exact=True).fill("100")
    page.get_by_role("button", name="Generate").click()
    expect(said).to_have_text(re.compile("^Computing step .* of 100 "), timeout=PATIENCE_MS)
    expect(progress).to_have_count(1)
    expect(page.locator("#queue img").first).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_function(
        "step => document.querySelector('#queue progress').value >= step", arg=20
    )
    page.reload()  # in the middle: what was made is kept, and so is how far the work is
    expect(figure).to_have_count(1)
    assert saved(page) == png
    expect(progress).to_have_count(1)
    expect(said).not_to_contain_text("Computing")
    assert page.evaluate("document.querySelector('#queue progress').value") >= 1
    page.get_by_role("button", name="Cancel").click()
    expect(queue).to_have_count(0)

    # Somebody else comes in: both are told what others see, and nobody is met before they agree
    meeting = page.locator("#meeting")
    expect(meeting).to_contain_text("internet address")
    page.get_by_role("button", name="Meet the others").click()
    expect(meeting).to_contain_text("Nobody else is here yet")
    theirs = visit(f"{host.url}room.html#kitchen", console=True)
    theirs.set_default_timeout(20_000)
    their_figures = theirs.get_by_role("figure")
    expect(theirs.get_by_role("button", name="Meet the others")).to_be_visible()
    expect(their_figures).to_have_count(0)
    theirs.get_by_role("button", name="Meet the others").click()
    expect(theirs.get_by_role("list", name="Peers").locator("> li")).to_have_count(2)
    expect(their_figures).to_have_count(1)
    assert saved(theirs) == png

    # What they ask for this tab computes, and they say who did
    ask_with(theirs, 8)
    for one in (page, theirs):
        expect(one.get_by_role("figure")).to_have_count(2, timeout=PATIENCE_MS)
    made = saved(theirs)
    assert decibels(pixels(made), made_by_torch(model.path, replace(wanted, seed=8))) >= 38
    expect(their_figures.first).to_contain_text("tab of guest")

    # When either goes, the room is whole with the other
    theirs.context.close()
    expect(meeting).to_contain_text("Nobody else is here yet")
    page.reload()
    expect(figure).to_have_count(2)
    expect(page.get_by_role("button", name="Meet the others")).to_be_hidden()

    # Stopped, it stays so after a reload, until it is pressed again
    page.get_by_role("button", name="Stop").click()
    page.reload()
    expect(page.get_by_role("button", name="Compute here")).to_be_visible()
    page.context.close()
    away = [url for url in asked if not urlsplit(url).path.startswith(f"/{PATH}")]
    assert [url for url in away if not url.startswith("blob:")] == []
