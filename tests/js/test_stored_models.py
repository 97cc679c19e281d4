""" "Models in this browser": what is stored, deleting it, and the browser's promise to keep it."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser import violations
from tests.diffusion.conftest import kl_folder
from tests.diffusion.packaging.conftest import packages
from tests.js.engine.package_host import PackageHost
from tests.js.exported import exported
from tests.js.test_room_page import connected

__all__ = ["kl_folder", "packages"]

# Loads all of a package and lets go of it; `keep` leaves the reader open, as a tab that computes
LOAD = """async ([url, keep, only]) => {
  const { openPackage } = await import('./ENGINE/package.js');
  const reader = await openPackage(url, { confirmDownload: () => true });
  const names = only ?? [...reader.manifest.tensors.keys(), ...reader.manifest.files.keys()];
  const { tensors } = reader.manifest;
  for (const name of names) {
    if (!tensors.has(name)) await reader.file(name);
    else for await (const piece of reader.pieces(name)) piece.bytes.length;
  }
  await reader.written();
  if (!keep) reader.close();
  else window.reader = reader;
  return reader.packageId;
}"""


@pytest.fixture
def host(packages):
    with PackageHost({name: package.path for name, package in packages.items()}) as host:
        yield host


@pytest.fixture
def page(open_page, alice, kitchen, site, host) -> Page:
    """A room, into whose site the packages' host is mapped, as the policy wants it."""
    page = open_page(alice, "/stats/")
    serve(page, host)
    page.goto("/rooms/kitchen/")
    connected(page)
    return page


def serve(page: Page, host: PackageHost) -> None:
    """Packages of the same origin: /p/<name>/... is answered by the host."""

    def answer(route) -> None:
        data = host.file(route.request.url.split("/p/")[1])
        route.fulfill(body=data) if data is not None else route.fulfill(status=404)

    page.route("**/p/**", answer)


def load(page: Page, name: str, *, keep: bool = False, only: list[str] | None = None) -> None:
    script = LOAD.replace("./ENGINE", "/static/js/engine")
    page.evaluate(script, [f"/p/{name}/", keep, only])


def open_part(page: Page):
    page.get_by_text("Models in this browser", exact=True).click()
    return page.locator("#stored")


def said(page: Page):
    return page.locator('#stored [data-part="said"]')


def megabytes(nbytes: int) -> str:
    return f"{-(-nbytes // 10**6):,} MB"


class Questions:
    """Those that the page asks; agree: what they are answered."""

    def __init__(self, page: Page) -> None:
        self.agree = True
        self.asked: list[str] = []
        page.on("dialog", self._answer)

    def _answer(self, dialog) -> None:
        self.asked.append(dialog.message)
        dialog.accept() if self.agree else dialog.dismiss()


def test_nothing_of_it_is_loaded_before_it_is_opened_and_none_is_said(page):
    loaded = "performance.getEntriesByType('resource').map(({ name }) => name)"
    assert not any("stored.js" in name or "/engine/" in name for name in page.evaluate(loaded))
    stored = open_part(page)
    expect(said(page)).to_have_text(
        "None. A model is stored when this tab computes for the first time."
    )
    expect(stored.get_by_role("button")).to_have_count(0)
    expect(stored).to_contain_text("MB that it may store here.")
    assert any("stored.js" in name for name in page.evaluate(loaded))


def test_what_is_stored_is_listed_with_its_size(page, packages):
    f16 = packages["f16"].manifest
    load(page, "f16")
    stored = open_part(page)
    expect(stored.locator("li")).to_have_count(1)
    expect(stored.locator("li")).to_contain_text("tiny-kl, f16")
    expect(stored.locator("li")).to_contain_text(megabytes(f16.nbytes))
    expect(said(page)).to_have_text("")
    expect(stored.get_by_role("button", name="Delete all")).to_have_count(0)
    assert violations(page) == []

    # Another that shares its shards, opened again: the list is as it is now
    load(page, "int4-f16-f16")
    open_part(page)
    open_part(page)
    expect(stored.locator("li")).to_have_count(2)
    expect(stored.locator("li").last).to_contain_text("belong to another model here as well")
    expect(stored.get_by_role("button", name="Delete all")).to_be_visible()


def test_one_is_deleted_after_a_question_and_no_other(page, packages):
    load(page, "f16")
    load(page, "f32")
    stored = open_part(page)
    expect(stored.locator("li")).to_have_count(2)
    questions = Questions(page)
    questions.agree = False
    button = stored.get_by_role("button", name="Delete tiny-kl, f16")
    button.click()
    assert questions.asked == [
        "Delete tiny-kl, f16 from this browser? That frees 1 MB. It is downloaded again when it is"
        " needed."
    ]
    expect(stored.locator("li")).to_have_count(2)
    questions.agree = True
    button.click()
    expect(said(page)).to_have_text("Deleted: tiny-kl, f16.")
    expect(stored.locator("li")).to_have_count(1)
    expect(stored.get_by_role("button", name="Delete tiny-kl, f32")).to_be_focused()
    hashes = page.evaluate(
        """async () => {
          const { PackageStore } = await import('/static/js/engine/package-store.js');
          return [...await (await PackageStore.open()).shards()]; }"""
    )
    assert set(hashes) == {shard.sha256 for shard in packages["f32"].manifest.shards}


