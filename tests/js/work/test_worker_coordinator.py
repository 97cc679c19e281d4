"""A room without a server in several tabs: one queue, wherever it lies, that outlives any tab."""

import time

import pytest

from tests.js.room.conftest import bare_relay, relay, rtc_chromium, tabs
from tests.js.room.tabs import Tabs
from tests.js.work.sharing import Member, kill, member, picture, settled
from tests.relay import BareRelay

__all__ = ["bare_relay", "relay", "rtc_chromium", "tabs"]


def three(tabs: Tabs, relay: BareRelay, *, step_ms: int) -> tuple[Member, list[Member]]:
    """Tabs that share a queue: its holder and the other two."""
    everybody = [member(tabs, relay, client, stepMs=step_ms) for client in "abc"]
    holder = settled(*everybody)
    return holder, [one for one in everybody if one is not holder]


def test_what_one_tab_asks_for_another_one_computes(tabs: Tabs, relay: BareRelay) -> None:
    ann = member(tabs, relay, "a")
    bob = member(tabs, relay, "b", computes=False)
    settled(ann, bob)
    bob.asks(5)
    for one in (ann, bob):
        one.has(5)
    assert (ann.steps(), bob.steps()) == (4, 0)
    worker = bob.page.evaluate("room.jobs[0].images[0].worker")
    assert worker["device"] == "Test GPU"


def test_the_images_of_a_job_are_shared_out(tabs: Tabs, relay: BareRelay) -> None:
    ann = member(tabs, relay, "a", stepMs=150)
    bob = member(tabs, relay, "b", stepMs=150)
    settled(ann, bob)
    bob.asks(10, images=4)
    for one in (ann, bob):
        one.has(10, 11, 12, 13)
    assert ann.steps() + bob.steps() == 16
    assert min(ann.steps(), bob.steps()) >= 4


def test_what_each_had_before_they_met_is_in_the_one_queue(tabs: Tabs, relay: BareRelay) -> None:
    ann = member(tabs, None, "a")
    bob = member(tabs, None, "b", computes=False)
    ann.asks(1)
    ann.has(1)
    bob.asks(2)
    for one in (ann, bob):
        one.page.evaluate(
            "(relay) => coordinator.join(network, { relays: [relay], iceServers: [] })", relay.url
        )
    settled(ann, bob)
    for one in (ann, bob):
        one.has(1, 2)


@pytest.mark.parametrize("how", ["crash", "close"])
def test_the_queue_outlives_its_holder(tabs: Tabs, relay: BareRelay, how: str) -> None:
    holder, others = three(tabs, relay, step_ms=200)
    others[0].asks(20, steps=30)
    others[0].waits("room.jobs[0]?.images[0].step >= 14")
    if how == "crash":
        kill(holder)
    else:
        holder.page.close(run_before_unload=True)
    settled(*others, seconds=30)
    for one in others:
        one.has(20, steps=30, seconds=20)
    assert sum(one.steps() for one in others) < 30  # it went on, and did not begin anew


def test_a_phone_holds_the_queue_only_where_nobody_else_can(tabs: Tabs, relay: BareRelay) -> None:
    phones = [member(tabs, relay, client, capable=False, computes=False) for client in "ab"]
    desk = member(tabs, relay, "c")
    holder = settled(*phones, desk)
    desk.asks(25)
    desk.has(25)
    if holder is desk:
        kill(desk)
        settled(*phones, seconds=30)
    else:  # one that came before it is not asked to give up what it holds
        kill(holder)
        [other] = [phone for phone in phones if phone is not holder]
        assert settled(other, desk, seconds=30) is desk
    for phone in phones:
        if phone is not holder:
            phone.has(25)


def test_what_was_answered_outlives_a_holder_that_goes_at_once(
    tabs: Tabs, relay: BareRelay
) -> None:
    holder, others = three(tabs, relay, step_ms=20)
    for seed in (21, 22):  # the first has sent out copies, so the next are not due for a while
        others[0].asks(seed)
    kill(holder)
    settled(*others, seconds=30)
    for one in others:
        one.has(21, 22)


def before_files_are_kept(members: list[Member], script: str) -> None:
    """JavaScript that their tabs run before they keep a file that somebody else has."""
    for one in members:
        one.page.evaluate(
            """async () => {
              const { Blobs } = await import('work/blobs.js');
              const { adopt } = Blobs.prototype;
              Blobs.prototype.adopt = async function (...blob) {
                SCRIPT
                return adopt.apply(this, blob);
              };
            }""".replace("SCRIPT", script)
        )


# Copies of the room's state come, but none of the files that they name.
NO_FILES = "if (!window.copies) throw new RangeError('not now');"


@pytest.mark.parametrize("done", [3, 14, 20])  # of 20: without a latent, with some, with all
def test_nothing_is_lost_when_the_holder_had_the_only_copy_of_every_file(
    tabs: Tabs, relay: BareRelay, done: int
) -> None:
    holder, others = three(tabs, relay, step_ms=200)
    before_files_are_kept(others, NO_FILES)
    others[0].asks(23, steps=20)
    others[0].waits(f"room.jobs[0]?.images[0].step >= {done}")
    kill(holder)
    settled(*others, seconds=30)
    for one in others:
        one.waits("room.jobs[0].images[0].url", 40)
    assert others[0].page.evaluate("room.jobs[0].state") == "done"


