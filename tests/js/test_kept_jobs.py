"""A room of an exported page that all have left is there again with the browser that kept it, and
the page says what of it goes on, from where, and what that takes."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import ask, listen_for_errors, violations
from tests.js.exported import StaticHost, exported_tiny
from tests.js.meshed import prepare

STEPS = 40
NOBODY = "Nothing computes at the moment"


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[StaticHost]:
    root = tmp_path_factory.mktemp("exported")
    with exported_tiny(root) as running:
        yield running


@pytest.fixture
def come(chromium: Browser, host: StaticHost) -> Iterator[Callable[[], Page]]:
    """come(): a tab of one browser that opens the room, with an engine of slow steps."""
    context: BrowserContext = chromium.new_context()
    errors: list[str] = []

    def come_() -> Page:
        page = context.new_page()
        listen_for_errors(page, errors)
        prepare(page, 150)
        page.goto(f"{host.url}room.html#kitchen")
        expect(page.locator("body[data-connected]")).to_have_count(1)
        return page

    yield come_
    context.close()
    assert errors == []


def kept(page: Page):
    return page.locator('[data-notice="kept"]')


def steps_of(page: Page) -> int:
    """That all its pictures have, by the bar."""
    return int(page.get_by_role("progressbar", name="Progress of").get_attribute("value") or 0)


def leave_in_the_middle(page: Page, pictures: int = 1) -> None:
    """Asks, and closes the last tab while this one computes; nothing computes unasked from then."""
    ask(page, "a rocket", size="64x64", pictures=pictures, Steps=STEPS, Seed=7)
    page.wait_for_function("() => document.querySelector('#queue progress')?.value >= 6")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_timeout(1500)  # a checkpoint on its way to the holder, and to the disk
    page.close(run_before_unload=True)


def test_what_goes_on_is_said_with_its_step_and_who_has_to_compute_until_it_does(come):
    first = come()
    expect(kept(first)).to_be_hidden()
    leave_in_the_middle(first)
    page = come()
    step = steps_of(page)
    assert 5 <= step < STEPS
    expect(kept(page)).to_have_text(
        f"1 unfinished picture was kept in this browser and goes on from step {step} "
        "when somebody here computes."
    )
    expect(page.get_by_text(NOBODY)).to_be_visible()
    assert violations(page) == []
    page.wait_for_timeout(3500)
    expect(kept(page)).to_be_visible()
    page.get_by_role("button", name="Compute here").click()
    expect(kept(page)).to_be_hidden()
    expect(page.get_by_text(NOBODY)).to_be_hidden()
    page.wait_for_function(
        "(step) => document.querySelector('#queue progress').value > step", arg=step
    )
    expect(page.get_by_role("figure")).to_have_count(1, timeout=30_000)
    page.close(run_before_unload=True)
    again = come()  # all is finished: there is nothing to say
    expect(again.get_by_role("figure")).to_have_count(1)
    expect(kept(again)).to_be_hidden()


def test_of_several_it_says_which_have_begun_and_is_silent_when_they_are_cancelled(come):
    leave_in_the_middle(come(), pictures=3)
    page = come()
    expect(kept(page)).to_have_text(
        re.compile(
            r"^3 unfinished pictures were kept in this browser: 1 goes on from step \d+, "
            r"2 begin with the first step when somebody here computes.$"
        )
    )
    page.get_by_role("button", name="Pause the work").click()
    expect(kept(page)).to_contain_text("when the queue is resumed.")
    page.get_by_role("button", name="Cancel").click()
    expect(kept(page)).to_be_hidden()


SENTENCES = [
    ([12, 12], "ready", "2 unfinished pictures were kept in this browser and go on from step 12."),
    ([12, 3], "ready",
     "2 unfinished pictures were kept in this browser and go on from steps 3 and 12."),
    ([9, 2, 4], "loading", "3 unfinished pictures were kept in this browser and go on from steps "
     "2, 4 and 9 when the model is loaded."),
    ([9, 2, 4, 7], "gone", "4 unfinished pictures were kept in this browser and go on from steps "
     "2 to 9 when somebody here computes."),
    ([0], "ready", "1 unfinished picture was kept in this browser and begins with the first step."),
    ([0, 5, 0, 6], "ready", "4 unfinished pictures were kept in this browser: 2 go on from steps 5 "
     "and 6, 2 begin with the first step."),
]  # fmt: skip


def test_there_is_a_sentence_for_all_that_may_be_kept(come):
    page = come()
    said = page.evaluate(
        """async (all) => {
          const { sentence } = await import('page/serverless/kept.js');
          return all.map(([steps, state]) =>
            sentence(steps, { paused: false, workers: [{ state }] }));
        }""",
        [[steps, state] for steps, state, _ in SENTENCES],
    )
    assert said == [text for *_, text in SENTENCES]
