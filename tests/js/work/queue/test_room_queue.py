"""What RoomQueue does beside the histories that it shares with the database."""

import pytest

SCENE = """
const { RoomQueue } = await module('room-queue.js');
let now = 1e12;
const queue = new RoomQueue({ room: 'kitchen', holder: 'm', now: () => now });
const request = { prompt: 'a rocket', negative_prompt: '', model: 'tiny', width: 64, height: 64,
                  steps: 4, guidance: 4, seed: 5, num_images: 1 };
const by = (id) => ({ client: 'alice', id });
const tab = (id) => ({ id, client: 'bob', name: `tab ${id}`, device: 'gpu', models: ['tiny'] });
const refusal = (call) => { try { call(); return null; } catch (error) {
  return error.code ?? error.name; } };
const finish = (worker) => {
  for (let lease; (lease = queue.claim(worker));) {
    now += 100;
    queue.complete(lease, `${lease.kind} ${now}`, 0.05);
  }
};
"""


@pytest.mark.parametrize(
    "change",
    ["prompt: 7", "model: ''", "width: 0", "height: 64.5", "steps: 0", "steps: '8'",
     "guidance: NaN", "seed: -1", "seed: 2 ** 32", "num_images: 0", "num_images: 1e9",
     "negative_prompt: null"],
)  # fmt: skip
def test_what_would_break_the_queue_is_refused_and_changes_nothing(run, change):
    body = f"""queue.submit(request, by('first'));
        const before = JSON.stringify(queue.snapshot());
        const code = refusal(() => queue.submit({{ ...request, {change} }}, by('second')));
        return [code, before === JSON.stringify(queue.snapshot())];"""
    assert run(SCENE + body) == ["bad-request", True]


def test_a_job_has_an_id_of_its_own_and_somebody_whose_it_is(run):
    codes = run(
        SCENE
        + """queue.submit(request, by('first'));
        queue.cancel('first');
        return [by('first'), { client: 'alice' }, { client: '', id: 'x' }].map(
          (whose) => refusal(() => queue.submit(request, whose)));"""
    )
    assert codes == ["known-job", "bad-request", "bad-request"]


def test_jobs_of_one_moment_keep_their_order_and_seeds_come_from_the_caller(run):
    result = run(
        SCENE
        + """const { seed, ...without } = request;
        for (const id of ['z', 'b', 'a']) queue.submit(without, { ...by(id), seed: 2 ** 32 - 1 });
        const jobs = queue.jobs();
        return [jobs.map(({ id }) => id), jobs.map(({ position }) => position), jobs[0].seed,
                new Set(jobs.map((job) => job.created_at)).size];"""
    )
    assert result == [["z", "b", "a"], [1, 2, 3], 2**32 - 1, 3]


def test_a_job_is_shown_with_the_members_that_the_site_has(run):
    from genqueue.shapes import ImageJson, JobJson, RoomWorkerJson

    job, worker = run(
        SCENE
        + """queue.arrive(tab('one'));
        queue.submit(request, by('first'));
        finish('one');
        return [queue.jobs()[0], queue.workers()[0]];"""
    )
    assert set(job) == set(JobJson.__annotations__)
    assert set(job["images"][0]) == set(ImageJson.__annotations__)
    assert set(worker) == set(RoomWorkerJson.__annotations__)
    assert job["state"] == "done"
    assert job["images"][0]["seconds"] > 0


def test_of_what_has_ended_no_more_need_be_told_than_are_shown(run):
    shown = run(
        SCENE
        + """queue.arrive(tab('one'));
        for (const id of ['a', 'b', 'c', 'd']) { queue.submit(request, by(id)); finish('one'); }
        queue.submit(request, by('e'));
        queue.submit(request, by('f'));
        queue.cancel('e');
        const told = (most) => queue.jobs(most).map(({ id }) => id).join('');
        return [Infinity, 5, 4, 2, 0].map(told);"""
    )
    assert shown == ["abcdf", "abcdf", "abcdf", "cdf", "f"]


