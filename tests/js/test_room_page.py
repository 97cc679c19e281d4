"""The room page as people use it, in Chromium at the real site. A hand plays the worker."""

import re
import time

import pytest
from playwright.sync_api import expect

from genqueue.kinds import ChunkKind
from genqueue.models import Job, Room
from rooms import state
from tests.browser import violations
from tests.genqueue.processes import until
from tests.studio import picture, settings_of

OWN_JAVASCRIPT_BYTES = 60_000


def prompt(page):
    return page.get_by_role("textbox", name="Prompt")


def queue(page):
    return page.get_by_role("list", name="Queue").locator("> li")


def connected(page):
    expect(page.locator("body[data-connected]")).to_have_count(1)
    expect(page.get_by_role("list", name="Peers").get_by_text("you")).to_be_visible()


def test_from_prompt_to_picture_everybody_watches(open_page, alice, bob, kitchen, studio):
    mine, theirs = open_page(alice, "/rooms/kitchen/"), open_page(bob, "/rooms/kitchen/")
    connected(mine)
    connected(theirs)
    prompt(mine).fill("a snowman")
    prompt(mine).press("Enter")
    for page in (mine, theirs):
        expect(queue(page)).to_have_count(1)
    expect(queue(mine)).to_contain_text("Next in line")
    expect(theirs.get_by_role("button", name="Cancel")).to_have_count(0)
    lease = studio.work(until=ChunkKind.DENOISE)
    studio.step(lease, 2)
    for page in (mine, theirs):
        bar = page.get_by_role("progressbar")
        expect(bar).to_have_count(1)
        expect(bar).to_have_js_property("value", 2)
        expect(queue(page)).to_contain_text("Step 2 of 8")
        expect(queue(page).locator("img")).to_have_attribute("src", re.compile("step=2$"))
    expect(mine).to_have_title(re.compile("^25 %"))
    studio.finish(lease)
    studio.work()
    for page in (mine, theirs):
        figure = page.get_by_role("figure")
        expect(figure).to_have_count(1)
        expect(figure.get_by_role("img", name="a snowman")).to_be_visible()
        expect(queue(page)).to_have_count(0)
        expect(page.locator("#announce")).to_have_text("Picture finished: a snowman")
        expect(page.get_by_text("No pictures yet.")).not_to_be_visible()
    expect(mine).to_have_title(re.compile("^Room kitchen"))


def test_a_job_shows_with_the_answer_to_generate_and_waits_for_no_hint(
    open_page, alice, kitchen, studio, site
):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    page.evaluate("dispatchEvent(new Event('pagehide'))")  # the socket stops, for this page only
    prompt(page).fill("a rocket")
    page.get_by_role("button", name="Generate").click()
    expect(queue(page)).to_have_count(1)
    expect(queue(page)).to_contain_text("Next in line")


def test_errors_are_said_next_to_the_field_and_go_when_it_is_right(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    prompt(page).fill("画")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#error-prompt")).to_contain_text("cleaning")
    expect(prompt(page)).to_have_attribute("aria-invalid", "true")
    expect(prompt(page)).to_be_focused()
    page.locator("#more-settings summary").click()
    prompt(page).fill("a rocket")
    page.get_by_label("Steps").fill("1000")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#error-prompt")).to_be_empty()
    expect(page.locator("#error-steps")).to_contain_text("between 1 and 100")
    page.get_by_label("Steps").fill("3")
    page.get_by_role("button", name="Generate").click()
    expect(queue(page)).to_have_count(1)
    expect(page.locator("#error-steps")).to_be_empty()
    expect(prompt(page)).to_have_value("a rocket")


def test_a_click_counts_however_long_it_takes_and_whatever_is_said_meanwhile(
    open_page, alice, kitchen, studio, site
):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    with page.expect_response("**/api/models"):
        prompt(page).click()
    prompt(page).press_sequentially("a zorp and some flurg")
    hint = page.locator("#prompt-hint")
    expect(hint).to_contain_text("zorp")
    page.mouse.move(*upper_edge(page.get_by_role("button", name="Generate")))
    page.mouse.down()
    studio.ask(kitchen, alice, "a rocket")  # the page is told, and draws it when the press is over
    page.wait_for_timeout(400)
    expect(queue(page)).to_have_count(0)
    expect(hint).not_to_contain_text("flurg")
    page.mouse.up()
    expect(queue(page)).to_have_count(2)
    expect(hint).to_contain_text("flurg")


def upper_edge(button):
    box = button.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + 4


def test_generate_works_before_the_scripts_are_there(open_page, alice, kitchen):
    page = open_page(alice, "/stats/")
    held = []
    page.route("**/static/js/**", lambda route: held.append(route))
    page.goto("/rooms/kitchen/", wait_until="commit")
    pictures = page.get_by_role("spinbutton", name="Pictures")
    prompt(page).fill("a rocket")
    pictures.fill("99")
    page.locator("#more-settings summary").click()
    page.get_by_label("Steps").fill("1000")
    held.clear()
    page.get_by_role("button", name="Generate").click(no_wait_after=True)
    expect(page.locator("#error-steps")).to_contain_text("between 1 and 100")
    for route in held:
        route.continue_()
    connected(page)
    expect(page.locator("#error-num_images")).to_contain_text("between 1 and 16")
    expect(pictures).to_have_value("99")
    expect(pictures).to_be_focused()
    expect(page.get_by_label("Steps")).to_have_value("1000")


def test_cancel_again_vary_and_delete(open_page, alice, kitchen, studio):
    studio.made(kitchen, alice, "a rocket", seed=5)
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    page.get_by_role("button", name="Vary seed").click()
    expect(queue(page)).to_have_count(1)
    page.get_by_role("button", name="Cancel “a rocket”").click()
    expect(queue(page)).to_have_count(0)
    page.locator("figure summary").click()
    page.get_by_role("button", name="Again").click()
    expect(queue(page)).to_contain_text("seed 5")
    page.get_by_role("button", name="Cancel “a rocket”").click()
    expect(queue(page)).to_have_count(0)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("figure")).to_have_count(0)
    expect(page.get_by_text("No pictures yet.")).to_be_visible()


