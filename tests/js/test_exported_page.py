"""The exported page in Chromium: its forms and buttons without a server.

What computes is a hand at the room's queue; test_exported_room.py has the engine do it."""

import re
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import segno
from playwright.sync_api import Browser, Page, expect

from diffusion.pictures import png_bytes, settings_from_png
from tests.browser import listen_for_errors, violations
from tests.js.exported import StaticHost, exported_tiny

INSECURE = "http://pictures.example/"  # answered by the tests with the files of the export

# One finished job after the other, made by the room's own host from pixels. Runs on any page of the
# site; afterwards this browser keeps the room.
FURNISH = """async ({ room, jobs }) => {
  const [{ RoomHost }, { ownClientId, }, { clientLabel }, { toBytes }] = await Promise.all([
    import('work/room-host.js'), import('work/keeper.js'), import('work/clients.js'),
    import('./static/js/engine/safetensors.js')]);
  const client = await ownClientId();
  const { models } = await (await fetch('models.json')).json();
  const host = await RoomHost.open({ room, client, models });
  const { queue, blobs } = host;
  const label = await clientLabel(client);
  const worker = { id: 'w', client: label, name: 'tab', device: 'A GPU', models: ['tiny'] };
  queue.arrive(worker);
  for (const { failed = false, ...asked } of jobs) {
    const size = { width: 64, height: 64, steps: 2, guidance: 1, num_images: 1 };
    const request = { negative_prompt: '', model: 'tiny', seed: 7, ...size, ...asked };
    queue.submit(request, { client: label, id: crypto.randomUUID() });
    for (let lease; (lease = queue.claim('w'));) {
      if (failed) {
        queue.fail(lease, 'computation-failed', 'no');
        continue;
      }
      const rgb = new Uint8Array(64 * 64 * 3).fill(lease.seed ?? 0);
      const inside = { ...lease.settings, seed: lease.seed ?? 0, num_images: 1 };
      const bytes = lease.kind === 'decode'
        ? await host.encode.picture(rgb, 64, 64, inside)
        : toBytes({ latent: { shape: [1], data: new Float32Array(1) } });
      queue.complete(lease, await blobs.put(bytes), 0.5);
    }
  }
  await host.close();
}"""


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[StaticHost]:
    root = tmp_path_factory.mktemp("exported")
    with exported_tiny(root) as running:
        yield running


Open = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser, host: StaticHost) -> Iterator[Open]:
    """open_page("room.html#kitchen", jobs=[...]): a page in one new browser; `jobs` are made in the
    room before. Fails when a script had an error, the policy stopped anything, or a request was for
    what is not there or not below the site's path."""
    context = chromium.new_context(accept_downloads=True)
    context.set_default_timeout(10_000)
    errors: list[str] = []
    furnished = False
    allowed = (host.url, "blob:", INSECURE)

    def open_(path: str, jobs: list[dict] | None = None, **more) -> Page:
        nonlocal furnished
        page = context.new_page()
        if "viewport" in more:
            page.set_viewport_size(more["viewport"])
        page.emulate_media(color_scheme=more.get("color_scheme", "light"))
        listen_for_errors(page, errors, console=True)
        page.on("request", lambda request: inside(request.url))
        if jobs and not furnished:
            page.goto(host.url)
            page.evaluate(FURNISH, {"room": path.partition("#")[2], "jobs": jobs})
            furnished = True
        page.goto(host.url + path)
        if path.startswith("room"):
            expect(page.locator("body[data-connected]")).to_have_count(1)
        return page

    def inside(url: str) -> None:
        if not url.startswith(allowed):
            errors.append(f"asked elsewhere: {url}")

    yield open_
    context.close()
    assert errors == []


def prompt(page: Page):
    return page.get_by_role("textbox", name="Prompt")


def queue(page: Page):
    return page.get_by_role("list", name="Queue").locator("> li")


def figures(page: Page):
    return page.get_by_role("figure")


def more_about(page: Page, number: int = 0):
    figure = figures(page).nth(number)
    figure.locator("summary").click()
    return figure


JOBS = [{"prompt": "a rocket", "seed": 3}, {"prompt": "a snowman", "seed": 4, "num_images": 2}]