def test_who_was_left_nothing_is_told_when_to_ask_again(run):
    result = run(
        SCENE
        + """for (const id of ['one', 'two']) queue.arrive(tab(id));
        queue.submit(request, by('first'));
        queue.complete(queue.claim('one'), 'texts', 1);
        const none = queue.claim('two');
        const wait = queue.claimAgainAt('two') - now;
        now += wait - 1;
        const early = queue.claim('two');
        now += 1;
        return [none, wait, early, queue.claim('two').kind, queue.claimAgainAt('two')];"""
    )
    assert result == [None, 2001, None, "denoise", None]


def test_a_worker_that_fell_silent_is_not_there_until_it_is_heard_of(run):
    result = run(
        SCENE
        + """queue.arrive(tab('one'));
        queue.submit(request, by('first'));
        queue.claim('one');
        const shown = [queue.workers().length];
        now += 30_001;
        shown.push(queue.sweep(), queue.workers().length);
        const lease = queue.claim('one');
        shown.push(queue.workers().length, lease.attempt);
        now += 3_600_000; // the holder slept
        queue.awoke();
        return [...shown, queue.sweep(), queue.holds(lease)];"""
    )
    assert result == [1, 1, 0, 1, 1, 0, True]


def test_a_copy_shares_nothing_with_the_queue_and_a_broken_one_is_refused(run):
    result = run(
        SCENE
        + """queue.arrive(tab('one'));
        queue.submit(request, by('first'));
        const lease = queue.claim('one');
        const copy = queue.snapshot();
        const before = JSON.stringify(copy);
        queue.complete(lease, 'texts', 1);
        finish('one');
        const same = before === JSON.stringify(copy);
        const next = RoomQueue.restore(copy, { now: () => now });
        const unchanged = before === JSON.stringify(copy);
        const away = [next.claim('one'), refusal(() => next.renew(lease)), next.workers().length];
        next.arrive(tab('one'));
        const options = { now: () => now };
        const chunks = [{ ...copy.chunks[0], job: 'nobody' }];
        return [same, unchanged, away, next.claim('one').attempt,
                refusal(() => RoomQueue.restore({}, options)),
                refusal(() => RoomQueue.restore({ ...copy, chunks }, options)),
                refusal(() => queue.merge({ ...copy, room: 'cellar' }))];"""
    )
    assert result == [
        True, True, [None, "lost", 0], 1, "SnapshotError", "SnapshotError", "SnapshotError",
    ]  # fmt: skip


def test_only_blobs_of_pictures_and_of_what_goes_on_are_needed(run):
    result = run(
        SCENE
        + """queue.arrive(tab('one'));
        queue.submit({ ...request, steps: 8 }, by('first'));
        const needed = [];
        const look = () => needed.push([...queue.blobs()].sort().join(' '));
        queue.complete(queue.claim('one'), 'texts', 1);
        look();
        const lease = queue.claim('one');
        queue.checkpoint(lease, 1, { latent: 'one', preview: 'small' });
        queue.checkpoint(lease, 2, { latent: 'two', preview: 'smaller' });
        look();
        now += 200;
        queue.complete(lease, 'three', 0.1);
        look();
        finish('one');
        queue.remove('first', 0);
        look();
        return needed;"""
    )
    assert result == ["texts", "one smaller texts two", "one smaller texts three", ""]


def test_workers_that_nobody_names_are_forgotten_in_the_end(run):
    kept = run(
        SCENE
        + """queue.arrive(tab('artist'));
        queue.submit(request, by('first'));
        finish('artist');
        queue.leave('artist');
        for (let i = 0; i < 300; i++) {
          now += 1;
          queue.arrive(tab(`guest${i}`));
          queue.leave(`guest${i}`);
        }
        queue.sweep();
        const ids = queue.snapshot().workers.map(({ id }) => id);
        return [ids.length, ids.includes('artist'), ids.includes('guest299'),
                queue.jobs()[0].images[0].worker.name];"""
    )
    assert kept == [101, True, True, "tab artist"]


