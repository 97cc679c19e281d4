"""A helper in a room without a server: the real program, an exported page in Chromium, a relay. The
tab keeps the queue and has no GPU; every picture is the helper's."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.test import override_settings
from playwright.sync_api import Browser, Page, expect

from diffusion.model_folder import ModelFolder, read_model_folder
from diffusion.random_model import write_random_model
from diffusion.settings import Settings
from rooms.remote.exported import private_room
from tests.browser import listen_for_errors
from tests.genqueue.processes import until
from tests.js.exported import exported
from tests.js.pictures import decibels, made_by_torch, pixels
from tests.js.room.conftest import relay, rtc_chromium
from tests.js.test_exported_room import ASKED, ask_with, saved

__all__ = ["relay", "rtc_chromium"]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ModelFolder:
    folder = tmp_path_factory.mktemp("computing") / "tiny"
    write_random_model(folder)
    return read_model_folder(folder)


@pytest.fixture(scope="module")
def host(model, relay, tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    site = override_settings(MODEL_ROOTS=[model.path.parent], DATA_DIR=root / "data")
    with site, exported(root / "host", "--relay", relay.url) as running:
        yield running


@pytest.fixture
def page(rtc_chromium: Browser, host) -> Iterator[Page]:
    errors: list[str] = []
    context = rtc_chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(20_000)
    listen_for_errors(page, errors)
    page.goto(f"{host.url}room.html#kitchen")
    page.get_by_role("button", name="Meet the others").click()
    expect(page.locator("#meeting")).to_contain_text("Nobody else is here yet")
    yield page
    context.close()
    assert errors == []


class Program:
    """`manage.py helper`, ended by the test at the latest."""

    def __init__(self, url: str, model: ModelFolder, name: str, data: Path) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "manage.py", "helper", url, "--name", name,
                "--model", str(model.path), "--backend", "torch", "--stun", "none",
            ],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "P2PWEB_DATA_DIR": str(data)},
        )  # fmt: skip

    def ended(self) -> str:
        said, _ = self.process.communicate(timeout=20)
        return said


@pytest.fixture
def helper(host, model, tmp_path) -> Iterator:
    started: list[Program] = []

    def start(name: str, url: str = f"{host.url}room.html#kitchen") -> Program:
        started.append(Program(url, model, name, tmp_path))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.wait()
        program.process.stdout.close()


def test_it_makes_the_tabs_pictures_and_goes_on_with_those_of_one_that_was_killed(
    page: Page, helper, model
):
    peers = page.get_by_role("list", name="Peers")
    first = helper("attic")
    expect(peers).to_contain_text("attic (guest ", timeout=PATIENCE_MS)
    expect(peers).to_contain_text("waiting for work", timeout=PATIENCE_MS)
    label = re.search(r"attic \((guest \w+)\)", peers.inner_text())[1]

    # A picture
    ask_with(page, ASKED["seed"])
    figure = page.get_by_role("figure")
    expect(figure).to_have_count(1, timeout=PATIENCE_MS)
    expect(figure).to_contain_text(f"tab of attic ({label}) · cpu")
    wanted = Settings(**ASKED)
    assert decibels(pixels(saved(page)), made_by_torch(model.path, wanted)) >= 50

    # Killed in the middle of one, it is noticed; another one goes on from the last checkpoint
    page.get_by_label("Steps", exact=True).fill("100")
    page.get_by_label("Seed", exact=True).fill("9")
    page.get_by_role("button", name="Generate").click()
    page.wait_for_function(
        "() => document.querySelector('#queue progress')?.value >= 10", timeout=PATIENCE_MS
    )
    first.process.kill()
    killed_at = time.monotonic()
    expect(peers.locator("> li")).to_have_count(1, timeout=15_000)
    assert time.monotonic() - killed_at < 12
    second = helper("cellar")
    expect(figure).to_have_count(2, timeout=PATIENCE_MS)
    expect(figure.first).to_contain_text("tab of cellar (guest ")
    hundred = replace(wanted, seed=9, steps=100)
    assert decibels(pixels(saved(page)), made_by_torch(model.path, hundred)) >= 50

    # Asked to stop, it leaves at once
    second.process.terminate()
    said = second.ended()
    assert second.process.returncode == 0, said
    assert "Computing for kitchen on cpu" in said
    assert said.rstrip().endswith("Left the room.")
    expect(peers.locator("> li")).to_have_count(1, timeout=3_000)


def test_it_comes_into_a_private_room_with_its_whole_link(rtc_chromium: Browser, host, helper):
    password = "a-password-of-24-letters"
    link = f"{host.url}room.html#{private_room(password)}/?key={password}"
    context = rtc_chromium.new_context()
    page = context.new_page()
    page.goto(link)
    page.get_by_role("button", name="Meet the others").click()
    helper("attic", link)
    peers = page.get_by_role("list", name="Peers")
    expect(peers).to_contain_text("waiting for work", timeout=PATIENCE_MS)
    context.close()


def test_it_waits_for_a_room_in_which_nobody_is_and_says_so(host, helper):
    program = helper("attic", f"{host.url}room.html#empty")
    lines: list[str] = []
    until(lambda: lines.append(program.process.stdout.readline()) or "waiting" in lines[-1], 60)
    assert lines[-1] == "Nobody is in this room yet; waiting.\n"
    program.process.terminate()
    assert program.process.wait(30) == 0
