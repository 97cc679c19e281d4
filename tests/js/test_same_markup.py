"""One markup, filled twice: Django with rooms.slots, the page with view.js and slots.js.

The same JSON goes through both, and the DOM must be the same.
"""

import itertools
import re

import pytest
from django.template.loader import render_to_string

from rooms import making, people, presence, slots
from rooms.people import Shares
from rooms.slots import Viewer

WORKER = {"id": "w1", "name": "server", "kind": "celery", "client": None, "device": "cpu",
          "kernels": ""}  # fmt: skip
TAB = {"id": "t1", "name": "tab of 2f3f42b0ef", "kind": "tab", "client": "2f3f42b0ef",
       "device": "<Some> GPU", "kernels": "baseline"}  # fmt: skip
NAMED = {**TAB, "name": "tab of Bob <3"}
NAMELESS = {**WORKER, "device": ""}
HELPER = {**WORKER, "id": "h1", "name": "<attic>", "kind": "remote", "client": "2f3f42b0ef"}


def image(index=0, state="queued", step=0, worker=None, **more):
    return {
        "index": index, "seed": 7 + index, "state": state, "step": step, "steps": 8,
        "worker": worker, "url": None, "preview_url": None, "seconds": None, "steps_by": {},
        "check": None, "doubt": None, **more,
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
            image(2, "running", 1, TAB),
        ],
        eta_seconds=4.01,
        num_images=3,
        prompt="<b>bold</b> & “quoted” 'single' \"double\" \u202eright\u202c 🚀",
    ),
    "finishing": job("running", [image(0, "running", 8, WORKER)]),
    "finishes": job("running", [image(state="running", step=8, worker=WORKER)]),
    "waits for its check": job("running", [image(state="running", step=8, check="waiting")]),
    "is checked": job(
        "running",
        [
            image(0, "running", 8, TAB, check="running"),
            image(1, "running", 8, TAB, check="waiting"),
            image(2, "done", 8, TAB, **DONE),
        ],
        num_images=3,
    ),
    "one is checked": job(
        "running",
        [
            image(0, "running", 8, TAB, check="waiting"),
            image(1, "running", 3, TAB),
        ],
        num_images=2,
    ),
    "failed": job("failed", [image(state="failed")], error={"code": "x", "detail": "Lost <it>."}),
    "failed without a reason": job("failed", [image(state="failed")]),
}
DONE_JOBS = {
    "one": job("done", [image(0, "done", 8, WORKER, **DONE)]),
    "of a tab": job("done", [image(0, "done", 8, TAB, **DONE)]),
    "unchecked": job("done", [image(0, "done", 8, TAB, **DONE, doubt="unchecked")]),
    "wrong": job("done", [image(0, "done", 8, TAB, **DONE, doubt="wrong")]),
    "of a tab with a name": job("done", [image(0, "done", 8, NAMED, **DONE)]),
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
IDLE = {"state": "ready", "seconds_a_step": None, "at_work": None, "lacks": {}}
ROOM = {"room": "kitchen", "paused": False, "shut_out": [],
        "workers": [{**WORKER, **IDLE}, {**TAB, **IDLE}]}  # fmt: skip
HALFWAY = {"kind": "denoise", "job": job()["id"], "index": 2, "start": 1, "stop": 8}
AT_WORK = {
    "steps": HALFWAY,
    "one step": {**HALFWAY, "start": 7},
    "the prompt": {**HALFWAY, "kind": "encode", "index": None, "start": 0, "stop": 0},
    "the end": {**HALFWAY, "kind": "decode", "start": 0, "stop": 0},
    "a check": {**HALFWAY, "kind": "check", "index": None, "start": 0, "stop": 0},
    "what is not shown": {**HALFWAY, "job": "gone"},
}
WORKED = [
    job("done", [image(0, "done", 8, WORKER, **DONE, steps_by={"w1": 5, "t1": 3})], id="1"),
    job("running", [image(0, "running", 1, TAB, steps_by={"t1": 1}), image(1)], id="0",
        num_images=2, prompt="<i>long</i> \N{ROCKET} " * 5),
]  # fmt: skip
SHUT_OUT = [
    {"name": "tab of <b>2f3f42b0ef</b>", "client": "2f3f42b0ef", "at": "2026-01-01T00:00:00+00:00",
     "reason": "steps 1 to 2 differed"},
]  # fmt: skip
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
  const modules = ['view', 'people', 'timeline/timeline'].map((name) => import(`page/${name}.js`));
  const view = Object.assign({}, ...await Promise.all(modules));
  const values = view[call](...args.map((arg) => (arg?.shares ? view.sharesOf(arg.shares) : arg)));
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


def test_notices_are_the_same(page, blank):
    # The notices are on the page itself, not in a template: give the page one for this test.
    page.evaluate(
        """(html) => { const holder = document.createElement('div');
           holder.innerHTML = html;
           document.body.append(holder.querySelector('[data-partial-of="notices"]')); }""",
        blank,
    )
    for state, worker in itertools.product(("loading", "ready", "gone"), (WORKER, TAB, HELPER)):
        one = {**worker, **IDLE, "state": state}
        for paused, waiting in itertools.product((True, False), (0, 1, 2)):
            room = {"paused": paused, "workers": [one] if waiting else [], "shut_out": SHUT_OUT}
            values = slots.notice_slots(room, waiting)
            args = [room, waiting]
            compare(page, "notices", "rooms/notices.html", "noticeSlots", args, values)


def test_who_loads_the_model_is_named():
    def said(*workers):
        room = {"paused": False, "shut_out": [], "workers": list(workers)}
        return slots.notice_slots(room, 1)["loading"]

    ours, helper, tab = ({**one, "state": "loading"} for one in (WORKER, HELPER, TAB))
    assert said(helper, ours).startswith("The server")
    assert re.match("The helper .<attic>. is loading the model; jobs begin as", said(tab, helper))
    assert said(tab).startswith("A tab is loading")
    assert said(helper, {**ours, "state": "ready"}) is None


def test_a_picture_that_waits_for_its_check_says_so():
    def status(name):
        return slots.job_slots(JOBS[name], VIEWERS["mine"])["status"]

    def tiles(name):
        return [one["status"] for one in slots.job_slots(JOBS[name], VIEWERS["mine"])["tiles"]]

    assert status("finishes") == "Finishing"
    assert status("waits for its check").startswith("Waiting for somebody else to check it")
    assert status("is checked") == "Being checked by somebody else before it is shown"
    assert tiles("is checked") == ["Being checked", "Waiting for its check", "Done"]
    assert status("one is checked") == "Step 11 of 16"
    assert tiles("one is checked") == ["Waiting for its check", "Step 3 of 8"]


def compare_peer(page, peer, room, viewer, own, jobs, away=None):
    values = people.peer_slots(peer, room, viewer, own, jobs, Shares.of(jobs), away)
    args = [peer, room, viewer_json(viewer), own, jobs, {"shares": jobs}, away]
    compare(page, "peer", "rooms/peer.html", "peerSlots", args, values)
    return values


def peer_json(**more):
    known = {"id": "p1", "client": "2f3f42b0ef", "owner": False, "worker": None, "status": None}
    return {**known, **more}


def test_peers_are_the_same_for_everybody(page):
    for viewer in VIEWERS.values():
        for owner, own in itertools.product((True, False), ("p1", "p2", None)):
            for worker, away in (
                (None, None), ("t1", {"roundTripMs": None, "mbitPerS": 7.25}),
                ("t1", {"roundTripMs": 12.5, "mbitPerS": 85.04}), ("w2", {"roundTripMs": 0.2}),
            ):  # fmt: skip
                peer = peer_json(owner=owner, worker=worker)
                if owner:
                    peer["name"] = "<b>you</b>"
                compare_peer(page, peer, ROOM, viewer, own, [], away)


def test_what_peers_and_helpers_do_is_the_same(page):
    viewer = VIEWERS["guest"]
    for status in (None, *presence.STATUSES):
        compare_peer(page, peer_json(status=status), ROOM, viewer, None, [])
    helping = {"status": "helping", "worker": "w1"}
    for helps, viewer, at_work in itertools.product(
        ("t1", "gone", None), VIEWERS.values(), (None, HALFWAY)
    ):
        room = {**ROOM, "workers": [{**WORKER, **IDLE, "at_work": at_work}, {**NAMED, **IDLE}]}
        peer = peer_json(**helping, **({"helps": helps} if helps else {}))
        compare_peer(page, peer, room, viewer, None, [job()])
    works = itertools.product((None, *AT_WORK.values()), (None, 0.07, 0.95, 0.0, 12.34))
    for (at_work, seconds), paused in itertools.product(works, (True, False)):
        for jobs in ([], WORKED, [*WORKED, JOBS["halfway"]]):
            one = {**TAB, **IDLE, "at_work": at_work, "seconds_a_step": seconds}
            room = {**ROOM, "paused": paused, "workers": [one]}
            compare_peer(page, peer_json(worker="t1"), room, viewer, "p1", jobs, {"roundTripMs": 3})
    for lacks in ({"encode": 1}, {"encode": 1, "decode": 2**20}, {"denoise": 2**21, "decode": 99}):
        room = {**ROOM, "workers": [{**TAB, **IDLE, "lacks": lacks}]}
        compare_peer(page, peer_json(worker="t1"), room, viewer, "p1", [])
    for state, worker in itertools.product(("loading", "ready", "gone"), (WORKER, NAMELESS)):
        one = {**worker, **IDLE, "state": state}
        for jobs, paused in itertools.product(([], WORKED), (True, False)):
            values = people.helper_slots(one, jobs, Shares.of(jobs), paused)
            args = [one, jobs, {"shares": jobs}, paused]
            compare(page, "helper", "rooms/helper.html", "helperSlots", args, values)


def test_peers_say_what_they_do_and_how_much_of_it():
    one = {**TAB, **IDLE, "at_work": HALFWAY, "seconds_a_step": 1.26}
    room = {**ROOM, "workers": [one]}
    jobs = [*WORKED, JOBS["halfway"]]
    way = {"roundTripMs": 41.6, "mbitPerS": 85.04}
    args = (peer_json(worker="t1"), room, VIEWERS["guest"], "p2", jobs, Shares.of(jobs), way)
    said = people.peer_slots(*args)
    assert said["doing"].startswith("computing steps 2 to 8 of “<b>bold</b>")
    assert said["doing"].endswith("…”, picture 3")
    assert said["facts"] == (
        "<Some> GPU · 1.3 s a step · 44 % of the steps of the last 2 pictures"
        " · 42 ms away, 85 Mbit/s"
    )
    quick = {**ROOM, "workers": [{**one, "seconds_a_step": 0.05, "lacks": {"decode": 1024 * 1056}}]}
    said = people.peer_slots(
        peer_json(worker="t1"), quick, VIEWERS["mine"], "p1", [], Shares(), way
    )
    assert said["facts"] == (
        "<Some> GPU · 20 steps a second · too little memory for 1039 px · 42 ms to the server"
    )


def test_who_helps_another_one_is_said_while_it_has_no_chunk_of_its_own():
    def doing(viewer="guest", at_work=None, **more):
        room = {**ROOM, "workers": [{**WORKER, **IDLE, "at_work": at_work}, {**TAB, **IDLE}]}
        peer = peer_json(worker="w1", status="helping", **more)
        return people.peer_slots(peer, room, VIEWERS[viewer], None, [], Shares())["doing"]

    assert doing(helps="t1") == "helping tab of guest 2f3f42 with its picture"
    assert doing("mine", helps="t1") == "helping your tab with its picture"
    assert doing(helps="gone") == doing() == "helping another tab with its picture"
    assert doing(helps="t1", at_work=HALFWAY).startswith("computing steps")
    away = people.peer_slots(peer_json(status="away"), ROOM, VIEWERS["guest"], None, [], Shares())[
        "doing"
    ]
    assert away == "computing for the exported pages of this room"


def test_shares_are_of_the_newest_pictures_alone():
    many = [
        job("done", [image(0, "done", 8, **DONE, steps_by={who: 8})], id=f"{number:02}")
        for number, who in enumerate(["old"] * 5 + ["one"] * 15 + ["two"] * 5)
    ]
    shares = Shares.of(many)
    assert shares.words("one") == "75 % of the steps of the last 20 pictures"
    assert shares.words("two") == "25 % of the steps of the last 20 pictures"
    assert shares.words("old") is None
    half = job("done", [image(0, "done", 8, **DONE, steps_by={"one": 7, "two": 0.5})])
    assert Shares.of([half]).words("two") == "7 % of the steps of the last picture"


def entry(kind="denoise", worker=TAB, began=0.0, ended=1.0, **more):
    known = {
        "kind": kind, "outcome": "done", "start": 0, "stop": 0, "worker": worker,
        "began_at": f"2026-01-01T00:00:{began:09.6f}+00:00",
        "ended_at": None if ended is None else f"2026-01-01T00:00:{ended:09.6f}+00:00",
        "seconds": 1.0, "attempt": 0, "chunks": 1, "received": 0, "sent": 0, "fault": None,
        "partners": [],
    }  # fmt: skip
    return {**known, **more}


def partner(how, worker, steps=0, received=0, sent=0):
    return {"worker": worker, "how": how, "steps": steps, "received": received, "sent": sent}


ENTRIES = [
    entry("encode", WORKER, 0, 0.5),
    entry("encode", TAB, 0.25, 0.2512345, received=999_400, sent=999_600),
    entry(start=0, stop=1, outcome="failed", fault={"code": "x", "detail": "Lost <it>."}),
    entry(start=1, stop=8, began=1.5, ended=7.1234567, worker=WORKER, attempt=1, chunks=3),
    entry(start=8, stop=8, began=8, ended=9, worker=NAMELESS, outcome="returned"),
    entry(start=8, stop=10, began=9, ended=12, received=12_345_678, sent=1200),
    entry("decode", TAB, 12, 12.0004, partners=[partner("band", TAB, sent=1_200_000)]),
    entry(
        start=10,
        stop=12,
        began=12,
        ended=13,
        partners=[
            partner("half", NAMED, 3, 1000, 500),
            partner("half", NAMELESS, 1),
            partner("gave", TAB, received=65_536),
        ],
    ),
]
RUNNING = [
    entry(start=10, stop=10, began=12, ended=None, outcome="running"),
    entry(start=10, stop=12, began=12.5, ended=None, outcome="running", worker=WORKER),
    entry("encode", began=0, ended=None, outcome="running"),
]


def check(verdict="agreed", kind="denoise", checker=WORKER, distance=None, limit=0.0025, **more):
    known = {
        "kind": kind, "start": 0, "stop": 0, "worker": TAB, "checker": checker, "checks": 1,
        "verdict": verdict, "done_again": False, "distance": distance,
        "limit": None if distance is None else limit, "at": "2026-01-01T00:00:03+00:00",
    }  # fmt: skip
    return {**known, **more}


CHECKS = [
    check(kind="encode", distance=0.0),
    check(start=0, stop=1, distance=0.00123456, limit=0.02, checks=3),
    check("disputed", start=1, stop=8, checker=NAMED, distance=0.125, limit=0.6),
    check("wrong", start=1, stop=8, distance=1.0, done_again=True),
    check("wrong", kind="decode", distance=1e9),
    check("unsaid", start=8, stop=10, checker=None),
    check("waiting", start=8, stop=10, checker=None, at=None),
    check("waiting", kind="decode", at=None),
]


def test_what_checks_found_is_the_same(page):
    far = [check(start=0, stop=2, distance=10.0**power * 1.25) for power in range(-8, 3)]
    for checks, viewer in itertools.product(([], CHECKS, far), VIEWERS.values()):
        timeline = {"entries": ENTRIES, "checks": checks}
        args = [timeline, viewer_json(viewer)]
        values = making.timeline_slots(timeline, viewer)
        compare(page, "timeline", "queue/timeline.html", "timelineSlots", args, values)


def test_what_checks_found_is_said_in_words():
    timeline = making.timeline_slots({"entries": ENTRIES, "checks": CHECKS}, VIEWERS["guest"])
    assert timeline["summary"] == "2 workers, 13 s in all, 2 interruptions, 8 checks"
    tab = "tab of guest 2f3f42 · <Some> GPU"
    again = "Computed again by server · cpu"
    assert [(one["verdict"], one["what"], one["found"]) for one in timeline["checks"]] == [
        ("agreed", f"The prompt of {tab}",
         f"{again}: alike, less than 0.001 % apart, and 0.25 % is allowed."),
        ("agreed", f"Step 1 of {tab}", f"{again}: alike, 0.12 % apart, and 2 % is allowed."),
        ("disputed", f"Steps 2 to 8 of {tab}",
         "Computed again by tab of Bob <3 (guest 2f3f42) · <Some> GPU: another result, 13 % apart,"
         " and 60 % is allowed. Somebody else decides."),
        ("wrong", f"Steps 2 to 8 of {tab}",
         f"{again}: wrong, 100 % apart, and 0.25 % is allowed. It was made again."),
        ("wrong", f"The picture of {tab}",
         f"{again}: wrong, far more than all of it apart, and 0.25 % is allowed."
         " The picture was finished before."),
        ("unsaid", f"Steps 9 to 10 of {tab}", "Nobody could check it."),
        ("waiting", f"Steps 9 to 10 of {tab}", "Waits for somebody to check it."),
        ("waiting", f"The picture of {tab}", "server · cpu computes it again."),
    ]  # fmt: skip


def test_how_a_picture_was_made_is_the_same(page):
    some = [[], ENTRIES, *([*ENTRIES[:count], one] for one in RUNNING for count in (0, 1, 6))]
    some += [[one] for one in ENTRIES]
    for entries, viewer in itertools.product(some, VIEWERS.values()):
        timeline = {"entries": entries, "checks": []}
        args = [timeline, viewer_json(viewer)]
        values = making.timeline_slots(timeline, viewer)
        compare(page, "timeline", "queue/timeline.html", "timelineSlots", args, values)


def test_how_a_picture_was_made_is_said_in_words():
    timeline = making.timeline_slots({"entries": ENTRIES, "checks": []}, VIEWERS["guest"])
    assert timeline["summary"] == "2 workers, 13 s in all, 2 interruptions"
    said = [(one["what"], one["who"], one["when"], one["said"]) for one in timeline["entries"]]
    assert said[0] == ("Read the prompt", "server · cpu", "after 0 s · for 0.5 s", None)
    tab = "tab of guest 2f3f42 · <Some> GPU"
    kernels = "kernels baseline"
    assert said[2] == ("Step 1", tab, f"after 0 s · for 1 s · {kernels}", "Lost <it>.")
    assert said[3] == (
        "Steps 2 to 8", "server · cpu", "after 1.5 s · for 5.6 s · 3 chunks",
        f"Attempt 2. Took over from {tab}.",
    )  # fmt: skip
    assert said[4][0] == "No step"
    assert said[4][3] == "It gave the rest back unharmed."
    assert said[5][2] == f"after 9 s · for 3 s · 12.3 MB received · 1 kB sent · {kernels}"
    assert said[6][3] == f"With {tab}: a part of the picture, 1.2 MB exchanged."
    assert said[7][3] == (
        "With tab of Bob <3 (guest 2f3f42) · <Some> GPU: half of 3 steps, 2 kB exchanged."
        f" With server: half of 1 step, 0 kB exchanged. 66 kB came directly from {tab}."
    )
    bars = [(int(one["x"]), int(one["width"])) for one in timeline["entries"]]
    assert all(x >= 0 and width >= making.NARROWEST and x + width <= 1000 for x, width in bars)


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


def test_tabs_are_among_the_peers_and_not_among_the_helpers(page):
    call = """async (room) => {
      const { helpersOf, sharesOf } = await import('page/people.js');
      return helpersOf(room, [], sharesOf([]));
    }"""
    found = people.helpers_of(ROOM, [], Shares())
    assert page.evaluate(call, ROOM) == found
    assert [entry["id"] for entry in found] == ["helper-w1"]


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
