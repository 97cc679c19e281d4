"""Copies of a queue that come from elsewhere: taken whole, or refused with a typed error.

FUZZED=100000 in the environment tampers with so many.
"""

import os

import pytest

FUZZED = int(os.environ.get("FUZZED", "1500"))
A_CALL = 250

SCENE = """
const { RoomQueue } = await module('room-queue.js');
const { checkedSnapshot, SnapshotError } = await module('snapshot-check.js');
const queue = new RoomQueue({ room: 'kitchen', holder: 'm', now: () => 1e12 });
const request = { prompt: 'a rocket', model: 'tiny', width: 64, height: 64, steps: 4, guidance: 4,
                  seed: 5, num_images: 2 };
queue.arrive({ id: 'one', client: 'bob', name: 'tab', device: 'gpu', models: ['tiny'] });
queue.submit(request, { client: 'alice', id: 'first' });
queue.complete(queue.claim('one'), 'texts', 0);
const lease = queue.claim('one');
queue.checkpoint(lease, 1, { latent: 'a', preview: 'b' });
const copy = JSON.parse(JSON.stringify(queue.snapshot()));
copy.jobs[0].images[0].checked = [{ kind: 'denoise', start: 0, stop: 1, worker: 'one',
  checker: 'two', verdict: 'agreed', again: false, distance: 0.1, limit: 0.2, at: 1, checks: 1 }];
const refusal = (take) => { try { take(); return null; } catch (error) {
  if (!(error instanceof SnapshotError)) throw error;
  return error.message; } };
"""


def test_whatever_is_changed_in_a_copy_it_is_refused_or_a_queue_that_goes_on(run):
    taken = {"restored": 0, "merged": 0}
    for first in range(0, FUZZED, A_CALL):
        counted = run(
            """const { fuzz } = await module('./fuzz.js');
               const counted = { restored: 0, merged: 0 };
               for (let seed = args[0]; seed < args[0] + args[1]; seed++) {
                 const { restored, merged } = fuzz(seed);
                 counted.restored += restored;
                 counted.merged += merged;
               }
               return counted;""",
            first,
            min(A_CALL, FUZZED - first),
        )
        for name in taken:
            taken[name] += counted[name]
    for name, number in taken.items():  # both happen, and often
        assert FUZZED / 20 <= number <= FUZZED * 0.9, (name, taken)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("delete bad.turns", "a snapshot: not an object of format, room"),
        ("bad.more = 1", "a snapshot: not an object of format, room"),
        ("bad.jobs[0].images[1].step = -1", "jobs[0].images[1].step: not a whole number of 0"),
        ("bad.jobs[0].images[0].checkpoints[0].latent = {}", "checkpoints[0].latent: not a text"),
        ("bad.jobs.push(bad.jobs[0])", "not a job of its own id"),
        ("bad.jobs = Array(2 ** 15).fill(bad.jobs[0])", "jobs: not a list of at most 16384"),
        ("bad.jobs[0].settings.prompt = 'x'.repeat(9000)", "settings.prompt: not a text of 0"),
        ("bad.jobs[0].createdAt = 1e15", "jobs[0].createdAt: not a number of 0"),
        ("bad.chunks.pop()", "not a chunk for every image that is not done"),
        ("bad.chunks[0].job = 'nobody'", "not a chunk of a job that is there"),
        ("bad.chunks[0].worker = 'nobody'", "not a lease of a worker that is there"),
        ("bad.chunks[1].stop = 5", "not a range of its steps"),
        ("bad.chunks[1].kind = 'decode'", "not a decoding without steps"),
        ("bad.jobs[0].state = 'done'", "not a job that ends with its images"),
        ("bad.workers[0].speeds = { x: 1 }", "workers[0].speeds[0]: not a name of speedKey"),
        ("bad.turns = { alice: 99 }", "not turns that have been"),
        ("bad.jobs[0].images[0].checked[0].stop = 5", "not checks of its steps"),
        ("bad.jobs[0].images[0].checked[0].checker = null", "not checks of its steps"),
        ("bad.jobs[0].images[0].checked[0].verdict = 'right'", "checked[0].verdict: not one of"),
        (
            "bad.jobs[0].images[0].checked = Array(65).fill(bad.jobs[0].images[0].checked[0])",
            "checked: not a list of at most 64",
        ),
    ],
)
def test_what_is_wrong_is_said_without_a_word_of_whoever_sent_it(run, change, says):
    told = run(
        SCENE
        + f"""const bad = structuredClone(copy);
        {change};
        return [refusal(() => checkedSnapshot(copy)),
                refusal(() => RoomQueue.restore(bad, {{ now: () => 1e12 }}))];"""
    )
    assert told[0] is None
    assert says in told[1]
    assert "nobody" not in told[1]


def test_what_comes_out_is_what_went_in_and_names_mean_nothing_by_themselves(run):
    result = run(
        SCENE
        + """const evil = { ...copy, turns: JSON.parse('{"__proto__": 1, "constructor": 1}') };
        const clean = checkedSnapshot(evil);
        const named = RoomQueue.restore(evil, { now: () => 1e12 });
        named.submit(request, { client: 'constructor', id: 'second' });
        named.submit(request, { client: '__proto__', id: 'third' });
        const { turns } = named.snapshot();
        return [Object.keys(clean.turns), Object.getPrototypeOf(clean.turns) === null,
                Object.keys(turns), named.jobs().length, Object.keys(Object.prototype)];"""
    )
    names = ["__proto__", "constructor"]
    assert result == [names, True, names, 3, []]


def test_a_merge_takes_no_name_from_what_is_here_and_no_more_than_a_queue_holds(run):
    result = run(
        SCENE
        + """const before = JSON.stringify(queue.snapshot());
        const with_ = (change) => { const bad = structuredClone(copy); change(bad); return bad; };
        const many = (length) => Array.from({ length }, (_, i) => [`gone${i}`,
          { revision: 0, removed: [] }]);
        queue.merge({ ...copy, gone: [] });
        const said = [
          (bad) => { bad.room = 'cellar'; },
          (bad) => { bad.jobs[0].settings.width = 128; },
          (bad) => {
            bad.jobs[0].id = 'other';
            for (const chunk of bad.chunks) chunk.job = 'other';
          },
        ].map((change) => refusal(() => queue.merge(with_(change))));
        const jobs = Array.from({ length: 2 ** 14 }, (_, i) => ({ ...copy.jobs[0], id: `j${i}`,
          state: 'cancelled', finishedAt: 1, conditioning: null, images: [] }));
        said.push(refusal(() => queue.merge({ ...copy, chunks: [], jobs })));
        return said;"""
    )
    assert result == [
        "a snapshot of another room",
        "a snapshot: another job by the name of one that is here",
        "a snapshot: another chunk by the name of one that is here",
        "a snapshot: together more than 16384 jobs",
    ]