def test_what_is_gone_meanwhile_or_refused_by_the_server_is_said(
    open_page, alice, bob, kitchen, studio, site
):
    job = studio.ask(kitchen, bob)
    page = open_page(bob, "/rooms/kitchen/")
    connected(page)
    site.pause_watching()

    def goes_meanwhile(route):
        job.delete()  # sooner, and a page that reads the room just then shows no button
        route.continue_()

    page.route("**/cancel/", goes_meanwhile)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("That is no longer there")).to_be_visible()
    prompt(page).fill("a rocket")
    page.context.clear_cookies(name="csrftoken")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_text("The server did not take that")).to_be_visible()
    expect(prompt(page)).to_have_value("a rocket")
    site.blocked = True
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_text("The server did not take that")).to_be_visible()


def test_a_reload_comes_back_to_the_same_state(open_page, alice, kitchen, studio):
    studio.ask(kitchen, alice)
    studio.step(studio.work(until=ChunkKind.DENOISE), 2)
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    prompt(page).fill("half a sent")
    page.locator("#more-settings summary").click()
    page.get_by_label("Steps").fill("12")
    page.get_by_label("Seed", exact=True).fill("99")
    page.reload()
    connected(page)
    expect(prompt(page)).to_have_value("half a sent")
    expect(page.get_by_label("Steps")).to_have_value("12")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("99")
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 2)


def test_after_the_server_was_away_the_page_is_right_within_5_seconds(
    open_page, alice, kitchen, studio, site
):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    site.blocked = True
    site.drop_sockets()
    expect(page.get_by_text("The connection is lost.")).to_be_visible()
    studio.made(kitchen, alice, "made meanwhile")
    time.sleep(1)
    site.blocked = False
    expect(page.get_by_role("figure")).to_have_count(1, timeout=5000)
    expect(page.get_by_text("The connection is lost.")).not_to_be_visible()


def test_with_every_hint_lost_the_page_is_right_within_5_seconds(
    open_page, alice, kitchen, studio, site
):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    site.pause_watching()
    studio.made(kitchen, alice, "nobody told")
    expect(page.get_by_role("figure")).to_have_count(1, timeout=5000)


def test_without_javascript_a_picture_is_asked_for_seen_and_cancelled(
    open_page, alice, kitchen, studio
):
    studio.made(kitchen, alice, "a snowman")
    page = open_page(alice, "/rooms/kitchen/", java_script_enabled=False)
    expect(page.get_by_role("figure").get_by_role("img", name="a snowman")).to_be_visible()
    prompt(page).fill("a rocket")
    page.get_by_role("button", name="Generate").click()
    expect(queue(page)).to_contain_text("a rocket")
    page.get_by_role("button", name="Cancel “a rocket”").click()
    expect(queue(page)).to_have_count(0)
    page.get_by_role("checkbox", name="Select “a snowman”, seed 7").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download selected as zip").click()
    assert download.value.suggested_filename == "pictures.zip"
    page.get_by_role("link", name="a rocket on a blue background").first.click()
    expect(prompt(page)).to_have_value("a rocket on a blue background")


