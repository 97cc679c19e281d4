"""What somebody calls themselves in a room of the site: seen by others, kept in the browser."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser import violations


def peers(page):
    return page.get_by_role("list", name="Peers")


def rename(page, name: str) -> None:
    if not page.locator("details.naming").get_attribute("open"):
        page.get_by_text("Your name here").press("Enter")
    page.get_by_label("Name that others see").fill(name)
    page.get_by_role("button", name="Save").and_(page.locator("#own-name button")).click()


def test_a_name_is_shown_to_others_beside_the_label_and_kept(open_page, alice, bob, kitchen):
    mine, theirs = open_page(alice, "/rooms/kitchen/"), open_page(bob, "/rooms/kitchen/")
    for page in (mine, theirs):
        expect(peers(page).locator("> li")).to_have_count(2)
    rename(theirs, "  <b>you</b> \u202e")
    expect(theirs.locator("#own-name-said")).to_contain_text("Others here see “<b>you</b>” beside")
    expect(peers(mine)).to_contain_text(f"<b>you</b> (guest {bob.label[:6]})")
    expect(peers(theirs)).to_contain_text("you, as <b>you</b>")
    expect(mine.get_by_role("button", name="Remove <b>you</b> (guest")).to_be_visible()
    expect(peers(mine).locator("b")).to_have_count(0)

    theirs.reload()
    expect(peers(theirs)).to_contain_text("you, as <b>you</b>")
    expect(peers(mine)).to_contain_text("<b>you</b> (guest")
    rename(theirs, "")
    expect(theirs.locator("#own-name-said")).to_have_text("Others here see your label only.")
    expect(peers(mine)).not_to_contain_text("<b>you</b>")


def test_without_javascript_there_is_no_field_that_does_nothing(chromium, site, kitchen):
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(f"{site.url}/rooms/kitchen/")
    expect(page.get_by_role("heading", name="Peers")).to_be_visible()
    expect(page.get_by_text("Your name here")).to_be_hidden()
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_field_is_for_keyboards_and_readers(open_page, alice, kitchen, scheme):
    page = open_page(alice, "/rooms/kitchen/", color_scheme=scheme)
    expect(page.locator("body[data-connected]")).to_have_count(1)
    page.get_by_text("Your name here").press("Enter")
    field = page.get_by_label("Name that others see")
    field.fill("Ann")
    field.press("Enter")
    expect(field).to_have_accessible_description(re.compile("“Ann”"))
    assert violations(page) == []