def test_the_front_page_makes_rooms_enters_them_and_remembers_them(open_page, host):
    page = open_page("index.html")
    expect(page.get_by_role("heading", name="Your recent rooms")).not_to_be_visible()
    page.get_by_role("button", name="Make a room").click()
    expect(page).to_have_url(re.compile(r"/room\.html#[A-Za-z0-9_-]{22}/$"))
    expect(page.get_by_role("list", name="Peers")).to_contain_text("you")
    page.get_by_role("link", name="P2P Diffusion").click()
    expect(page.get_by_role("list", name="Your recent rooms")).to_contain_text("Room ")
    field = page.get_by_role("textbox", name="or enter a room")
    field.fill("not a room!")
    page.get_by_role("button", name="Enter").click()
    expect(page.locator("#error-room")).to_contain_text("1 to 64 letters")
    expect(field).to_be_focused()
    for entered in ("kitchen", f"{host.url}room.html#kitchen", "https://a.example/rooms/kitchen/"):
        field.fill(entered)
        page.get_by_role("button", name="Enter").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Room kitchen")
        page.goto(host.url)
    page.get_by_role("list", name="Your recent rooms").get_by_text("Room kitchen").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Room kitchen")
    page.goto("about:blank")
    page.goto(f"{host.url}room.html")  # which room?
    expect(page.get_by_role("button", name="Make a room")).to_be_visible()


def test_another_room_in_the_address_is_another_page_and_the_skip_link_is_none(open_page):
    page = open_page("room.html#kitchen")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("Room kitchen")
    page.evaluate("location.hash = '#garden'")
    expect(page.get_by_role("heading", level=1)).to_have_text("Room garden")


def test_what_is_wrong_is_said_next_to_its_field_as_on_the_server(open_page):
    page = open_page("room.html#kitchen")
    prompt(page).fill("画")
    page.locator("#more-settings summary").click()
    page.get_by_label("Steps", exact=True).fill("0")
    page.get_by_label("Guidance", exact=True).fill("99")
    page.locator("#more-settings summary").click()
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#error-prompt")).to_contain_text("Nothing is left of the prompt")
    expect(page.locator("#error-steps")).to_have_text(
        "The steps must be between 1 and 100; 0 is not."
    )
    expect(page.locator("#error-guidance")).to_contain_text("between 1 and 20; 99 is not.")
    expect(page.locator("#more-settings")).to_have_attribute("open", "")
    expect(prompt(page)).to_have_attribute("aria-invalid", "true")
    expect(prompt(page)).to_be_focused()
    expect(queue(page)).to_have_count(0)
    page.get_by_label("Steps", exact=True).fill("2")
    expect(page.locator("#error-steps")).to_be_empty()
    page.get_by_label("Guidance", exact=True).fill("4.5")
    prompt(page).fill("a snowman")
    prompt(page).press("Enter")
    expect(queue(page)).to_contain_text("2 steps · guidance 4.5")
    expect(page.locator("#error-prompt")).to_be_empty()
    page.get_by_role("button", name="Cancel").click()
    expect(queue(page)).to_have_count(0)


def test_nobody_computes_and_the_page_says_so_when_somebody_waits(open_page):
    page = open_page("room.html#kitchen")
    nobody = page.get_by_text("Nothing computes at the moment")
    expect(nobody).not_to_be_visible()
    expect(page.locator("#compute-said")).to_contain_text(re.compile("WebGPU|processor|adapter"))
    prompt(page).fill("a snowman")
    prompt(page).press("Enter")
    expect(nobody).to_contain_text("1 job waits")
    page.get_by_role("link", name="This tab").click()
    expect(page.locator("#compute")).to_be_focused()
    expect(page).to_have_title(re.compile("^1 waiting"))


def test_an_insecure_page_says_what_is_wrong_with_it(open_page, host):
    page = open_page("index.html")
    page.route(
        f"{INSECURE}**",
        lambda route: route.fulfill(path=host.folder / route.request.url.removeprefix(INSECURE)),
    )
    page.goto(f"{INSECURE}room.html#kitchen")
    expect(page.get_by_text("not in a secure context")).to_be_visible()
    expect(page.locator("#compute-said")).to_contain_text("only by https or on this computer")