def test_what_is_expected_follows_from_measured_speeds_in_the_order_of_turns(run):
    result = run(
        SCENE
        + """for (const id of ['one', 'two']) queue.arrive(tab(id));
        const expected = () => queue.jobs().map(({ eta_seconds }) => eta_seconds);
        const work = (worker, seconds) => {
          const lease = queue.claim(worker);
          now += 1000 * seconds;
          queue.complete(lease, `${lease.kind} ${now}`, seconds);
          return lease;
        };
        queue.submit(request, by('first'));
        const shown = [expected()];                     // nothing was measured
        queue.pause(false);
        const one = queue.claim('one');
        now += 500;
        queue.complete(one, 'texts', 0.5);              // encoding: 0.5 s
        work('one', 2);                                 // 2 steps: 1 s each
        shown.push(expected());
        work('one', 2);
        work('one', 3);                                 // decoding: 3 s
        for (const id of ['second', 'third', 'fourth']) queue.submit(request, by(id));
        shown.push(expected());                         // two workers: 7.5, 7.5, then 15
        work('one', 0.5);                               // encodes, and stays with that image
        shown.push(expected());
        queue.leave('two');
        shown.push(expected());                         // one after the other
        queue.pause(true);
        shown.push(expected());
        return shown;"""
    )
    assert result == [
        [None],
        [None],  # a decoding was never measured
        [None, 7.5, 7.5, 15],
        [None, 7, 7.5, 14.5],
        [None, 7, 14.5, 22],
        [None] * 4,
    ]


def test_who_puts_its_own_first_is_expected_to(run):
    before, after, positions = run(
        SCENE
        + """for (const id of ['one', 'two']) queue.arrive(tab(id));
        for (const [id, step] of [['one', 1], ['two', 1]]) {
          queue.submit({ ...request, num_images: 1 }, by(`measured ${id}`));
          for (let lease; (lease = queue.claim(id));) {
            now += 1000 * step * (lease.stop - lease.start || 2);
            queue.complete(lease, `${lease.kind} ${now}`, 0);
          }
        }                                               // encode 2, a step 1, decode 2
        const guest = { client: 'bob' }; // whose both tabs are
        for (const id of ['a', 'b', 'c']) queue.submit(request, by(id));
        for (const id of ['x', 'y']) queue.submit(request, { ...guest, id });
        const expected = (name) => Object.fromEntries(queue.jobs().filter(({ id }) => id.length < 2)
          .map((job) => [job.id, job[name]]));
        const before = expected('eta_seconds');
        queue.putOwnFirst('two', true);
        return [before, expected('eta_seconds'), expected('position')];"""
    )
    # two at a time, of eight seconds each, and bob has not been served before
    assert before == {"x": 8, "a": 8, "y": 16, "b": 16, "c": 24}
    assert positions == {"x": 1, "y": 2, "a": 3, "b": 4, "c": 5}
    assert after == {"x": 8, "y": 8, "a": 16, "b": 16, "c": 24}


def test_images_of_a_job_are_expected_side_by_side_once_its_texts_are_there(run):
    result = run(
        SCENE
        + """for (const id of ['one', 'two']) queue.arrive(tab(id));
        queue.submit(request, by('first'));
        const seconds = { encode: 1, denoise: 4, decode: 2 };
        for (let lease; (lease = queue.claim('one'));) {
          now += 250 * seconds[lease.kind] * (lease.stop - lease.start || 4);
          queue.complete(lease, `${lease.kind} ${now}`, 0);
        }
        queue.submit({ ...request, num_images: 3 }, by('second'));
        queue.submit({ ...request, model: 'rare' }, by('third'));
        return queue.jobs().map(({ eta_seconds }) => eta_seconds);"""
    )
    # encode 1, a step 1, decode 2: the first image is done at 7, the second beside it, then a third
    assert result == [None, 13, None]
