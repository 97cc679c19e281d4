"""One markup, filled twice: Django with rooms.slots, the page with view.js and slots.js.

The same JSON goes through both, and the DOM must be the same.
"""

import itertools

import pytest
from django.template.loader import render_to_string

from rooms import slots
from rooms.slots import Viewer

WORKER = {"id": "w1", "name": "server", "kind": "celery", "device": "cpu"}
NAMELESS = {**WORKER, "device": ""}


def image(index=0, state="queued", step=0, worker=None, **more):
    return {
        "index": index, "seed": 7 + index, "state": state, "step": step, "steps": 8,
        "worker": worker, "url": None, "preview_url": None, "seconds": None, **more,
    }  # fmt: skip


def job(state="queued", images=None, **more):
    return {
        "id": "0198f3a2-0000-7000-8000-000000000001", "room": "kitchen", "client": "2f3f42b0ef",
        "state": state, "position": None, "eta_seconds": None, "waits_for_model": False,
        "prompt": "a rocket", "negative_prompt": "", "model": "tiny", "width": 64, "height": 128,
        "steps": 8, "guidance": 4.0, "seed": 7, "num_images": 1,
        "created_at": "2026-01-01T00:00:00+00:00", "started_at": None,
        "finished_at": None, "error": None,
        "images": [image()] if images is None else images, **more,
    }  # fmt: skip


PREVIEW = "/api/jobs/x/images/0/preview.webp?step=3"
DONE = {"url": "/api/jobs/x/images/0.png", "seconds": 1.25}
JOBS = {
    "next": job(position=1, eta_seconds=3.2),
    "third": job(position=3, eta_seconds=600.0, num_images=4, guidance=4.5),
    "waits": job(position=2),
    "waits for a model": job(position=1, waits_for_model=True, model="<huge>"),
    "begins": job("running", [image(state="running", worker=WORKER)], eta_seconds=90.0),
    "halfway": job(
        "running",
        [
            image(0, "running", 3, WORKER, preview_url=PREVIEW),
            image(1, "done", 8, NAMELESS, **DONE),
            image(2),
        ],
        eta_seconds=4.01,
        num_images=3,
        prompt="<b>bold</b> & “quoted” 'single' \"double\" \u202eright\u202c 🚀",
    ),
    "finishing": job("running", [image(0, "running", 8, WORKER)]),
    "failed": job("failed", [image(state="failed")], error={"code": "x", "detail": "Lost <it>."}),
    "failed without a reason": job("failed", [image(state="failed")]),
}
DONE_JOBS = {
    "one": job("done", [image(0, "done", 8, WORKER, **DONE)]),
    "batch": job(
        "done",
        [
            image(0, "done", 8, None, url="/a.png", seconds=0.05),
            image(1, "done", 8, NAMELESS, url="/b.png", seconds=12.349999),
            image(2, "failed"),
        ],
        negative_prompt="no <i>clouds</i>",
        prompt="  ÀÉ İK 画 " + "long word " * 20,
        guidance=1.7976931348623157,
    ),
}
VIEWERS = {
    "mine": Viewer("2f3f42b0ef", owner=False),
    "owner": Viewer("ffffffffff", owner=True),
    "guest": Viewer("ffffffffff", owner=False),
}

NORMAL = """
(html) => {
  const template = document.createElement('template');
  template.innerHTML = html;
  const plain = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return node.data.replace(/\\s+/g, ' ').trim();
    const attributes = [...node.attributes].map(({ name, value }) => `${name}=${value}`).sort();
    const children = [...node.childNodes].map(plain).filter((child) => child !== '');
    return [node.localName, attributes, children];
  };
  return plain(template.content.firstElementChild);
}
"""
FILLED = """
async ([partial, call, args]) => {
  const { clone, fill } = await import('page/slots.js');
  const view = await import('page/view.js');
  const values = view[call](...args);
  return fill(clone(partial), values).outerHTML;
}
"""


@pytest.fixture(scope="module")
def blank():
    """The page's own templates, as the room page carries them."""
    names = [
        ("job", "queue/job.html"), ("tile", "queue/tile.html"), ("picture", "queue/picture.html"),
        ("peer", "rooms/peer.html"), ("helper", "rooms/helper.html"),
        ("notices", "rooms/notices.html"),
    ]  # fmt: skip
    return "".join(
        f'<template data-partial-of="{name}">{render_to_string(path, {"s": None})}</template>'
        for name, path in names
    )


@pytest.fixture
def page(open_page, alice, kitchen):
    return open_page(alice, f"/rooms/{kitchen}/")


