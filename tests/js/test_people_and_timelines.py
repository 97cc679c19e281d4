"""What people see of who computes: the panel of peers, and how a picture was made."""

import re

import pytest
from playwright.sync_api import expect

from genqueue import protocol, timeline
from genqueue.check_models import Check
from genqueue.faults import Fault
from genqueue.kinds import ChunkKind
from genqueue.models import Worker
from tests.browser import violations
from tests.js.test_room_page import connected


@pytest.fixture
def retried(studio, kitchen, alice):
    """A picture of two workers, the first of which was lost after a checkpoint."""
    job = studio.ask(kitchen, alice, "a <b>rocket</b>", steps=3)
    studio.finish(protocol.claim(studio.worker.pk))
    lease = protocol.claim(studio.worker.pk)
    protocol.checkpoint(lease, 1, b"latent")
    protocol.fail(lease, Fault.WORKER_LOST, "/srv/secret")
    Worker.objects.filter(pk=studio.worker.pk).update(state="gone")
    studio.worker = Worker.objects.create(
        name="garage <i>", kind="remote", room_id=kitchen, client=alice.client_id, state="ready",
        device="<Some> GPU", kernels="baseline", model_names=["tiny"],
    )  # fmt: skip
    studio.work()
    return job


def entries(page):
    return page.locator("#lightbox .event")