def test_all_are_deleted_but_what_a_tab_computes_with(page, host):
    load(page, "f16")
    load(page, "f32")
    other = page.context.new_page()
    other.goto("/stats/")
    serve(other, host)
    load(other, "f16", keep=True)
    stored = open_part(page)
    questions = Questions(page)
    stored.get_by_role("button", name="Delete all").click()
    expect(said(page)).to_have_text(
        "Deleted: tiny-kl, f32. Not deleted, because a tab of this browser is using it:"
        " tiny-kl, f16. Press “Stop” there first."
    )
    assert questions.asked[0].startswith("Delete all 2 models from this browser?")
    expect(stored.locator("li")).to_have_count(1)
    other.evaluate("reader.close()")
    stored.get_by_role("button", name="Delete tiny-kl, f16").click()
    expect(said(page)).to_have_text("Deleted: tiny-kl, f16.")
    expect(stored.locator("li")).to_have_count(0)
    expect(page.get_by_text("Models in this browser", exact=True)).to_be_focused()


def test_a_tab_that_is_closed_uses_nothing_any_more(page, host):
    other = page.context.new_page()
    other.goto("/stats/")
    serve(other, host)
    load(other, "f16", keep=True)
    other.close()
    stored = open_part(page)
    Questions(page)
    stored.get_by_role("button", name="Delete tiny-kl, f16").click()
    expect(said(page)).to_have_text("Deleted: tiny-kl, f16.")


def test_part_of_a_model_is_said_to_be_a_part(page, packages):
    load(page, "f32", only=["tokenizer/tokenizer.json"])
    call = """async (stored) => {
        const m = await import('page/later/stored.js');
        return m.sizeSentence(stored); }"""
    stored = open_part(page)
    expect(stored.locator("li")).to_have_count(1)
    part = {"bytes": 12_000_000, "total": 49_000_000, "own": 12_000_000}
    assert page.evaluate(call, part) == "12 of 49 MB"


def test_the_browser_is_asked_to_keep_them_and_its_answer_is_said(page, site):
    load(page, "f16")
    stored = open_part(page)
    kept = stored.locator('[data-part="kept"]')
    expect(kept).to_have_text("The browser may delete them when the disk fills up.")
    ask = stored.get_by_role("button", name="Ask to keep them")
    ask.click()
    expect(kept).to_contain_text("The browser made no promise")
    expect(ask).to_be_visible()
    session = page.context.new_cdp_session(page)
    context = session.send("Target.getTargetInfo")["targetInfo"]["browserContextId"]
    session.send(
        "Browser.grantPermissions",
        {"permissions": ["durableStorage"], "origin": site.url, "browserContextId": context},
    )
    ask.click()
    expect(kept).to_have_text("The browser promised to keep them until you delete them.")
    expect(ask).to_have_count(0)
    open_part(page)
    open_part(page)
    expect(kept).to_have_text("The browser promised to keep them until you delete them.")


@pytest.mark.parametrize(
    ("room", "text"),
    [
        ({"usage": 51_200_000, "quota": 10_240_000_000},
         "This site uses 52 of the 10,240 MB that it may store here."),
        ({}, "This browser does not say how much this site may store."),
    ],
)  # fmt: skip
def test_what_the_site_uses_of_what_it_may_is_said(page, room, text):
    page.evaluate("(room) => { navigator.storage.estimate = async () => room; }", room)
    expect(open_part(page).locator('[data-part="room"]')).to_have_text(text)


def test_where_nothing_can_be_stored_that_is_said(page):
    page.evaluate("navigator.storage.getDirectory = async () => { throw new Error('private'); }; 0")
    stored = open_part(page)
    expect(said(page)).to_contain_text("This browser stores no models here")
    expect(stored.get_by_role("button")).to_have_count(0)


def test_the_title_that_a_package_gives_itself_is_only_text(page, packages):
    stored = {"packageId": "0", "title": "<img src=x onerror=alert(1)>", "variant": "f16",
              "bytes": 1, "total": 1, "own": 1}  # fmt: skip
    page.evaluate(
        """async (stored) => {
          const { PackageStore } = await import('/static/js/engine/package-store.js');
          PackageStore.prototype.list = async () => [stored]; }""",
        stored,
    )
    item = open_part(page).locator("li .person-name")
    expect(item).to_have_text("<img src=x onerror=alert(1)>, f16")
    expect(item.locator("*")).to_have_count(0)


def test_the_exported_page_has_it_too(chromium, tmp_path, settings, kl_folder, host):
    """What was stored by this page's own modules is listed and deleted by them."""
    settings.MODEL_ROOTS = [kl_folder.parent]
    settings.DATA_DIR = tmp_path / "data"
    with exported(tmp_path / "host", "--model", kl_folder.name) as site:
        page = chromium.new_page()
        page.goto(f"{site.url}room.html#kitchen")
        url = page.evaluate(
            "async () => (await (await fetch('packages.json')).json()).packages[0].url"
        )
        page.evaluate(LOAD.replace("./ENGINE", f"{site.url}static/js/engine"), [url, False, None])
        stored = open_part(page)
        expect(stored.locator("li")).to_contain_text("f16")
        Questions(page)
        stored.get_by_role("button", name="Delete ").click()
        expect(said(page)).to_contain_text("Deleted: ")
        expect(stored.locator("li")).to_have_count(0)
        page.close()