def test_a_picture_here_is_seen_saved_asked_for_again_and_deleted(open_page):
    page = open_page("room.html#kitchen", JOBS)
    expect(figures(page)).to_have_count(3)
    expect(page.get_by_role("img", name="a rocket")).to_be_visible()
    figure = more_about(page, 2)
    expect(figure.locator("dl")).to_contain_text("your tab · A GPU")
    with page.expect_download() as download:
        figure.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "a-rocket-3.png"
    inside = settings_from_png(download.value.path().read_bytes())
    assert (inside["prompt"], inside["seed"], inside["width"]) == ("a rocket", 3, 64)

    figure.get_by_role("button", name="Again").click()
    expect(queue(page)).to_contain_text("seed 3")
    page.get_by_role("button", name="Cancel").click()
    expect(queue(page)).to_have_count(0)
    figure.get_by_role("button", name="Vary seed").click()
    expect(queue(page)).to_contain_text("a rocket")
    expect(queue(page).get_by_text("seed 3", exact=True)).to_have_count(0)

    figure.get_by_role("link", name="Edit").click()
    expect(prompt(page)).to_have_value("a rocket")
    expect(prompt(page)).to_be_focused()
    expect(page.get_by_label("Size", exact=True)).to_have_value("64x64")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("3")

    figure.locator("a[data-open]").click()
    large = page.get_by_role("dialog")
    expect(large.get_by_role("img", name="a rocket")).to_be_visible()
    large.get_by_role("button", name="Delete").click()
    expect(figures(page)).to_have_count(2)
    expect(large).not_to_be_visible()
    page.reload()
    expect(figures(page)).to_have_count(2)
    expect(queue(page)).to_have_count(1)


def test_the_link_to_a_pictures_settings_works_in_another_tab(open_page):
    page = open_page("room.html#kitchen", JOBS)
    address = more_about(page, 2).get_by_role("link", name="Edit").get_attribute("href")
    page.goto("about:blank")
    again = open_page(address)
    expect(prompt(again)).to_have_value("a rocket")
    expect(again).to_have_url(re.compile(r"room\.html#kitchen/$"))
    again.goto(again.url.replace("#kitchen/", "?again#kitchen/?prompt=a+red+apple"))
    expect(prompt(again)).to_have_value("a red apple")


def test_chosen_pictures_come_as_one_zip(open_page):
    page = open_page("room.html#kitchen", [*JOBS, JOBS[0]])
    expect(figures(page)).to_have_count(4)
    for figure in figures(page).all():
        figure.get_by_role("checkbox").check(force=True)
    expect(page.locator("#chosen")).to_have_text("4 selected")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download selected as zip").click()
    assert download.value.suggested_filename == "pictures.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            "a-rocket-3-2.png", "a-rocket-3.png", "a-snowman-4.png", "a-snowman-5.png",
        ]  # fmt: skip
        assert settings_from_png(archive.read("a-snowman-5.png"))["seed"] == 5


def picture_file(settings: dict | None) -> dict:
    png = png_bytes(np.zeros((8, 8, 3), np.uint8), settings)
    return {"name": "a.png", "mimeType": "image/png", "buffer": png}