def test_the_large_picture_says_who_made_which_steps(open_page, alice, retried, kitchen):
    page = open_page(alice, "/rooms/kitchen/", viewport={"width": 390, "height": 844})
    connected(page)
    page.locator(".picture-link").click()
    expect(entries(page)).to_have_count(4)
    read, lost, again, finished = entries(page).all()
    expect(read).to_contain_text("Read the prompt server · cpu")
    expect(lost).to_contain_text("Step 1 server · cpu")
    expect(lost).to_contain_text("This worker stopped, or was not heard of any more.")
    expect(again).to_contain_text("Steps 2 to 3 garage <i> · <Some> GPU")
    expect(again).to_contain_text("Attempt 2. Took over from server · cpu.")
    expect(again).to_contain_text("kernels baseline")
    expect(finished).to_contain_text("Finished the picture")
    expect(page.locator("#lightbox .timeline-summary")).to_have_text(
        re.compile(r"^2 workers, [\d.]+ s in all, 1 interruption$")
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator(".more summary").click()
    page.get_by_role("link", name="How it was made").click()  # the same, from its menu
    expect(entries(page)).to_have_count(4)


@pytest.fixture
def checked(retried, studio):
    """What the helper has handed in for it was computed again; one result of it was wrong."""
    [server] = Worker.objects.filter(kind="celery")
    steps, decoded = Check.objects.filter(job=retried).order_by("pk")
    timeline.note_check(steps, "agreed", server, 0.0004, 0.0025)
    timeline.note_check(decoded, "wrong", server, 0.11, 0.003)
    Check.objects.update(state="agreed")
    Check.objects.create(
        job=retried, worker=studio.worker, client="b", attempt=0, kind="encode", state="open",
        result="x",
    )  # fmt: skip
    return retried


def test_the_large_picture_says_what_checks_have_found(open_page, alice, checked, kitchen):
    page = open_page(alice, "/rooms/kitchen/", viewport={"width": 390, "height": 844})
    connected(page)
    page.locator(".picture-link").click()
    helper, server = "garage <i> · <Some> GPU", "server · cpu"
    found = page.locator("#lightbox .timeline-checks li")
    expect(found).to_have_text([
        f"Steps 2 to 3 of {helper} Computed again by {server}: alike, 0.04 % apart, and 0.25 % is"
        " allowed.",
        f"The picture of {helper} Computed again by {server}: wrong, 11 % apart, and 0.3 % is"
        " allowed. It was made again.",
        f"The prompt of {helper} Waits for somebody to check it.",
    ])  # fmt: skip
    expect(page.locator("#lightbox .timeline-summary")).to_contain_text("1 interruption, 2 checks")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []


def test_nothing_is_said_of_checks_where_there_were_none(open_page, alice, kitchen, studio):
    studio.made(kitchen, alice, "a snowman")
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    page.locator(".picture-link").click()
    expect(entries(page)).not_to_have_count(0)
    expect(page.locator("#lightbox .timeline-checks")).to_be_hidden()
    expect(page.locator("#lightbox .timeline-summary")).not_to_contain_text("check")


def test_without_javascript_it_is_a_page(alice, bob, retried, kitchen):
    def get(person, path):
        return person.browser.get(f"/rooms/{path}", SERVER_NAME="127.0.0.1")

    address = f"kitchen/pictures/{retried.pk}/0/timeline/"
    page = get(alice, address)
    text = page.content.decode()
    assert page.status_code == 200
    assert "a &lt;b&gt;rocket&lt;/b&gt;" in text
    assert "Steps 2 to 3" in text
    assert "Took over from server · cpu." in text
    assert f'href="/rooms/{address}"' in get(bob, "kitchen/").content.decode()
    for nothing in (f"{retried.pk}/1", "0198f3a2-0000-7000-8000-000000000001/0"):
        assert get(bob, f"kitchen/pictures/{nothing}/timeline/").status_code == 404
    assert get(bob, f"other/pictures/{retried.pk}/0/timeline/").status_code == 404


def test_the_panel_says_what_everybody_does_and_how_much(
    open_page, alice, bob, retried, kitchen, studio
):
    page = open_page(alice, "/rooms/kitchen/")
    connected(page)
    helper = page.get_by_role("list", name="Helpers").locator("> li")
    expect(helper).to_contain_text("garage <i>")
    expect(helper).to_contain_text("waiting for work")
    expect(helper).to_contain_text("<Some> GPU")
    expect(helper).to_contain_text("67 % of the steps of the last picture")
    expect(helper).to_contain_text(re.compile(r"steps a second|s a step"))
    own = page.get_by_role("list", name="Peers").locator("> li")
    expect(own).to_contain_text("watching; made this room")
    expect(own).to_contain_text(re.compile(r"\d+ ms to the server"), timeout=15_000)

    studio.ask(kitchen, bob, "a snowman", num_images=2)
    lease = studio.work(until=ChunkKind.DENOISE)
    steps = f"steps 1 to {lease.stop}" if lease.stop > 1 else "step 1"
    expect(helper).to_contain_text(f"computing {steps} of “a snowman”, picture 1")


def test_a_tab_says_why_it_computes_nothing_and_is_believed_no_more_than_that(
    open_page, alice, bob, kitchen
):
    unable = "navigator.__defineGetter__('gpu', () => undefined)"
    theirs = open_page(bob, "/stats/")
    theirs.add_init_script(unable)
    theirs.goto("/rooms/kitchen/")
    page = open_page(alice, "/rooms/kitchen/")
    peers = page.get_by_role("list", name="Peers")
    expect(peers).to_contain_text("watching: it cannot compute")
    answer = page.evaluate(
        """async () => {
          const socket = new WebSocket(`ws://${location.host}/ws/rooms/kitchen/`);
          await new Promise((resolve) => { socket.onopen = resolve; });
          const errors = [];
          socket.onmessage = ({ data }) => {
            const message = JSON.parse(data);
            if (message.type === 'error') errors.push(message.code);
          };
          for (const status of ['<b>boo</b>', 3, ['hidden'], 'hidden']) {
            socket.send(JSON.stringify({ type: 'peer.status', status }));
          }
          while (errors.length < 3) await new Promise((resolve) => setTimeout(resolve, 20));
          return errors;
        }"""
    )
    assert answer == ["bad-message"] * 3
    expect(peers).to_contain_text("paused: its page is not in front")
