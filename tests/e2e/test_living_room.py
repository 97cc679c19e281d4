"""What happens around the pictures: reloads, cancels, other people, a killed worker."""

import os
import re
import signal

import pytest
from playwright.sync_api import expect

from diffusion.pictures import settings_from_png
from tests.browser import violations
from tests.e2e.conftest import PATIENCE_MS
from tests.genqueue.processes import READY_SECONDS, ROOT, alive, until

ROCKET = "a rocket above a full moon on a black background"
SMALL = "128x128"  # of pictures of a hundred steps that a test waits for
SCREENSHOT = ROOT / "docs/images/room.png"
SCREENSHOT_BYTES = 400_000


def steps_of(site, job: str) -> int:
    return site.get(f"/api/jobs/{job}")["images"][0]["step"]


def test_a_reload_in_the_middle_comes_back_to_the_same_state(visit, room):
    alice = visit("alice", room)
    job = alice.begin_long(ROCKET, step=3, size=SMALL)
    alice.prompt.fill("half a sent")
    before = alice.progress.evaluate("bar => bar.value")
    alice.page.reload()
    expect(alice.queue).to_have_id(f"job-{job}")
    assert alice.progress.evaluate("bar => bar.value") >= before
    expect(alice.queue.locator("img")).to_be_visible()
    expect(alice.prompt).to_have_value("half a sent")
    expect(alice.page.get_by_label("Steps", exact=True)).to_have_value("100")
    expect(alice.page).to_have_title(re.compile(r"^\d+ % · Room"))
    alice.expect_pictures(1)
    alice.page.reload()
    alice.expect_pictures(1)
    expect(alice.queue).to_have_count(0)
    assert settings_from_png(alice.picture())["prompt"] == ROCKET


def test_cancel_stops_within_one_step(visit, room, site):
    alice = visit("alice", room)
    job = alice.begin_long(ROCKET, step=3)
    alice.page.get_by_role("button", name=f"Cancel “{ROCKET}”").click()
    expect(alice.queue).to_have_count(0)
    reached = steps_of(site, job)
    assert reached < 100
    alice.ask("a cactus on an orange background", Steps=2)
    alice.expect_pictures(1)
    assert site.get(f"/api/jobs/{job}")["state"] == "cancelled"
    assert steps_of(site, job) <= reached + 1


def test_a_second_visitor_sees_everything_and_may_not_end_it(visit, room, site):
    alice, bob = visit("alice", room), visit("bob", room)
    job = alice.begin_long(ROCKET, step=1, size=SMALL)
    expect(bob.queue).to_have_id(f"job-{job}")
    bob.until_step(2)
    expect(bob.queue.locator("img")).to_be_visible()
    expect(alice.page.get_by_role("button", name="Cancel")).to_have_count(1)
    expect(bob.page.get_by_role("button", name="Cancel")).to_have_count(0)

    def bob_posts(path: str) -> int:
        token = bob.page.locator("#actions [name=csrfmiddlewaretoken]").input_value()
        url = f"/rooms/{room}/{path}"
        return bob.page.request.post(url, form={"csrfmiddlewaretoken": token}).status

    assert bob_posts(f"jobs/{job}/cancel/") == 404
    assert bob.page.request.delete(f"/api/jobs/{job}").status == 404
    for visitor in (alice, bob):
        visitor.expect_pictures(1)
        visitor.figures.locator("summary").click()
    assert bob.picture() == alice.picture()
    expect(alice.page.get_by_role("button", name="Delete")).to_have_count(1)
    expect(bob.page.get_by_role("button", name="Delete")).to_have_count(0)
    assert bob_posts(f"pictures/{job}/0/delete/") == 404
    alice.page.get_by_role("button", name="Delete").click()
    for visitor in (alice, bob):
        expect(visitor.figures).to_have_count(0)


# Every notice that the page ever shows, in order: a short one may be gone before a test looks.
LISTEN = """() => {
  window.notices = [];
  const look = () => {
    for (const { hidden, textContent } of document.querySelectorAll('#notices > p'))
      if (!hidden && notices.at(-1) !== textContent) notices.push(textContent);
  };
  new MutationObserver(look).observe(document.getElementById('notices'),
    { attributes: true, attributeFilter: ['hidden'], subtree: true });
}"""


def test_the_page_outlives_its_worker_and_the_picture_still_comes(visit, room, site):
    alice = visit("alice", room)
    alice.begin_long(ROCKET, step=5, size=SMALL)
    alice.page.evaluate(LISTEN)
    killed = site.worker_pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: site.worker_pid != killed, 30, "another worker")
    until(lambda: site.get("/api/health")["worker"]["status"] == "ok", READY_SECONDS, "readiness")
    gone, loading = alice.page.evaluate("notices")
    assert "No worker is here" in gone
    assert "loading the model" in loading
    expect(alice.page.locator("#notices > p:visible")).to_have_count(0)
    expect(alice.page.locator("body[data-connected]")).to_have_count(1)
    alice.page.reload()
    expect(alice.queue).to_contain_text(ROCKET)
    alice.expect_pictures(1)
    assert not alive(killed)
    assert settings_from_png(alice.picture())["seed"] == 7


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing_while_pictures_are_there_and_made(visit, room, scheme, width):
    alice = visit("alice", room, color_scheme=scheme, viewport={"width": width, "height": 900})
    alice.ask("a slice of pizza on a green background", pictures=2)
    alice.expect_pictures(2)
    for summary in alice.page.locator("main summary").all():
        if summary.is_visible():
            summary.click()
    alice.begin_long(ROCKET, step=1)
    assert violations(alice.page) == []
    alice.page.locator("a[data-open]").first.click()
    expect(alice.page.get_by_role("dialog")).to_be_visible()
    assert violations(alice.page) == []
    alice.page.keyboard.press("Escape")
    alice.page.get_by_role("button", name="Cancel").click()
    expect(alice.queue).to_have_count(0)


def test_a_room_with_pictures_is_worth_a_look(visit, tmp_path, request):
    """With --update-screenshots the README gets this picture."""
    size = {"width": 1280, "height": 1400}
    alice = visit("alice", "kitchen", viewport=size, reduced_motion="reduce")
    for thing in (
        "a watermelon on a yellow background", "a cactus on an orange background",
        "a slice of pizza on a green background", "a rocket on a black background",
        "a tomato on a cream background", "a hamburger on a blue background",
    ):  # fmt: skip
        alice.ask(thing, Seed=7)
        expect(alice.figures.get_by_role("img", name=thing)).to_be_visible(timeout=PATIENCE_MS)
    visit("bob", "kitchen")
    alice.page.get_by_label("Seed", exact=True).fill("")
    alice.page.locator("#more-settings summary").click()
    alice.ask("a doughnut on a purple background")
    alice.until_step(4)
    alice.prompt.fill(ROCKET)
    alice.page.evaluate("document.activeElement.blur()")
    update = request.config.getoption("update_screenshots", default=False)
    file = SCREENSHOT if update else tmp_path / "room.png"
    file.parent.mkdir(exist_ok=True)
    alice.page.screenshot(path=file)
    assert file.stat().st_size < SCREENSHOT_BYTES
    alice.expect_pictures(7)
