"""Two tabs of the site at one picture, with real engines on the software GPU: the halves of
guidance go over the site's relay's connections, chunks and pictures over the site. What they make
is checked by one of the server's workers, and the picture waits for that."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import torch
from playwright.sync_api import Browser, expect

from diffusion.backends import open_backend
from diffusion.model_folder import read_model_folder
from diffusion.random_model import write_random_model
from diffusion.settings import Settings
from genqueue import actions, checks, fairness, files, packages, timeline, timeline_json
from genqueue.check_models import Check
from genqueue.models import Image
from tests.browser import WEBGPU, _browser
from tests.genqueue.processes import until
from tests.genqueue.volunteers import Computing, server
from tests.js.meshed import meet
from tests.js.panel import PATIENCE_MS, heard, listen, ready
from tests.js.pictures import decibels, made_by_torch, pixels
from tests.js.room.conftest import RTC
from tests.js.test_room_page import connected
from tests.studio import settings_of

STEPS, GUIDANCE, SEED = 12, 4.0, 7
PROMPT = "a rocket"
# What the list of peers has said
PEERS_SAID = """() => {
  const list = document.querySelector('[aria-labelledby="peers-title"]');
  window.peersSaid = [];
  new MutationObserver(() => peersSaid.push(list.textContent.replace(/\\s+/g, ' '))).observe(
    list, { childList: true, subtree: true, characterData: true });
}"""
PAGE = "/rooms/kitchen/?allow-software-gpu=1&strategy=halves"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from _browser(*WEBGPU, RTC)


def test_two_tabs_of_the_site_compute_one_picture(
    open_page, kitchen, settings, monkeypatch, tmp_path, alice, bob
):
    model = tmp_path / "packed/models/tiny"
    write_random_model(model, dtype=torch.float32)
    settings.MODEL_ROOTS = [model.parent]
    settings.DATA_DIR = tmp_path / "packed/data"
    settings.LEASE_SECONDS = 600  # the checker says nothing before it is needed
    monkeypatch.setattr(fairness, "TRUSTED_FIRST", timedelta(minutes=10))  # checks are not for tabs
    monkeypatch.setattr(checks, "PROVEN", 10_000)  # everything is checked
    packages.manifest_file("tiny", "f16")
    tabs = []
    for person in (alice, bob):
        page = open_page(person, PAGE)
        connected(page)
        page.get_by_role("button", name="Compute here").click()
        meet(page)
        tabs.append(page)
    for page in tabs:
        ready(page)
        expect(page.locator("#meeting")).to_contain_text("One other tab is met directly.")
        listen(page)
        page.evaluate(PEERS_SAID)
    wanted = settings_of(prompt=PROMPT, steps=STEPS, guidance=GUIDANCE, seed=SEED)
    checker = Computing(server(), open_backend("torch", read_model_folder(model)))
    job, *_ = actions.submit_job(kitchen, alice.client_id, wanted)
    until(lambda: Image.objects.exclude(picture="").filter(job=job).exists(), PATIENCE_MS / 1000)
    expect(tabs[0].get_by_role("figure")).to_have_count(0)  # nobody has looked at it yet
    while checker.do_next():
        pass
    for page in tabs:
        expect(page.get_by_role("figure")).to_have_count(1, timeout=PATIENCE_MS)
    image = Image.objects.get(job=job)
    made = pixels(files.read(image.picture))
    same = Settings(PROMPT, "tiny", 64, 64, steps=STEPS, guidance=GUIDANCE, seed=SEED)
    assert decibels(made, made_by_torch(read_model_folder(model).path, same)) >= 38
    said = [heard(page) for page in tabs]
    assert any("Computed by two" in text for texts in said for text in texts), said
    assert any(text.startswith("Helping another tab") for texts in said for text in texts), said
    seen = [text for page in tabs for text in page.evaluate("peersSaid")]
    assert any("helping your tab with its picture" in text for text in seen), seen
    assert any("helping tab of guest" in text for text in seen), seen

    # The timeline has both: who held each chunk, and who computed half of it
    image.refresh_from_db()
    told = timeline_json.as_json(image)["entries"]
    [steps] = [one for one in told if one["kind"] == "denoise" and one["partners"]][:1]
    [partner] = [one for one in steps["partners"] if one["how"] == "half"]
    holders = {steps["worker"]["client"], partner["worker"]["client"]}
    assert holders == {alice.label, bob.label}
    assert partner["steps"] > 1
    latent = 4 * 16 * 8 * 8
    assert partner["received"] > (partner["steps"] - 1) * latent
    by = timeline.steps_by(timeline.entries_of(image.timeline))
    assert sum(by.values()) == STEPS
    assert by[partner["worker"]["id"]] >= partner["steps"] / 2
    found = timeline_json.as_json(image)["checks"]
    assert {one["verdict"] for one in found} == {"agreed"}
    assert {one["kind"] for one in found} == {"encode", "denoise", "decode"}
    assert max(one["distance"] for one in found if one["kind"] == "denoise") > 0  # f16 beside f32
    assert not Check.objects.filter(job=job, state="open").exists()
    tabs[0].locator(".picture-link").click()
    expect(tabs[0].locator("#lightbox .event", has_text="half of")).not_to_have_count(0)