def compare(page, partial, template, call, args, values):
    server = page.evaluate(NORMAL, render_to_string(template, {"s": values}))
    browser = page.evaluate(NORMAL, page.evaluate(FILLED, [partial, call, args]))
    assert browser == server


def viewer_json(viewer):
    return {"label": viewer.label, "owner": viewer.owner}


def test_every_job_is_the_same_whoever_renders_it(page):
    for one, viewer, paused in itertools.product(JOBS.values(), VIEWERS.values(), (True, False)):
        args = [one, viewer_json(viewer), paused]
        values = slots.job_slots(one, viewer, paused)
        compare(page, "job", "queue/job.html", "jobSlots", args, values)


def test_every_picture_is_the_same_whoever_renders_it(page):
    for one, viewer in itertools.product(DONE_JOBS.values(), VIEWERS.values()):
        for picture in (entry for entry in one["images"] if entry["url"]):
            values = slots.picture_slots(one, picture, viewer)
            args = [one, picture, viewer_json(viewer)]
            compare(page, "picture", "queue/picture.html", "pictureSlots", args, values)


def test_peers_helpers_and_notices_are_the_same(page, blank):
    # The notices are on the page itself, not in a template: give the page one for this test.
    page.evaluate(
        """(html) => { const holder = document.createElement('div');
           holder.innerHTML = html;
           document.body.append(holder.querySelector('[data-partial-of="notices"]')); }""",
        blank,
    )
    for viewer in VIEWERS.values():
        for owner, own in itertools.product((True, False), ("p1", "p2", None)):
            peer = {"id": "p1", "client": "2f3f42b0ef", "owner": owner}
            values = slots.peer_slots(peer, "kitchen", viewer, own)
            args = [peer, "kitchen", viewer_json(viewer), own]
            compare(page, "peer", "rooms/peer.html", "peerSlots", args, values)
    for state, worker in itertools.product(("loading", "ready", "gone"), (WORKER, NAMELESS)):
        one = {**worker, "state": state}
        for jobs, paused in itertools.product(([], [JOBS["halfway"]]), (True, False)):
            values = slots.helper_slots(one, jobs, paused)
            args = [one, jobs, paused]
            compare(page, "helper", "rooms/helper.html", "helperSlots", args, values)
        for paused, waiting in itertools.product((True, False), (0, 1, 2)):
            room = {"paused": paused, "workers": [one] if waiting else []}
            values = slots.notice_slots(room, waiting)
            args = [room, waiting]
            compare(page, "notices", "rooms/notices.html", "noticeSlots", args, values)


@pytest.mark.parametrize("cursor", [None, "1795461143916636.d58d753bee3c49e685c4823456234e43"])
def test_the_way_to_older_pictures_is_the_same(page, cursor):
    page.evaluate(  # it is on the page itself, not in a template: give the page one for this test
        """(html) => { const holder = document.createElement('template');
           holder.dataset.partialOf = 'older';
           holder.innerHTML = html;
           document.body.append(holder); }""",
        render_to_string("rooms/older_link.html", {"s": None}),
    )
    values = slots.older_slots("kitchen", cursor)
    args = ["kitchen", cursor]
    compare(page, "older", "rooms/older_link.html", "olderSlots", args, values)


def test_lists_have_the_same_order(page):
    jobs = [
        {**one, "id": str(number), "created_at": f"2026-01-01T00:0{number % 3}:00+00:00"}
        for number, one in enumerate([*JOBS.values(), *DONE_JOBS.values()])
    ]
    viewer = VIEWERS["mine"]
    ids = """async ([call, jobs, viewer]) =>
        (await import('page/view.js'))[call](jobs, viewer).map(({ id }) => id)"""
    for call, ours in (("queueOf", slots.queue_of), ("galleryOf", slots.gallery_of)):
        expected = [entry["id"] for entry in ours(jobs, viewer)]
        assert page.evaluate(ids, [call, jobs, viewer_json(viewer)]) == expected
        assert len(expected) > 2


def test_one_partial_refilled_with_another_job_is_as_good_as_new(page):
    refill = """
    async ([first, second, viewer]) => {
      const { clone, fill } = await import('page/slots.js');
      const { jobSlots } = await import('page/view.js');
      const old = fill(fill(clone('job'), jobSlots(first, viewer)), jobSlots(second, viewer));
      return old.outerHTML === fill(clone('job'), jobSlots(second, viewer)).outerHTML;
    }"""
    viewer = viewer_json(VIEWERS["mine"])
    for first, second in itertools.permutations(JOBS.values(), 2):
        assert page.evaluate(refill, [first, second, viewer])
