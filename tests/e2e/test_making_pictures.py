"""From a prompt on the page to the right picture: everything is real."""

import re
import subprocess
import sys

import numpy as np
import pytest
from playwright.sync_api import expect

from diffusion.pictures import settings_from_png
from tests.e2e.conftest import MODEL, pixels
from tests.genqueue.processes import ROOT, until


@pytest.mark.parametrize(
    ("thing", "colour"),
    [("hamburger", "blue"), ("cactus", "orange"), ("watermelon", "yellow")],
)
def test_a_prompt_becomes_the_right_picture(visit, room, eyes, site, thing, colour):
    alice = visit("alice", room)
    article = "an" if colour == "orange" else "a"
    prompt = f"a {thing} on {article} {colour} background"
    alice.ask(prompt, Seed=7)
    alice.expect_pictures(1)
    expect(alice.figures.get_by_role("img", name=prompt)).to_be_visible()
    expect(alice.queue).to_have_count(0)
    png = alice.picture()
    assert eyes.rank(thing, png) <= 5
    assert eyes.background(png) == colour
    [model] = site.get("/api/models")["models"]
    assert settings_from_png(png) == {
        "prompt": prompt, "negative_prompt": "", "model": MODEL,
        "width": model["default_width"], "height": model["default_height"],
        "steps": model["default_steps"], "guidance": model["default_guidance"],
        "seed": 7, "num_images": 1,
    }  # fmt: skip


def test_settings_of_the_form_are_those_of_the_picture(visit, room):
    alice = visit("alice", room)
    alice.ask("a cookie", size="128x128", Steps=3, Guidance=2.5, Seed=4294967295, **{"Leave out": "a red background"})  # fmt: skip  # noqa: E501
    alice.expect_pictures(1)
    assert settings_from_png(alice.picture()) == {
        "prompt": "a cookie", "negative_prompt": "a red background", "model": MODEL,
        "width": 128, "height": 128, "steps": 3, "guidance": 2.5, "seed": 4294967295,
        "num_images": 1,
    }  # fmt: skip


WATCH = """() => {
  window.seen = [];
  const look = () => {
    const job = document.querySelector('#queue > li');
    const entry = JSON.stringify([job?.querySelector('progress').value ?? null, document.title,
      job?.querySelector('img:not([hidden])')?.getAttribute('src') ?? null]);
    if (entry !== seen.at(-1)) seen.push(entry);
    requestAnimationFrame(look);
  };
  look();
}"""


def test_steps_are_shown_as_they_are_made(visit, room):
    alice = visit("alice", room)
    alice.page.evaluate(WATCH)
    alice.ask("a tomato on a cream background", Steps=24)
    preview = alice.queue.locator("img")
    expect(preview).to_be_visible()
    alice.page.wait_for_function(
        "() => document.querySelector('#queue img')?.naturalWidth >= 16"
    )  # it shows something
    alice.expect_pictures(1)
    seen = alice.page.evaluate("seen.map((entry) => JSON.parse(entry))")
    values = [value for value, _title, _source in seen if value is not None]
    assert values == sorted(values)
    assert len(set(values)) > 5, "the bar grows step by step"
    titles = [re.match(r"(\d+) % · Room", title) for _value, title, _source in seen]
    percents = [int(found[1]) for found in titles if found]
    assert percents == sorted(percents)
    assert len(set(percents)) > 5
    assert len({source for *_, source in seen if source}) > 5, "each step has its preview"
    expect(alice.page).to_have_title(re.compile("^Room"))


def test_two_images_of_a_batch_have_two_seeds_and_both_are_right(visit, room, eyes):
    alice = visit("alice", room)
    alice.ask("a slice of pizza on a green background", pictures=2, Seed=41)
    alice.expect_pictures(2)
    first, second = alice.picture(0), alice.picture(1)
    assert [settings_from_png(png)["seed"] for png in (first, second)] == [41, 42]
    assert not np.array_equal(pixels(first), pixels(second))
    for png in (first, second):
        assert eyes.rank("slice of pizza", png) <= 5
        assert eyes.background(png) == "green"


def test_again_gives_the_same_bytes_and_so_does_the_command_line(visit, room, tmp_path, site):
    alice = visit("alice", room)
    prompt = "a doughnut on a green background"
    alice.ask(prompt, Seed=11)
    alice.expect_pictures(1)
    once = alice.picture()
    alice.figures.locator("summary").click()
    alice.page.get_by_role("button", name="Again").click()
    alice.expect_pictures(2)
    assert alice.picture(0) == alice.picture(1) == once

    file = tmp_path / "doughnut.png"
    command = [sys.executable, "manage.py", "generate", prompt, "--seed", "11", "--out", file]
    subprocess.run(command, cwd=ROOT, env=site.env, check=True, capture_output=True, timeout=120)
    assert np.array_equal(pixels(file.read_bytes()), pixels(once))
    assert settings_from_png(file.read_bytes()) == settings_from_png(once)


def test_without_javascript_a_picture_is_asked_for_and_seen(visit, room, eyes):
    alice = visit("alice", room, java_script_enabled=False)
    alice.prompt.fill("a hamburger on a blue background")
    alice.page.get_by_role("button", name="Generate").click()
    expect(alice.page.get_by_text("a hamburger on a blue background").first).to_be_visible()

    def there() -> bool:
        alice.page.reload()
        return alice.figures.count() == 1

    until(there, 60, "the picture")
    image = alice.figures.get_by_role("img", name="a hamburger on a blue background")
    expect(image).to_be_visible()
    png = alice.page.request.get(image.get_attribute("src")).body()
    assert eyes.rank("hamburger", png) <= 5
    assert eyes.background(png) == "blue"
