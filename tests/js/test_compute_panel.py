"""The panel "This tab": a sentence for every state, and nothing loaded before it is asked for."""

import json
import time

import pytest
from playwright.sync_api import expect

from genqueue.models import Room
from tests.browser import violations
from tests.js.test_room_page import connected

GPU = "navigator.__defineGetter__('gpu', () => ({ requestAdapter: async () => null }))"


def said(page):
    return page.locator("#compute-said")


def button(page):
    return page.get_by_role("button", name="Compute here")


@pytest.fixture
def with_gpu(open_page):
    """open_page, in a browser that has WebGPU and no adapter."""

    def open_(person, path):
        page = open_page(person, "/stats/")
        page.add_init_script(GPU)
        page.goto(path)
        connected(page)
        return page

    return open_


def test_a_browser_without_webgpu_is_told_so_and_offered_nothing(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    page.add_init_script("navigator.__defineGetter__('gpu', () => undefined)")
    page.reload()
    expect(said(page)).to_contain_text("This tab cannot compute: this browser has no WebGPU.")
    expect(button(page)).to_have_count(0)


def test_nothing_of_the_engine_is_loaded_before_the_button_is_pressed(with_gpu, alice, kitchen):
    page = with_gpu(alice, "/rooms/kitchen/")
    loaded = "performance.getEntriesByType('resource').map(({ name }) => name)"
    assert not any("/js/work/" in name or "/js/engine/" in name for name in page.evaluate(loaded))
    button(page).click()
    expect(said(page)).to_contain_text("finds no graphics processor that it may use")
    assert any("/js/engine/engine.js" in name for name in page.evaluate(loaded))
    expect(button(page)).to_be_visible()
    assert violations(page) == []


def test_a_model_without_a_package_is_named(with_gpu, alice, kitchen):
    page = with_gpu(alice, "/rooms/kitchen/")
    page.route("**/api/packages", lambda route: route.fulfill(json={"packages": []}))
    button(page).click()
    expect(said(page)).to_have_text("There is no package of tiny for browsers on this site.")
    page.route("**/api/packages", lambda route: route.abort())
    button(page).click()
    expect(said(page)).to_have_text("The site did not say which models it has for browsers.")


def test_the_owner_switches_it_off_and_on_and_everybody_sees_it(with_gpu, alice, bob, kitchen):
    mine, theirs = with_gpu(alice, "/rooms/kitchen/"), with_gpu(bob, "/rooms/kitchen/")
    box = mine.get_by_label("Let the tabs of people here compute its pictures.")
    expect(box).to_be_checked()
    box.uncheck()
    mine.get_by_role("button", name="Save").click()
    expect(said(theirs)).to_have_text(
        "You are watching. The owner of this room does not let tabs compute in it."
    )
    expect(button(theirs)).to_have_count(0)
    assert not Room.objects.get(pk=kitchen).tabs_help
    box.check()
    mine.get_by_role("button", name="Save").click()
    expect(button(theirs)).to_be_visible()
    assert Room.objects.get(pk=kitchen).tabs_help


AT_WORK = {"state": "computing", "prompt": "a cat", "steps": 8}
SENTENCES = [
    ({"state": "connecting"}, "Ready; waiting for the connection to the room."),
    ({"state": "waiting"}, "Ready on A GPU: waiting for work."),
    ({**AT_WORK, "kind": "encode", "prompt": "<b>", "step": 0, "share": 1},
     "Reading the prompt “<b>”."),
    ({**AT_WORK, "kind": "denoise", "step": 2, "share": 1},
     "Computing step 3 of 8 for “a cat”."),
    ({**AT_WORK, "kind": "denoise", "step": 2, "share": 1,
      "strategy": "Computed by two: 1.8 × as fast expected."},
     "Computing step 3 of 8 for “a cat”. Computed by two: 1.8 × as fast expected."),
    ({"state": "helping", "message": "Helping."}, "Helping."),
    ({**AT_WORK, "kind": "denoise", "step": 8, "share": 0.5},
     "Computing step 8 of 8 for “a cat”. It computes at most 50 % of the time."),
    ({**AT_WORK, "kind": "decode", "step": 8, "share": 0.5},
     "Finishing “a cat”. It computes at most 50 % of the time."),
    ({"state": "resting", "share": 0.25},
     "Resting between steps: this tab computes at most 25 % of the time."),
    ({"state": "paused", "reason": "hidden"},
     "Paused while this page is hidden. It goes on when you look at it."),
    ({"state": "paused", "reason": "battery"},
     "Paused: this device runs on its battery. It goes on when it is plugged in."),
]  # fmt: skip


def test_there_is_a_sentence_for_every_state(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    call = """async ([name, list]) => {
        const m = await import('page/computing/sentences.js');
        return list.map((args) => m[name](...args)); }"""
    states = [[state, {"description": "A GPU"}] for state, _ in SENTENCES]
    assert page.evaluate(call, ["sentence", states]) == [text for _, text in SENTENCES]
    loading = [
        [{"kind": "download", "done": 11_500_000, "total": 49_000_000}],
        [{"kind": "load", "done": 49_000_000, "total": 1_249_000_000}],
        [{"kind": "compile", "done": 3, "total": 40}],
    ]
    assert page.evaluate(call, ["loadingSentence", loading]) == [
        "Downloading the model: 12 of 49 MB.", "Loading the model: 49 of 1,249 MB.",
        "Preparing the GPU: 3 of 40.",
    ]  # fmt: skip
    question = {"bytes": 3_600_000_000, "title": "PRX", "saveData": True, "fits": False}
    [text] = page.evaluate(call, ["questionSentence", [[question]]])
    assert text.startswith("PRX is a download of 3,600 MB. Your browser is told to save data.")
    plain = {**question, "saveData": False, "fits": None}
    assert page.evaluate(call, ["questionSentence", [[plain]]]) == [
        "PRX is a download of 3,600 MB."
    ]


# The panel alone: a model of gigabytes stands behind it, of which only the questions are real.
LARGE = """
export class TabWorker {
  static async open(url, { signal, onProgress, confirmDownload, onState }) {
    onProgress({ kind: 'download', done: 1e6, total: 4e6 });
    const question = { bytes: 3.6e9, title: 'PRX', saveData: false, fits: null };
    if (!await confirmDownload(question)) throw new Error('The download was declined.');
    signal.throwIfAborted();
    return new TabWorker(onState, onProgress);
  }
  device = { description: 'A GPU' };
  constructor(onState, onProgress) { Object.assign(window, { onState, onProgress }); }
  paused = false;
  connected() { window.onState({ state: 'waiting' }); }
  disconnected() {}
  limit(share) { window.share = share; }
  set ownFirst(first) { window.ownFirst = first; }
  pause(reason) { this.paused = true; window.onState({ state: 'paused', reason }); }
  resume() {
    if (this.paused) window.onState({ state: 'waiting' });
    this.paused = false;
  }
  receive() {}
  stop() { window.stopped = true; }
}
"""


@pytest.fixture
def large_model(with_gpu, alice, kitchen):
    page = with_gpu(alice, "/rooms/kitchen/")
    package = {"model": "tiny", "variant": "f16", "url": "/somewhere/manifest.json"}
    page.route("**/api/packages", lambda route: route.fulfill(json={"packages": [package]}))
    page.route(
        "**/js/work/tab-worker.js",
        lambda route: route.fulfill(body=LARGE, content_type="text/javascript"),
    )
    button(page).click()
    return page


def test_a_large_download_is_asked_about_and_may_be_declined(large_model):
    page = large_model
    question = page.locator("#compute-question")
    expect(question).to_contain_text("PRX is a download of 3,600 MB.")
    expect(page.get_by_role("button", name="Download it")).to_be_focused()
    expect(page.locator("#compute-progress")).to_have_js_property("value", 1e6)
    assert violations(page) == []
    page.get_by_role("button", name="Not now").click()
    expect(said(page)).to_have_text("The download was declined.")
    expect(question).not_to_be_visible()
    expect(page.locator("#compute-progress")).not_to_be_visible()
    expect(button(page)).to_be_visible()


def test_it_can_be_given_up_while_the_question_is_open(large_model):
    page = large_model
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#compute-question")).not_to_be_visible()
    expect(button(page)).to_be_visible()
    expect(said(page)).to_contain_text("can help")


def test_what_it_does_is_said_and_not_read_out_many_times_a_second(large_model):
    page = large_model
    page.get_by_role("button", name="Download it").click()
    expect(said(page)).to_have_text("Ready on A GPU: waiting for work.")
    expect(said(page)).to_have_attribute("aria-live", "polite")
    page.evaluate(
        """const at = { prompt: 'a <cat>', step: 2, steps: 8, share: 1 };
           onState({ state: 'computing', kind: 'denoise', ...at });
           onProgress({ kind: 'compile', done: 12, total: 12 });"""
    )
    expect(said(page)).to_have_text("Computing step 3 of 8 for “a <cat>”.")
    expect(said(page)).to_have_attribute("aria-live", "off")
    page.evaluate("onState({ state: 'ended', code: 'device-lost', message: 'The GPU was lost.' })")
    expect(said(page)).to_have_text("The GPU was lost.")
    expect(button(page)).to_be_visible()
    assert not page.evaluate("window.stopped ?? false")


# A battery whose cable the test pulls; and a page that is hidden when the test says so.
BATTERY = """
const battery = Object.assign(new EventTarget(), { charging: true });
navigator.getBattery = async () => battery;
window.charging = (charging) => {
  battery.charging = charging;
  battery.dispatchEvent(new Event('chargingchange'));
};
let hidden = false;
Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });
window.hide = (now) => {
  hidden = now;
  document.dispatchEvent(new Event('visibilitychange'));
};
"""
NO_BATTERY = "Object.defineProperty(navigator, 'getBattery', { value: undefined });"


def limits(page):
    page.locator("#compute-limits summary").click()
    return [
        page.get_by_label("Compute at most"),
        page.get_by_label("Pause while this page is hidden."),
        page.get_by_label("Pause while this device runs on its battery."),
    ]


def computing(page, script):
    """The tab of `large_model` computes, in a browser that has this."""
    page.add_init_script(script)
    page.reload()
    connected(page)
    button(page).click()
    page.get_by_role("button", name="Download it").click()


def test_limits_are_those_of_this_browser_and_hold_at_once(large_model):
    page = large_model
    computing(page, BATTERY)
    expect(said(page)).to_have_text("Ready on A GPU: waiting for work.")
    assert page.evaluate("share") == 1
    share, hidden, battery = limits(page)
    expect(share).to_have_value("100")
    expect(hidden).not_to_be_checked()
    expect(battery).to_be_checked()
    share.select_option("25")
    hidden.check()
    page.wait_for_function("() => share === 0.25")
    computing(page, BATTERY)
    page.wait_for_function("() => window.share === 0.25")
    share, hidden, battery = limits(page)
    expect(share).to_have_value("25")
    expect(hidden).to_be_checked()
    page.evaluate('localStorage.setItem(\'p2pweb.power\', \'{"share": 1e9, "hidden": "x"}\')')
    computing(page, BATTERY)
    page.wait_for_function("() => window.share === 1")


def test_whose_pictures_come_first_is_kept_and_holds_at_once(large_model):
    page = large_model
    computing(page, BATTERY)
    expect(said(page)).to_have_text("Ready on A GPU: waiting for work.")
    assert page.evaluate("ownFirst") is False
    limits(page)
    own = page.get_by_label("My own pictures first.")
    expect(own).not_to_be_checked()
    assert violations(page) == []
    own.check()
    page.wait_for_function("() => ownFirst === true")
    computing(page, BATTERY)
    page.wait_for_function("() => window.ownFirst === true")
    limits(page)
    expect(own).to_be_checked()


def test_it_pauses_on_the_battery_and_says_so_to_everybody(large_model, open_page, bob):
    page = large_model
    computing(page, BATTERY)
    theirs = open_page(bob, "/rooms/kitchen/")
    page.evaluate("charging(false)")
    expect(said(page)).to_contain_text("Paused: this device runs on its battery.")
    expect(theirs.get_by_role("list", name="Peers")).to_contain_text(
        "paused: it runs on its battery"
    )
    page.evaluate("charging(true)")
    expect(theirs.get_by_role("list", name="Peers")).not_to_contain_text("battery")
    page.evaluate("charging(false)")
    page.get_by_role("button", name="Compute on battery too").click()
    expect(page.get_by_role("button", name="Compute on battery too")).to_have_count(0)
    expect(limits(page)[2]).not_to_be_checked()


def test_a_cable_that_comes_and_goes_is_told_at_most_once_a_second(large_model):
    page = large_model
    said = []

    def sent(text):
        if isinstance(text, str) and '"peer.status"' in text:
            said.append(json.loads(text)["status"])

    page.on("websocket", lambda socket: socket.on("framesent", sent))
    computing(page, BATTERY)
    page.wait_for_timeout(1500)
    del said[:]
    began = time.monotonic()
    for _ in range(10):
        page.evaluate("charging(false)")
        page.evaluate("charging(true)")
    page.evaluate("charging(false)")
    seconds = time.monotonic() - began
    page.wait_for_timeout(2500)
    assert said[-1] == "battery"
    assert len(said) <= seconds + 3, "at once, every second of it, and how it is at the end"
    page.evaluate("charging(true)")
    page.wait_for_timeout(1500)
    assert said[-1] is None


def test_it_pauses_while_hidden_only_where_that_is_wanted(large_model):
    page = large_model
    computing(page, BATTERY)
    page.evaluate("hide(true)")
    expect(said(page)).to_have_text("Ready on A GPU: waiting for work.")
    page.evaluate("hide(false)")
    limits(page)[1].check()
    page.evaluate("hide(true)")
    expect(said(page)).to_contain_text("Paused while this page is hidden.")
    page.evaluate("hide(false)")
    expect(said(page)).to_have_text("Ready on A GPU: waiting for work.")


def test_a_browser_that_says_nothing_of_batteries_is_named(with_gpu, alice, kitchen):
    page = with_gpu(alice, "/rooms/kitchen/")
    page.add_init_script(NO_BATTERY)
    page.reload()
    _share, _hidden, battery = limits(page)
    expect(battery).to_be_disabled()
    expect(page.locator("#compute-battery-unknown")).to_be_visible()
