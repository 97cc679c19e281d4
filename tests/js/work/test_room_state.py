"""The state of a room that somebody else sends: read whole, or refused and nothing changes."""

import pytest

from tests.js.work.hosting import run

__all__ = ["run"]

# `state` is a real one, of a room in which somebody draws; `refused(take)` is what was thrown
ROOM = """
const { Replica } = await import('/static/js/work/replica.js');
const { readState } = await import('/static/js/work/room-state.js');
const host = await open();
const tab = await worker(host, BOB);
const { job } = await tab.asks('job.submit', asked());
await tab.worksUntil('decode');
const state = JSON.parse(JSON.stringify(host.state()));
const refused = async (take) => { try { await take(); return null; } catch (error) {
  return `${error.name}: ${error.message}`; } };
"""

WRONG = [
    ("bad = null", "SnapshotError: a room's state: not an object"),
    ("bad.version = 3", "RangeError: This room is one of another version of this page"),
    ("bad.queue = {}", "SnapshotError: a snapshot: not an object of format"),
    ("bad.queue.room = 'cellar'", "SnapshotError: a room's state: not a state of this room"),
    ("bad.about.title = 'x'.repeat(500)", "SnapshotError: a room's state: about.title: not a text"),
    ("bad.about.owner = { toString: 1 }", "SnapshotError: a room's state: about.owner"),
    ("bad.queue.jobs[0].conditioning = '../x'", "not files named by their SHA-256"),
    ("bad.queue.jobs[0].settings.width = 4096", "not settings that a room allows"),
    ("bad.queue.jobs[0].settings.prompt = 'x'.repeat(5000)", "not prompts of a room"),
    ("bad.queue.jobs[0].images[0].step = 'x'", "jobs[0].images[0].step: not a whole number"),
]


@pytest.mark.parametrize(("change", "says"), WRONG)
def test_what_is_no_state_of_this_room_is_refused_and_changes_nothing(run, change, says):
    said, unchanged, asked_for, kept = run(
        ROOM
        + f"""let bad = structuredClone(state);
        {change};
        const asked_for = [];
        const fetchBlob = async (name) => {{ asked_for.push(name); throw new Error('none'); }};
        const before = JSON.stringify(host.state());
        const replica = new Replica({{ room: 'kitchen', blobs: host.blobs, keeper: null, timers }});
        replica.take(state, 3, null);
        const said = [await refused(() => host.merge(bad, fetchBlob)),
                      await refused(() => replica.take(bad, 4, fetchBlob)),
                      await refused(() => RoomHost.restore(bad ?? {{}},
                        {{ room: 'kitchen', models: [], now, timers }}))];
        return [said, before === JSON.stringify(host.state()), asked_for,
                [replica.term, replica.state === state]];"""
    )
    assert all(says in one for one in said[:2])
    assert said[2] is not None
    assert unchanged
    assert asked_for == []
    assert kept == [3, True]


def test_a_copy_comes_with_a_term_that_claims_know(run):
    said = run(
        ROOM
        + """const options = { room: 'kitchen', blobs: host.blobs, keeper: null, timers };
        const replica = new Replica(options);
        const said = [];
        for (const term of [undefined, '3', -1, 0.5, 2 ** 31, NaN, 0, 7]) {
          said.push(await refused(() => replica.take(state, term, null)));
        }
        return [said, replica.term];"""
    )
    assert said == [["SnapshotError: a room without a term"] * 6 + [None, None], 7]


def test_what_is_read_once_is_what_is_taken_whatever_becomes_of_it_meanwhile(run):
    result = run(
        ROOM
        + """const other = await open();
        const theirs = structuredClone(state);
        let looked = 0;
        Object.defineProperty(theirs, 'queue', { get: () => { looked += 1; return state.queue; },
          enumerable: true });
        await other.merge(theirs, async (name) => {
          state.queue.jobs.length = 0; // while files are on their way
          return host.blobs.get(name);
        });
        const shown = other.queue.jobs().map(({ id }) => id === job.id);
        return [shown, looked, [...other.queue.blobs()].every((name) => other.blobs.has(name))];"""
    )
    assert result == [[True], 1, True]
