"""Who comes to an exported page to watch: nothing is computed unasked where that may cost
something, nothing else is asked, and the way to the others comes first on a narrow page."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser import violations
from tests.js.exported import StaticHost
from tests.js.room.conftest import rtc_chromium
from tests.js.visiting import Visit, host, peers, relay, visit

__all__ = ["host", "relay", "rtc_chromium", "visit"]

# A browser with WebGPU, in which nothing is found when somebody wants to compute
GPU = "navigator.__defineGetter__('gpu', () => ({ requestAdapter: async () => null }));"
NO_BATTERY = "Object.defineProperty(navigator, 'getBattery', { value: undefined });"
SAVES_DATA = "Object.defineProperty(navigator, 'connection', { value: { saveData: true } });"
PHONE = {
    "viewport": {"width": 390, "height": 844}, "screen": {"width": 390, "height": 844},
    "is_mobile": True, "has_touch": True,
}  # fmt: skip
TRIED = "finds no graphics processor that it may use"
BEFORE_YOU_SAY_SO = "so it computes nothing before you say so."
SIZE = "To compute here, the model is downloaded once:"


def said(page: Page):
    return page.locator("#compute-said")


def button(page: Page):
    return page.get_by_role("button", name="Compute here")


def opened(visit: Visit, host: StaticHost, script: str = "", **options) -> Page:
    page = visit(f"{host.url}room.html#kitchen", script=GPU + script, **options)
    expect(page.locator("body[data-connected]")).to_have_count(1)
    return page


def loads_no_model(page: Page) -> None:
    loaded = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
    assert not [name for name in loaded if "tab-worker" in name or "/packages/" in name]


def test_a_computer_with_a_plug_begins_by_itself(visit, host):
    expect(said(opened(visit, host))).to_contain_text(TRIED)


@pytest.mark.parametrize(
    ("why", "script", "options"),
    [
        ("This looks like a phone", "", PHONE),
        ("This browser is told to save data", SAVES_DATA, {}),
        ("This browser does not say whether it runs on a battery", NO_BATTERY, {}),
    ],
    ids=["phone", "saves data", "unknown battery"],
)
def test_elsewhere_nothing_is_computed_before_somebody_says_so(visit, host, why, script, options):
    page = opened(visit, host, script, **options)
    expect(said(page)).to_contain_text(f"You are watching. {why}, {BEFORE_YOU_SAY_SO} {SIZE}")
    expect(page.locator("#compute-question")).to_be_hidden()
    expect(button(page)).to_be_visible()
    expect(page.get_by_role("list", name="Peers")).to_contain_text("watching")
    loads_no_model(page)
    assert violations(page) == []
    button(page).click()
    expect(said(page)).to_contain_text(TRIED)
    page.reload()  # it was said in this browser
    expect(said(page)).to_contain_text(TRIED)


STAYS = """
export class TabWorker {
  static async open(url, { onState }) {
    return Object.assign(new TabWorker(), { onState });
  }
  device = { description: 'A GPU' };
  connected() { this.onState({ state: 'waiting' }); }
  disconnected() {} limit() {} pause() {} resume() {} receive() {} receiveBytes() {} stop() {}
}
"""


def test_who_only_watches_does_so_in_every_tab_of_this_browser_until_they_say_otherwise(
    visit, host
):
    page = visit("about:blank", script=GPU)
    page.context.route(
        "**/js/work/tab-worker.js",
        lambda route: route.fulfill(body=STAYS, content_type="text/javascript"),
    )
    page.goto(f"{host.url}room.html#kitchen")
    expect(said(page)).to_have_text("Ready on A GPU: waiting for work.")
    page.get_by_role("button", name="Stop").click()
    expect(said(page)).to_contain_text("You are watching.")
    another = page.context.new_page()
    another.goto(f"{host.url}room.html#garden")
    expect(said(another)).to_have_text("You are watching, as you wished in this browser.")
    loads_no_model(another)
    button(another).click()
    expect(said(another)).to_have_text("Ready on A GPU: waiting for work.")
    page.reload()
    expect(said(page)).to_have_text("Ready on A GPU: waiting for work.")


@pytest.mark.parametrize(("options", "pauses"), [(PHONE, True), ({}, False)])
def test_a_phone_pauses_while_hidden_unless_its_person_wants_otherwise(
    visit, host, options, pauses
):
    page = opened(visit, host, **options)
    page.locator("#compute-limits summary").click()
    box = page.get_by_label("Pause while this page is hidden.")
    expect(box).to_be_checked(checked=pauses)
    box.set_checked(not pauses)
    page.reload()
    page.locator("#compute-limits summary").click()
    expect(box).to_be_checked(checked=not pauses)


# The way to the others ------------------------------------------------------------------------
def top_of(page: Page, selector: str) -> float:
    return page.locator(selector).bounding_box()["y"]


def test_on_a_narrow_page_the_way_to_the_others_comes_first_until_they_are_met(visit, host):
    phone = opened(visit, host, **PHONE)
    meeting = phone.locator("#meeting")
    button = phone.get_by_role("button", name="Meet the others")
    expect(meeting).to_contain_text("You are alone here until you meet the others. Others here")
    assert top_of(phone, "#meeting") < top_of(phone, "#generate-form")
    box = button.bounding_box()
    assert box["y"] + box["height"] <= 844, "seen without scrolling"
    assert violations(phone) == []
    button.click()
    expect(meeting).to_contain_text("Nobody else is here yet")
    assert top_of(phone, "#meeting") < top_of(phone, "#generate-form")
    computer = opened(visit, host, viewport={"width": 1280, "height": 800})
    expect(computer.get_by_role("button", name="Meet the others")).to_be_visible()
    assert top_of(computer, "#meeting") < 500
    expect(computer.locator("#meeting-first")).to_be_hidden()
    computer.get_by_role("button", name="Meet the others").click()
    expect(peers(phone)).to_have_count(2)
    expect(phone.locator("#meeting-first")).to_be_hidden()
    expect(phone.locator("aside #meeting")).to_contain_text("One other tab is here.")
    # Who comes back and finds them sees nothing move
    phone.reload()
    expect(phone.locator("aside #meeting")).to_contain_text("One other tab is here.")
    assert not phone.evaluate("document.querySelector('#meeting-first').hasChildNodes()")
    # Who finds nobody is told so first
    computer.close()
    phone.reload()
    expect(phone.locator("#meeting-first")).to_contain_text("Nobody else is here yet")
    phone.set_viewport_size({"width": 1280, "height": 800})
    expect(phone.locator("aside #meeting")).to_contain_text("Nobody else is here yet")
