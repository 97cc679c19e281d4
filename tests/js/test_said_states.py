"""What a room's page says while a picture waits for its check, and while a helper loads."""

import re

import pytest
from playwright.sync_api import expect

from genqueue import actions, comparing, protocol
from genqueue.kinds import WorkerKind
from genqueue.models import Worker
from tests.genqueue.volunteers import compare_words, server, volunteer, work
from tests.js.test_room_page import connected, queue
from tests.studio import settings_of


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setattr(comparing, "compare", compare_words)


def test_a_picture_that_is_held_for_its_check_says_who_it_waits_for(
    open_page, alice, bob, kitchen, site
):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    ours, tab = server(), volunteer(bob)
    actions.submit_job(kitchen, alice.client_id, settings_of(steps=4, num_images=2))
    work(tab)
    expect(queue(page)).to_contain_text("Waiting for somebody else to check it, for two minutes")
    expect(queue(page).get_by_text("Waiting for its check")).to_have_count(2)
    lease = ours.claim()
    assert lease.check_id is not None
    expect(queue(page)).to_contain_text("Being checked by somebody else before it is shown")
    expect(queue(page).get_by_text("Being checked", exact=True).first).to_be_visible()
    protocol.release(lease)
    expect(queue(page)).to_contain_text("Waiting for somebody else to check it")
    work(ours)
    expect(page.get_by_role("figure")).to_have_count(2)
    expect(queue(page)).to_have_count(0)


def test_a_helper_that_loads_the_model_is_named_and_not_taken_for_the_server(
    open_page, alice, bob, kitchen, site
):
    helper = volunteer(bob, WorkerKind.REMOTE)
    Worker.objects.filter(pk=helper.id).update(name="attic <3", state="loading")
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    loading = page.get_by_text("is loading the model")
    expect(loading).to_be_visible()
    expect(loading).to_have_text(re.compile("^The helper .attic <3. is loading the model; jobs"))
    Worker.objects.filter(pk=helper.id).update(state="ready")
    expect(loading).to_be_hidden()
