"""Tabs that share pictures, in random histories (recruiting_histories.js): whatever happens on the
way, every chunk is what one tab makes of it, and none is endless.

RECRUITING_HISTORIES=1000 in the environment plays so many.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.js.room.transfer.conftest import SCENE as CHANNELS
from tests.js.work.test_banding import BANDS
from tests.js.work.test_recruiting import Run

HISTORIES = int(os.environ.get("RECRUITING_HISTORIES", "40"))
A_CALL = 10

PLAY = """
const { history } = await import('/work-tests/recruiting_histories.js');
channels.push = (opened) => {
  channels.opened(opened);
  return Array.prototype.push.call(channels, opened);
};
const made = new Map(); // by step: what one tab makes
const denoised = async (stop) => {
  if (!made.has(stop)) made.set(stop, await alone({ stop }));
  return made.get(stop);
};
const scene = {
  tab, everybody, channels, randomFrom, sleep, noiseOf, decoded, off, denoised, STEPS,
};
const [first, count, options] = args;
const counted = {};
for (let seed = first; seed < first + count; seed += 1) {
  let found;
  try {
    found = await history(scene, seed, options);
  } catch (error) {
    throw new Error(`history ${seed}: ${error.stack}`);
  }
  for (const [name, times] of Object.entries(found)) counted[name] = (counted[name] ?? 0) + times;
}
return counted;
"""


@pytest.fixture
def play(module_page: Page) -> Run:
    folder = Path(__file__).parent
    module_page.route(
        "**/work-tests/*.js",
        lambda route: route.fulfill(path=folder / route.request.url.rpartition("/")[2]),
    )
    return lambda *args: module_page.evaluate(
        f"async (args) => {{ {CHANNELS} {BANDS} {PLAY} }}", list(args)
    )


def played(play: Run, count: int, options: dict[str, Any]) -> Counter[str]:
    happened: Counter[str] = Counter()
    for first in range(0, count, A_CALL):
        happened.update(play(first, min(A_CALL, count - first), options))
    return happened


def test_whatever_happens_what_tabs_make_together_is_what_one_makes(play: Run) -> None:
    happened = played(play, HISTORIES, {})
    for name in (
        "lost", "twice", "late", "bent",  # frames
        "cut", "stalls", "joins", "leaves", "busy", "slows", "cancels",  # tabs and channels
        "halves, gain", "halves, forced", "bands",
        "alone, gone", "alone, late", "alone, busy", "alone, slow-link",
    ):  # fmt: skip
        assert happened[name] >= HISTORIES / 20, (name, happened)
    assert happened["picture"] > 10 * happened["given up"], happened


def test_where_nearly_nothing_gets_through_nobody_waits_for_ever(play: Run) -> None:
    settings = ["auto", "halves", "bands"]
    happened = played(play, HISTORIES // 2, {"faults": 0.3, "events": 20, "settings": settings})
    assert happened["picture"] >= HISTORIES, happened


def test_where_all_goes_well_two_are_faster_and_no_chunk_is_held_up(play: Run) -> None:
    happened = played(play, HISTORIES, {"faults": 0, "events": 0, "settings": ["auto"]})
    assert happened["halves, gain"] >= HISTORIES, happened
    assert happened["ms together"] < 0.85 * happened["ms alone"], happened