def test_a_dropped_picture_fills_the_form(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    png = picture(settings_of("a dropped snowman", steps=5), 1234)
    page.evaluate(
        """(bytes) => {
             const data = new DataTransfer();
             data.items.add(new File([new Uint8Array(bytes)], 'x.png', { type: 'image/png' }));
             for (const type of ['dragover', 'drop'])
               document.getElementById('generate-form').dispatchEvent(
                 new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
           }""",
        list(png),
    )
    expect(prompt(page)).to_have_value("a dropped snowman")
    expect(page.locator("#seed")).to_have_value("1234")
    expect(page.locator("#steps")).to_have_value("5")


def test_another_picture_changes_nothing_that_was_typed(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    page.locator("#more-settings summary").click()
    prompt(page).fill("a long thought")
    foreign = {"name": "cat.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("#picture-file").set_input_files(foreign)
    expect(page.locator("#error-picture_file")).to_contain_text("not a PNG")
    expect(prompt(page)).to_have_value("a long thought")


def test_a_double_click_and_a_key_held_down_ask_once(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    prompt(page).fill("a rocket")
    page.get_by_role("button", name="Generate").dblclick()
    expect(queue(page)).to_have_count(1)
    prompt(page).focus()
    for _ in range(3):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    expect(queue(page)).to_have_count(2)
    time.sleep(0.5)
    assert Job.objects.count() == 2


def test_the_share_box_closes_with_escape_and_a_click_elsewhere(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    link = page.get_by_role("textbox", name="Whoever has this link")
    share = page.locator(".share summary")
    share.click()
    expect(link).to_be_visible()
    link.press("Escape")
    expect(link).not_to_be_visible()
    expect(share).to_be_focused()
    share.click()
    expect(link).to_be_visible()
    page.get_by_role("heading", name="Queue").click()
    expect(link).not_to_be_visible()


def test_names_are_completed_with_the_keyboard_and_unknown_words_hinted_at(
    open_page, alice, kitchen
):
    page = open_page(alice, "/rooms/kitchen/")
    with page.expect_response("**/api/models"):
        prompt(page).click()
    prompt(page).press_sequentially("a zorp and full mo")
    options = page.get_by_role("listbox", name="Names the model knows").get_by_role("option")
    expect(options).to_have_text(["full moon", "full moon face"])
    prompt(page).press("ArrowDown")
    expect(prompt(page)).to_have_attribute("aria-activedescendant", "completion-0")
    prompt(page).press("Enter")
    expect(prompt(page)).to_have_value("a zorp and full moon")
    expect(options).to_have_count(0)
    hint = page.locator("#prompt-hint")
    expect(hint).to_contain_text("has not learned “zorp”")
    prompt(page).press_sequentially(" flurg")
    time.sleep(0.8)
    expect(hint).not_to_contain_text("flurg")  # it is still being typed
    prompt(page).blur()
    expect(hint).to_contain_text("“flurg”")
    assert not Job.objects.exists()


def test_the_lightbox_goes_through_the_pictures_and_gives_the_focus_back(
    open_page, alice, kitchen, studio
):
    studio.made(kitchen, alice, "first")
    studio.made(kitchen, alice, "second")
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    page.get_by_role("link", name="second").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("img", name="second")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("img", name="first")).to_be_visible()
    dialog.get_by_role("button", name="Next picture").click()
    expect(dialog.get_by_role("img", name="second")).to_be_visible()
    dialog.get_by_role("button", name="Vary seed").click()
    expect(page.locator("#queue > li")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    expect(page.get_by_role("link", name="second")).to_be_focused()


def test_a_keyboard_stays_where_it_was_when_an_entry_goes(open_page, alice, kitchen, studio):
    for prompt_ in ("a rocket", "a snowman"):
        studio.ask(kitchen, alice, prompt_)
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    first, second = (
        page.get_by_role("button", name=f"Cancel “a {it}”") for it in ("rocket", "snowman")
    )
    first.focus()
    page.keyboard.press("Enter")
    expect(queue(page)).to_have_count(1)
    expect(second).to_be_focused()
    page.keyboard.press("Enter")
    expect(queue(page)).to_have_count(0)
    expect(page.get_by_role("heading", name="Queue")).to_be_focused()


def test_the_owner_pauses_the_room_and_everybody_reads_it(open_page, alice, bob, kitchen, studio):
    studio.ask(kitchen, bob)
    lease = studio.work(until=ChunkKind.DENOISE)
    studio.step(lease, 2)
    mine, theirs = open_page(alice, "/rooms/kitchen/"), open_page(bob, "/rooms/kitchen/")
    connected(theirs)
    helpers = theirs.get_by_role("list", name="Helpers")
    expect(helpers).to_contain_text("computing")
    mine.get_by_role("button", name="Pause the work").click()
    expect(mine.get_by_role("button", name="Resume the work")).to_be_visible()
    expect(theirs.get_by_text("The queue is paused by the owner")).to_be_visible()
    assert Room.objects.get(pk=kitchen).paused
    expect(queue(theirs)).to_contain_text("Paused at step 2 of 8")
    expect(helpers).to_contain_text("computing")  # what has begun is finished
    studio.finish(lease)
    expect(helpers).to_contain_text("waiting: the queue is paused")
    expect(theirs.get_by_role("button", name="Pause the work")).to_have_count(0)


def test_what_failed_is_tried_again_and_its_failure_forgotten(open_page, alice, kitchen, studio):
    studio.failed(kitchen, alice, "a rocket", seed=5)
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    expect(queue(page)).to_contain_text("Failed: The worker could not compute this.")
    page.get_by_role("button", name="Try again “a rocket”").click()
    expect(queue(page)).to_contain_text("Next in line")
    expect(queue(page)).to_contain_text("seed 5")
    expect(queue(page)).to_have_count(1)
    until(lambda: [job.state for job in Job.objects.all()] == ["queued"])


def test_a_failure_is_history_once_the_same_is_asked_again(open_page, alice, bob, kitchen, studio):
    studio.failed(kitchen, alice, "a rocket")
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    studio.made(kitchen, bob, "a rocket")
    expect(page.get_by_role("figure")).to_have_count(1)
    expect(queue(page)).to_contain_text("Failed:")  # hers is not made
    studio.made(kitchen, alice, "a rocket")
    expect(page.get_by_role("figure")).to_have_count(2)
    expect(queue(page)).to_have_count(0)


def test_what_was_refused_is_not_said_for_ever(open_page, alice, kitchen, studio, settings):
    studio.made(kitchen, alice, "a rocket")
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    allowed, settings.P2PWEB_LIMITS = (
        settings.P2PWEB_LIMITS,
        settings.P2PWEB_LIMITS | {"room_jobs": 0},
    )
    page.get_by_role("button", name="Vary seed").click()
    expect(page.locator("#said")).to_contain_text("at most 0 are allowed")
    settings.P2PWEB_LIMITS = allowed
    page.get_by_role("button", name="Vary seed").click()
    expect(queue(page)).to_have_count(1)
    expect(page.locator("#said")).to_be_empty()


def test_a_new_title_is_on_every_page_at_once(open_page, alice, bob, kitchen):
    mine, theirs = open_page(alice, "/rooms/kitchen/"), open_page(bob, "/rooms/kitchen/")
    connected(mine)
    connected(theirs)
    for title, name in (("Tuesday lunch", "Tuesday lunch"), ("", "Room kitchen")):
        mine.get_by_label("Title").fill(title)
        mine.get_by_role("button", name="Save").click()
        for page in (mine, theirs):
            expect(page.locator(".bar-title")).to_have_text(name)
            expect(page.get_by_role("heading", level=1)).to_have_text(name)
            expect(page).to_have_title(f"{name} · P2P Diffusion")


def test_what_got_no_answer_is_not_said_to_be_refused(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    page.route("**/rooms/kitchen/", lambda route: route.abort())
    prompt(page).fill("a rocket")
    page.get_by_role("button", name="Generate").click()
    said = page.get_by_text("No answer came from the server.")
    expect(said).to_be_visible()
    page.unroute_all()
    prompt(page).press("End")
    prompt(page).press_sequentially("s")
    expect(said).not_to_be_visible()


def test_what_is_wrong_with_a_field_is_said_until_it_is_changed(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    pictures = page.get_by_role("spinbutton", name="Pictures")
    pictures.fill("99")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#error-prompt")).to_contain_text("empty")
    expect(page.locator("#error-num_images")).to_contain_text("between 1 and 16")
    prompt(page).press_sequentially("a")
    expect(page.locator("#error-prompt")).to_be_empty()
    expect(prompt(page)).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#error-num_images")).to_contain_text("between 1 and 16")


def test_peers_are_listed_live_and_the_owner_may_remove_one(open_page, alice, bob, kitchen):
    mine = open_page(alice, "/rooms/kitchen/")
    connected(mine)
    theirs = open_page(bob, "/rooms/kitchen/")
    guest = mine.get_by_role("list", name="Peers").get_by_text(f"guest {bob.label[:6]}")
    expect(guest).to_be_visible()
    mine.once("dialog", lambda dialog: dialog.accept())
    mine.get_by_role("button", name="Remove guest").click()
    prompt(theirs).fill("a rocket")
    prompt(theirs).press("Enter")
    expect(theirs.locator("#error-form")).to_contain_text("removed you")
    theirs.close()
    expect(guest).not_to_be_visible()


def test_the_front_page_remembers_the_rooms_of_this_browser(open_page, alice, kitchen):
    connected(open_page(alice, "/rooms/kitchen/"))
    page = open_page(alice, "/")
    expect(page.get_by_role("list", name="Your recent rooms")).to_contain_text("Room kitchen")
    page.get_by_role("button", name="Forget these").click()
    expect(page.get_by_role("list", name="Your recent rooms")).not_to_be_visible()


def test_our_own_javascript_for_the_first_load_stays_small(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    urls = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
    own = {url for url in urls if "/static/js/" in url and "/vendor/" not in url}
    bodies = [page.request.get(url).body() for url in own]
    assert len(own) > 8
    assert sum(map(len, bodies)) <= OWN_JAVASCRIPT_BYTES


@pytest.mark.parametrize(("scheme", "width"), [("dark", 320), ("light", 1280)])
def test_axe_finds_nothing_and_no_page_scrolls_sideways(
    open_page, alice, bob, kitchen, studio, scheme, width
):
    long = "x" * 150 + " a picture with a long and winding prompt " * 3
    studio.made(kitchen, alice, long, num_images=2)
    studio.failed(kitchen, bob, long)
    studio.ask(kitchen, alice, long, num_images=2)
    studio.ask(kitchen, bob)
    Room.objects.filter(pk=kitchen).update(paused=True, listed=True, title="A listed room")
    Room.objects.filter(pk=kitchen).update(paused=False)
    studio.step(studio.work(until=ChunkKind.DENOISE), 3)
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    for path in ("/", "/rooms/kitchen/", "/rooms/empty/", "/stats/", "/nowhere/"):
        page = open_page(alice, path, **look)
        if path == "/rooms/kitchen/":
            connected(page)
            for summary in page.locator("main summary").all():
                summary.click()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if path == "/rooms/kitchen/":
            page.locator(".share summary").click()
            page.locator("a[data-open]").first.click()
            assert violations(page) == []
        page.close()


def test_older_pictures_come_when_asked_for_and_go_when_deleted(
    open_page, alice, kitchen, studio, site, monkeypatch
):
    monkeypatch.setattr(state, "SHOWN_ENDED_JOBS", 2)
    monkeypatch.setattr(state, "OLDER_JOBS_A_PAGE", 2)
    for number in range(2):
        studio.made(kitchen, alice, f"picture {number}")
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    pictures = page.locator("figure img")
    more = page.get_by_role("link", name="Older pictures")
    expect(more).to_have_count(0)
    for number in range(2, 6):  # these push the first ones off the page that lives
        studio.made(kitchen, alice, f"picture {number}")
    expect(pictures.first).to_have_attribute("alt", "picture 5")
    expect(pictures).to_have_count(2)
    more.click()
    expect(pictures).to_have_count(4)
    expect(page.get_by_role("heading", name="Older pictures")).to_be_focused()
    more.click()
    expect(pictures).to_have_count(6)
    expect(more).to_have_count(0)
    names = [f"picture {number}" for number in (5, 4, 3, 2, 1, 0)]
    assert pictures.evaluate_all("all => all.map(({ alt }) => alt)") == names
    assert violations(page) == []

    oldest = page.get_by_role("figure").filter(has_text="picture 0")
    oldest.get_by_text("More", exact=True).click()
    oldest.get_by_role("button", name="Delete").click()
    expect(pictures).to_have_count(5)
    newest = page.get_by_role("figure").filter(has_text="picture 5")
    newest.get_by_text("More", exact=True).click()
    newest.get_by_role("button", name="Delete").click()
    # What follows it to the page that lives is not there twice.
    expect(page.get_by_role("figure").filter(has_text="picture 5")).to_have_count(0)
    expect(pictures).to_have_count(4)
    assert pictures.evaluate_all("all => all.map(({ alt }) => alt)") == names[1:5]
    # It is no news either.
    assert page.locator("#announce").text_content().endswith("picture 5")
    expect(page.locator("figure.fresh").filter(has_text="picture 3")).to_have_count(0)