def test_a_picture_from_anywhere_fills_the_form_or_is_refused(open_page):
    page = open_page("room.html#kitchen")
    page.locator("#more-settings summary").click()
    chooser = page.locator("#picture-file")
    asked = {"prompt": "a <cat> “ä”", "negative_prompt": "", "model": "elsewhere", "width": 128,
             "height": 64, "steps": 3, "guidance": 4.5, "seed": 9}  # fmt: skip
    chooser.set_input_files(picture_file(asked))
    expect(prompt(page)).to_have_value("a <cat> “ä”")
    expect(page.get_by_label("Size", exact=True)).to_have_value("128x64")
    expect(page.get_by_label("Guidance", exact=True)).to_have_value("4.5")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("9")
    chooser.set_input_files(picture_file(None))
    expect(page.locator("#error-picture_file")).to_contain_text("it was not made here")
    text = {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
    chooser.set_input_files(text)
    expect(page.locator("#error-picture_file")).to_contain_text("not a PNG with settings")


def test_what_failed_is_asked_for_again_or_dismissed(open_page):
    page = open_page("room.html#kitchen", [{"prompt": "a rocket", "failed": True}])
    expect(queue(page)).to_contain_text("Failed")
    page.get_by_role("button", name="Try again").click()
    expect(queue(page)).to_contain_text("Next in line")
    expect(queue(page)).to_have_count(1)
    page.close()
    again = open_page("room.html#garden")
    expect(queue(again)).to_have_count(0)


def test_the_owner_names_the_room_and_pauses_its_work(open_page):
    page = open_page("room.html#kitchen")
    page.get_by_role("textbox", name="Title").fill("Tuesday <lunch>")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".bar-title")).to_have_text("Tuesday <lunch>")
    expect(page.get_by_text("Saved.")).to_be_visible()
    page.get_by_role("button", name="Pause the work").click()
    expect(page.get_by_text("The queue is paused")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Resume the work")).to_be_visible()
    expect(page.get_by_role("textbox", name="Title")).to_have_value("Tuesday <lunch>")
    page.get_by_role("button", name="Resume the work").click()
    expect(page.get_by_text("The queue is paused")).not_to_be_visible()


def test_a_second_tab_of_the_room_waits_for_the_first(open_page, host):
    first = open_page("room.html#kitchen", JOBS)
    second = open_page("index.html")
    second.goto(f"{host.url}room.html#kitchen")
    expect(second.get_by_text("open in another tab")).to_be_visible()
    expect(figures(second)).to_have_count(0)
    first.close()
    expect(figures(second)).to_have_count(3)
    expect(second.get_by_text("open in another tab")).not_to_be_visible()


def test_pictures_beyond_the_newest_come_when_asked_for(open_page):
    jobs = [{"prompt": f"number {number}", "seed": number} for number in range(203)]
    page = open_page("room.html#kitchen", jobs)
    expect(figures(page)).to_have_count(200)
    older = page.get_by_role("link", name="Older pictures")
    older.click()
    expect(figures(page)).to_have_count(203)
    expect(older).to_have_count(0)
    page.get_by_role("textbox", name="Title").fill("It lives")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".bar-title")).to_have_text("It lives")
    last = figures(page).last
    expect(last.get_by_role("img", name="number 0")).to_have_count(1)
    last.locator("summary").click()
    last.get_by_role("button", name="Delete").click()
    expect(figures(page)).to_have_count(202)


def test_the_qr_code_leads_here(open_page, host):
    text = f"{host.url}room.html#".ljust(62, "k")  # fills the code: encoders pad differently
    page = open_page(text.removeprefix(host.url))
    page.locator(".share summary").click()
    expect(page.get_by_label("The address of this room:")).to_have_value(text)
    code = page.get_by_role("img", name="QR code of the link to this room").locator("svg path")
    expect(code).to_have_count(1)
    dark = {(int(y), int(x)) for x, y in re.findall(r"M(\d+) (\d+)h", code.get_attribute("d"))}
    known = [
        segno.make(text, error="m", micro=False, boost_error=False, mask=mask) for mask in range(8)
    ]
    assert dark in [
        {
            (y, x)
            for y, row in enumerate(made.matrix_iter(border=2))
            for x, on in enumerate(row)
            if on
        }
        for made in known
    ]


@pytest.mark.parametrize(("scheme", "width"), [("dark", 320), ("light", 1280)])
def test_axe_finds_nothing_and_no_exported_page_scrolls_sideways(open_page, scheme, width):
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    jobs = [*JOBS, {"prompt": "x" * 150, "failed": True}]
    page = open_page("room.html#kitchen", jobs, **look)
    prompt(page).fill("a snowman")
    prompt(page).press("Enter")
    expect(queue(page)).to_have_count(2)
    for summary in page.locator("main summary").all():
        summary.click()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator(".share summary").click()
    expect(page.locator(".qr svg")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    front = open_page("index.html", **look)
    assert violations(front) == []
    assert front.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_large_picture_says_how_it_was_made(open_page):
    page = open_page("room.html#kitchen", [{"prompt": "a <b>rocket</b>"}])
    expect(page.locator(".picture")).to_have_count(1)
    page.locator(".picture-link").click()
    made = page.locator("#lightbox .event")
    expect(made).to_have_count(3)
    expect(made.nth(0)).to_contain_text("Read the prompt your tab · A GPU")
    expect(made.nth(1)).to_contain_text("Steps 1 to 2 your tab · A GPU")
    expect(made.nth(2)).to_contain_text("Finished the picture")
    page.keyboard.press("Escape")
    page.locator(".more summary").click()
    page.get_by_role("link", name="How it was made").click()  # and not another page
    expect(made).to_have_count(3)
    assert violations(page) == []