def test_a_picture_that_is_said_to_be_done_is_not_with_its_holder_alone(
    tabs: Tabs, relay: BareRelay
) -> None:
    holder, others = three(tabs, relay, step_ms=20)
    before_files_are_kept(others, "await new Promise((go) => setTimeout(go, 1000));")
    others[0].asks(26)
    others[0].waits("room.jobs[0]?.images[0].url", 30)
    kill(holder)
    settled(*others, seconds=30)
    for one in others:
        one.has(26)


def test_what_the_new_holder_lacks_is_brought_by_the_others(tabs: Tabs, relay: BareRelay) -> None:
    holder, others = three(tabs, relay, step_ms=200)
    others.sort(key=lambda one: str(one.page.evaluate("network.id")))
    successor, other = others
    before_files_are_kept([successor], NO_FILES)
    other.asks(24, steps=30)
    other.waits("room.jobs[0]?.images[0].step >= 14")
    time.sleep(0.5)  # until it has what a copy of the state named
    successor.page.evaluate("window.copies = true")
    kill(holder)
    assert settled(*others, seconds=30) is successor
    for one in others:
        one.waits("room.jobs[0].images[0].url", 40)
    began = "leases.filter(({ kind, start }) => kind === 'encode' || start === 0).length"
    assert sum(one.page.evaluate(began) for one in others) <= 2  # nothing once more


def test_a_worker_that_crashes_costs_a_chunk_and_nothing_else(tabs: Tabs, relay: BareRelay) -> None:
    ann = member(tabs, relay, "a", computes=False)
    bob = member(tabs, relay, "b", computes=False)
    settled(ann, bob)  # who comes into a room of two does not hold its queue
    cid = member(tabs, relay, "c", stepMs=200)
    assert settled(ann, bob, cid) is not cid
    ann.asks(30, steps=20)
    ann.waits("room.jobs[0]?.images[0].step >= 5")
    kill(cid)
    dee = member(tabs, relay, "d", stepMs=20)
    ann.has(30, steps=20, seconds=40)
    assert dee.steps() < 20


def test_when_all_have_left_the_room_is_there_again_with_whoever_comes_back(
    tabs: Tabs, relay: BareRelay
) -> None:
    ann = member(tabs, relay, "a", stepMs=100)
    bob = member(tabs, relay, "b", stepMs=100)
    settled(ann, bob)
    bob.asks(40)
    bob.has(40)
    bob.asks(41, steps=40)
    bob.waits("room.jobs.at(-1).images[0].step >= 25")
    for one in (ann, bob):
        one.page.evaluate("coordinator.stop()")
        one.page.goto("about:blank")
    bob.page.goto(tabs.url)
    back = member(tabs, relay, "b", page=bob.page, stepMs=10)
    back.waits("room.jobs.length === 2")
    back.waits("room.jobs.every(({ state }) => state === 'done')")
    assert back.pictures() == {40: picture(40, 4), 41: picture(41, 40)}
    assert back.steps() < 40


def test_a_picture_that_is_shown_is_kept_by_the_browser_of_whoever_follows(
    tabs: Tabs, relay: BareRelay
) -> None:
    ann = member(tabs, relay, "a")
    bob = member(tabs, relay, "b")
    holder = settled(ann, bob)
    follower, client = (bob, "b") if holder is ann else (ann, "a")
    for seed in (42, 43):  # the first is written down; what is written soon would wait a while
        follower.asks(seed)
    follower.has(42, 43)
    time.sleep(0.5)
    follower.page.goto("about:blank")
    kill(holder)
    follower.page.goto(tabs.url)
    back = member(tabs, None, client, page=follower.page, computes=False)
    back.has(42, 43)


def test_what_is_no_state_of_the_room_is_refused_and_the_room_goes_on(
    tabs: Tabs, relay: BareRelay
) -> None:
    ann = member(tabs, relay, "a")
    bob = member(tabs, relay, "b", computes=False)
    holder = settled(ann, bob)
    guest = bob if holder is ann else ann
    bob.asks(5)
    for one in (ann, bob):
        one.has(5)
    said = guest.page.evaluate(
        """async () => {
          const { Link } = await import('room/link.js');
          const link = new Link(await network.peers[0].openChannel('queue'), {});
          const copy = (change) => {
            const state = { version: 1, about: { owner: null, title: '', revision: 0 },
              queue: { format: 1, room: 'kitchen', holder: '', revision: 0, paused: false, turn: 0,
                number: 0, newestJobAt: 0, turns: {}, jobs: [], chunks: [], workers: [],
                gone: [] } };
            change(state);
            return state;
          };
          const tries = [() => {}, (it) => { it.queue.room = 'cellar'; },
            (it) => { it.version = 9; }, (it) => { it.queue.jobs = [{}]; },
            (it) => { it.queue.chunks = 'all'; }, (it) => { it.about.title = 7; }];
          const said = [];
          for (const change of tries) {
            said.push(await link.request({ type: 'queue.merge', state: copy(change) })
              .then(() => 'taken', ({ code }) => code));
          }
          said.push(await link.request({ type: 'queue.merge' }).then(() => 'taken',
            ({ code }) => code));
          link.close();
          return said;
        }"""
    )
    assert said == ["taken"] + ["bad-state"] * 6
    bob.asks(6)
    for one in (ann, bob):
        one.has(5, 6)
        assert one.page.evaluate("troubles") == []
