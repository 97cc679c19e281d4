"""Spot checks at a host in a tab, over scripted wires: what checkers are sent, what follows, and
what outlives the host. The rules themselves are in tests/vectors/queue/checks.json."""

import re

import numpy as np
import pytest

from diffusion.noise import initial_noise
from tests.js.work.hosting import run

__all__ = ["run"]

# ALICE holds the queue and asks; `lies` is a result that nobody honest hands in
CHECKED = """
const host = await open({ checks: true });
const lies = { denoise: { latent: latent(50) }, encode: { prompt: text(3), negative: text(0) },
  decode: { picture: { shape: [64, 64, 3], data: new Uint8Array(64 * 64 * 3).fill(9) } } };
const ours = async () => worker(host, ALICE);
const does = async (tab) => {
  const lease = await tab.claims();
  if (lease) await tab.completes(lease);
  return lease;
};
const ends = async (...tabs) => {
  for (let i = 0; i < 60 && host.queue.jobs().some(({ state }) => state !== 'done'); i++) {
    for (const tab of tabs) if (tab.of('work.dismissed').length === 0) await does(tab);
  }
};
const pixel = async (name) => {
  const { pixelsOf } = await import('/static/js/work/picture-pixels.js');
  return (await pixelsOf(await host.blobs.get(name), 64, 64)).data[0];
};
const open_ = () => host.queue.snapshot().checks.map(({ kind, state }) => [kind, state]);
"""


def test_a_checker_is_sent_all_that_the_maker_was_whatever_it_has_at_hand(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB), charlie = await worker(host, CHARLIE);
        const { job: { id } } = await (await page(host)).asks('job.submit', asked());
        const lease = await bob.worksUntil('denoise');
        await bob.completes(lease);
        const encode = await charlie.claims({ conditionings: [id], latents: [[id, 0, 2]] });
        const nothing = charlie.tensors();
        await charlie.completes(encode);
        const steps = await charlie.claims({ conditionings: [id], latents: [[id, 0, 2]] });
        const texts = charlie.tensors();
        await charlie.steps(steps, 1, { latent: latent(7), preview: preview(1) });
        const [image] = host.queue.snapshot().jobs[0].images;
        await charlie.completes(steps);
        await bob.completes(await bob.claims());          // the last steps
        const last = await charlie.claims();
        const sent = charlie.tensors();
        const same = ['kind', 'job', 'image', 'seed', 'start', 'stop'].every(
          (name) => steps[name] === lease[name]);
        return [[encode.kind, encode.fresh], nothing, same, [lease.fresh, steps.fresh],
                Object.keys(texts).sort(), image.checkpoints.length, image.step,
                [last.start, Object.keys(sent).sort(), sent.latent.data[0]]];"""
    )
    assert result == [
        ["encode", True], {}, True, [False, True], ["negative", "prompt"], 1, 2,
        [2, ["latent", "negative", "prompt"], 2],
    ]  # fmt: skip


def test_honest_tabs_are_found_right_and_the_picture_waits_for_that(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB), own = await ours();
        await bob.says({ type: 'work.goodbye' });
        const me = await page(host);
        await me.asks('job.submit', asked());
        await bob.says({ ...hello, key: KEY });
        await own.says({ type: 'work.goodbye' });
        const decode = await bob.worksUntil('decode');
        await own.says({ ...hello, key: '2'.repeat(32) });   // now somebody could check
        await bob.completes(decode);
        await passes(100);
        const waits = host.queue.jobs()[0].images[0];
        const kinds = [];
        const checks = [];
        const check = () => checks.push(host.queue.jobs()[0].images[0].check);
        for (let lease; (lease = await own.claims()); check()) {
          kinds.push([lease.kind, lease.start]);
          check();
          await own.completes(lease);
        }
        await passes(100);
        const { images: [image] } = me.last('room.changed').jobs[0];
        const bobs = host.queue.snapshot().workers.find(({ id }) => id === bob.end.worker);
        return [[waits.state, waits.url, waits.check], kinds, checks, image.check,
                [image.state, image.doubt, await pixel(image.url)],
                bobs.valid, open_(), host.queue.workers().length];"""
    )
    assert result == [
        ["running", None, "waiting"],
        [["encode", 0], ["denoise", 0], ["denoise", 2], ["decode", 0]],
        [*["running", "waiting"] * 3, "running", None], None,
        ["done", None, 99], 4, [], 2,
    ]  # fmt: skip


def test_what_a_tab_computes_for_its_own_client_is_its_own_business(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB), own = await ours();
        await bob.asks('job.submit', asked());
        await bob.completes(await bob.claims(), lies.encode);
        const none = open_();
        await bob.asks('job.cancel', { job: host.queue.jobs()[0].id });
        await own.asks('job.submit', asked({ seed: 3 }));
        await bob.completes(await bob.worksUntil('denoise'));
        return [none, open_().map(([kind]) => kind)];"""
    )
    assert result == [[], ["encode", "denoise"]]


def test_the_holders_own_work_for_others_is_checked_by_them_and_its_word_is_not_the_last(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB), own = await ours();
        await bob.asks('job.submit', asked());
        await own.completes(await own.claims());
        await bob.completes(await bob.claims());
        const right = [open_(), host.queue.shutOut().length];
        const steps = await own.claims();
        await own.completes(steps, lies.denoise);
        const check = await bob.claims();
        await bob.completes(check);
        const after = [open_(), host.queue.shutOut().length];
        const again = await own.claims();          // nobody checks what is their own
        const charlie = await worker(host, CHARLIE);
        const third = await charlie.claims();
        await charlie.completes(third);
        await quiet();
        return [right, [check.kind, check.start, check.fresh], after, again?.fresh ?? null,
                [third.kind, third.start], own.last('work.dismissed')?.code,
                host.queue.shutOut()[0].client === own.end.label];"""
    )
    assert result == [
        [[], 0], ["denoise", 0, True], [[["denoise", "open"]], 0], False, ["denoise", 0],
        "shut-out", True,
    ]  # fmt: skip


def test_a_liar_is_dismissed_everybody_is_told_why_and_the_work_is_done_again(run):
    result = run(
        CHECKED
        + """const told = [];
        for (const kind of ['encode', 'denoise', 'decode']) {
          const host = await open({ checks: true });
          const does = async (tab, what) => {
            const lease = await tab.claims();
            if (lease) await tab.completes(lease, what?.[lease.kind]);
            return lease;
          };
          const me = await worker(host, ALICE), liar = await worker(host, BOB);
          const looks = await page(host, CHARLIE);
          await me.says({ type: 'work.goodbye' });
          await me.asks('job.submit', asked());
          const lease = await liar.worksUntil(kind);
          await me.says({ ...hello, key: '2'.repeat(32) });
          await liar.completes(lease, lies[kind]);
          const second = await worker(host, BOB);            // another tab of the liar
          const held = await second.claims();
          for (let i = 0; i < 40 && host.queue.jobs()[0].state !== 'done'; i++) await does(me);
          for (let i = 0; i < 40 && !host.queue.isShutOut(liar.end.label); i++) await does(me);
          await passes(200);
          const { room } = looks.of('room.changed').at(-1);
          const [image] = host.queue.jobs()[0].images;
          const { pixelsOf } = await import('/static/js/work/picture-pixels.js');
          const { data } = await pixelsOf(await host.blobs.get(image.url), 64, 64);
          const dismissed = [liar, second].map((tab) => tab.last('work.dismissed'));
          await liar.says({ ...hello, key: '3'.repeat(32) });
          const again = liar.last('work.dismissed').detail === dismissed[0].detail
            ? 'refused' : liar.last('work.dismissed').code;
          const as = await page(host, 'd'.repeat(32), { peer: liar.end.peer });
          await as.says({ ...hello, key: '4'.repeat(32) });
          const elsewhere = await page(host, 'd'.repeat(32));
          await elsewhere.says({ ...hello, key: '5'.repeat(32) });
          told.push([dismissed.map(({ code }) => code), dismissed[0].detail, again,
            as.last('work.dismissed')?.code, elsewhere.of('work.welcome').length,
            room.shut_out.map(({ name, client, reason, at }) =>
              [name === `tab of ${liar.end.label}`, client === liar.end.label, reason, at]),
            [image.state, data[0]], host.state().queue.chunks.length]);
        }
        return told;"""
    )
    sentence = "What you computed here was found wrong, so you compute no more in this room."
    for (codes, detail, again, same_peer, welcome, shut_out, image, chunks), what in zip(
        result, ("the encoded prompt", "steps 1 to 2", "the decoded picture"), strict=True
    ):
        assert (codes, detail) == (["shut-out"] * 2, sentence)
        assert again in ("refused", "shut-out")
        assert (same_peer, welcome) == ("shut-out", 1)
        [(name, client, reason, at)] = shut_out
        assert name
        assert client
        assert reason.startswith(f"{what} differed from what others computed: by ")
        assert re.fullmatch(r"\d{4}-.*Z", at)
        assert image == ["done", 99]
        assert chunks == 0


def test_the_distance_of_first_steps_is_measured_from_the_noise_that_python_makes(run):
    noise = initial_noise(7, (2, 8, 8))
    step = np.ones_like(noise)
    far = 0.02 * float(np.linalg.norm(noise)) / float(np.linalg.norm(step))
    result = run(
        CHECKED
        + """const [noise, far] = args;
        const moved = (more) => ({ latent: { shape: [2, 8, 8],
          data: Float32Array.from(noise, (one) => 1.1 * one + more) } });
        const verdicts = [];
        for (const more of [0, 0.0002 * far, far]) {
          const host = await open({ checks: true });
          const bob = await worker(host, BOB), own = await worker(host, ALICE);
          await own.asks('job.submit', asked());
          const lease = await bob.worksUntil('denoise');
          await bob.completes(lease, moved(more));
          await own.completes(await own.claims());
          await own.completes(await own.claims(), moved(0));
          verdicts.push(host.queue.shutOut().map(({ reason }) => reason));
        }
        return verdicts;""",
        [float(one) for one in noise.ravel()],
        far,
    )
    assert result[:2] == [[], []]
    [reason] = result[2]
    # 2 % of the noise's length, where the steps have changed a tenth of it
    assert "steps 1 to 2 differed from what others computed: by 20 %, and 0.25 % is" in reason


def test_who_says_that_it_stores_weights_coarsely_is_allowed_more(run):
    result = run(
        CHECKED
        + """const verdicts = [];
        const variants = { [PACKAGE]: 'f16', ['e'.repeat(64)]: 'int8' };
        const models = [{ ...tiny, packages: Object.keys(variants), variants }];
        const off = { ...text(4), data: text(4).data.map((one) => 1.05 * one) };
        for (const more of [{}, { packages: ['e'.repeat(64)] }, { stores: 'bf16' },
          { stores: 'int8' }, { stores: 'int7' }]) {
          const host = await open({ checks: true, models });
          const bob = await page(host, BOB), own = await worker(host, ALICE);
          await bob.says({ ...hello, ...more });
          if (!bob.last('work.welcome')) { verdicts.push(bob.last('error').code); continue; }
          await own.asks('job.submit', asked());
          await bob.says(claim);
          const lease = bob.last('work.lease');
          await bob.says({ type: 'work.complete', chunk: lease.chunk, attempt: 0, seconds: 1 },
            t.toBytes({ prompt: off, negative: text(0) }));
          await own.completes(await own.claims());
          verdicts.push(host.queue.shutOut().length);
        }
        return verdicts;"""
    )
    assert result == [1, 0, 1, 0, "bad-message"]


def test_who_multiplies_in_f16_is_allowed_what_that_costs_from_when_it_says_so(run):
    result = run(
        CHECKED
        + """const verdicts = [];
        const half = { kernels: 'few 64x128x8x2, many 128x128x16f16' };
        const device = { type: 'work.device', device: 'Test GPU', kernels: 'f16', stores: 'f16' };
        const off = { ...text(4), data: text(4).data.map((one) => 1.004 * one) };
        for (const [first, ...later] of [[{}], [half], [{}, half], [half, { stores: 'f32' }],
          [{ kernels: 'f16', stores: 'f16' }]]) {
          const host = await open({ checks: true });
          const bob = await page(host, BOB), own = await worker(host, ALICE);
          const charlie = await page(host, CHARLIE);
          await bob.says({ ...hello, ...first });
          await own.asks('job.submit', asked());
          await bob.says(claim);
          const lease = bob.last('work.lease');
          for (const more of later) await bob.says({ ...device, ...more });
          await bob.says({ type: 'work.complete', chunk: lease.chunk, attempt: 0, seconds: 1 },
            t.toBytes({ prompt: off, negative: text(0) }));
          await own.completes(await own.claims());
          await passes(500);
          const { workers } = charlie.last('room.changed').room;
          verdicts.push([host.queue.shutOut().length,
                         workers.find(({ client }) => client === bob.end.label)?.kernels]);
        }
        return verdicts;"""
    )
    half = "few 64x128x8x2, many 128x128x16f16"
    # The last one says how it stores weights, and not with what it multiplies
    assert result == [[1, None], [0, half], [0, half], [1, None], [1, None]]


@pytest.mark.parametrize(
    "wrong", ["{ stores: 'f17' }", "{ stores: '' }", "{ stores: undefined }", "{ device: '' }",
              "{ device: 7 }", "{ kernels: 'x'.repeat(121) }", "{ kernels: 7 }"],
)  # fmt: skip
def test_a_device_that_makes_no_sense_is_refused_and_changes_nothing(run, wrong):
    result = run(
        CHECKED
        + f"""const bob = await worker(host, BOB);
        const before = JSON.stringify(host.queue.snapshot().workers);
        await bob.says({{ type: 'work.device', device: 'GPU', kernels: '', stores: 'f16',
          ...{wrong} }});
        const after = JSON.stringify(host.queue.snapshot().workers);
        return [bob.last('error').code, before === after];"""
    )
    assert result == ["bad-message", True]


def test_a_file_that_is_lost_makes_no_liar(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB), own = await ours();
        await own.asks('job.submit', asked());
        await bob.completes(await bob.claims(), lies.encode);
        const lost = host.queue.snapshot().checks[0].result;
        const { get } = host.blobs;
        const lease = await own.claims();
        host.blobs.get = async (name) => (name === lost ? null : get.call(host.blobs, name));
        await own.completes(lease);
        return [host.queue.shutOut(), open_()];"""
    )
    assert result == [[], [["encode", "lapsed"]]]


def test_files_of_a_check_are_kept_until_it_is_made_and_the_next_host_goes_on_with_it(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB);
        await (await page(host)).asks('job.submit', asked());
        for (let i = 0; i < 4; i++) await bob.completes(await bob.claims());
        await passes(11_000);
        host.blobs.keep(host.queue.blobs());
        const done = host.queue.jobs()[0];
        const state = JSON.parse(JSON.stringify(host.state()));
        const next = await RoomHost.restore(state, { room: 'kitchen', models: [tiny], now, timers,
          blobs: host.blobs, checks: true, self: 'somebody' });
        const charlie = await worker(next, CHARLIE);
        for (let i = 0; i < 4; i++) await charlie.completes(await charlie.claims());
        const [image] = next.queue.jobs()[0].images;
        const left = [...next.queue.blobs()];
        return [[done.state, done.images[0].doubt], state.queue.checks.length, image.doubt,
                next.queue.shutOut(), left.length === 1 && left[0] === image.url];"""
    )
    assert result == [["done", "unchecked"], 4, None, [], True]


def test_what_nobody_checks_is_given_up_after_ten_minutes_and_of_many_the_oldest(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB), me = await page(host);
        const counts = [];
        for (let i = 0; i < 30; i++) {
          await me.asks('job.submit', asked({ seed: i }));
          for (let n = 0; n < 4; n++) await bob.completes(await bob.claims());
          await passes(2500);
          for (const tab of [bob, me]) await tab.says({ type: 'peer.beat', revision: 0 });
          if (i % 10 === 9) counts.push(open_().length);
        }
        const names = host.queue.blobs().size;
        for (let i = 0; i < 200; i++) { // ten minutes, in which both are there
          await passes(3100);
          for (const tab of [bob, me]) await tab.says({ type: 'peer.beat', revision: 0 });
        }
        const { images: [image] } = host.queue.jobs()[0];
        return [counts, names > 30, open_(), image.doubt, host.queue.blobs().size,
                me.last('room.changed').revision === host.read().revision];"""
    )
    assert result == [[40, 80, 100], True, [], "unchecked", 30, True]


def test_a_picture_that_nobody_checks_in_two_minutes_is_shown(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB), idle = await worker(host, CHARLIE);
        const me = await page(host);
        await me.asks('job.submit', asked());
        for (let n = 0; n < 4; n++) await bob.completes(await bob.claims());
        const shown = [];
        for (let i = 0; i < 50; i++) {
          await passes(2500);
          for (const tab of [bob, idle, me]) await tab.says({ type: 'peer.beat', revision: 0 });
          shown.push(me.of('room.changed').at(-1).jobs[0]?.images[0].state
            ?? host.queue.jobs()[0].images[0].state);
        }
        return [shown.slice(0, 46).every((one) => one === 'running'), shown.at(-1),
                host.queue.jobs()[0].images[0].doubt];"""
    )
    assert result == [True, "done", "unchecked"]


def test_the_next_host_keeps_who_was_shut_out_and_where_nobody_checks_nothing_is_left_over(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB), own = await ours();
        await own.asks('job.submit', asked());
        await bob.completes(await bob.claims(), lies.encode);
        const early = JSON.parse(JSON.stringify(host.state()));
        await does(own);
        const state = JSON.parse(JSON.stringify(host.state()));
        const more = { room: 'kitchen', models: [tiny], now, timers, blobs: host.blobs };
        const next = RoomHost.restore(state, { ...more, checks: true, self: 'somebody' });
        const again = await page(next, BOB);
        await again.says(hello);
        const trusting = RoomHost.restore(early, more);
        return [again.last('work.dismissed').code, again.last('room.state').room.shut_out.length,
                trusting.queue.snapshot().checks.length, trusting.queue.snapshot().chunks.map(
                  ({ kind }) => kind)];"""
    )
    assert result == ["shut-out", 1, 0, ["denoise"]]


def test_who_comes_in_with_a_copy_neither_proves_itself_nor_shuts_anybody_out_by_it(run):
    result = run(
        CHECKED
        + """const forger = await open({ checks: true, self: 'somebody' });
        const theirs = await worker(forger, BOB);
        await theirs.asks('job.submit', asked({ seed: 9 }));
        const alone = await page(forger, CHARLIE);
        const { job } = await alone.asks('job.submit', asked());
        for (let i = 0; i < 8; i++) {
          const lease = await theirs.claims();
          if (lease) await theirs.completes(lease);
        }
        const state = JSON.parse(JSON.stringify(forger.state()));
        const label = await clientLabel(CHARLIE);
        state.queue.shutOut = [{ client: label, name: 'Charlie', kind: 'encode', start: 0, stop: 0,
          distance: 1, limit: 0.1, at: 1 }];
        for (const one of state.queue.workers) one.valid = 1000;
        for (const check of state.queue.checks) check.client = label;
        const [one] = state.queue.workers;
        const checked = state.queue.jobs.flatMap(({ images }) => images.flatMap((image) => {
          if (image.state === 'done') image.checked = [{ kind: 'decode', start: 0, stop: 0,
            worker: one.id, checker: one.id, verdict: 'agreed', again: false, distance: 0,
            limit: 0.1, at: 1, checks: 1 }];
          return image.checked;
        }));
        await host.merge(state, (name) => forger.blobs.get(name));
        const merged = host.queue.snapshot();
        const doubts = merged.jobs.flatMap(({ images }) => images.map(({ doubt }) => doubt));
        return [state.queue.checks.length > 0, merged.checks, merged.shutOut,
                merged.workers.map(({ valid }) => valid), doubts.sort(), checked.length,
                merged.jobs.flatMap(({ images }) => images.flatMap((image) => image.checked))];"""
    )
    assert result == [True, [], [], [0], ["lapsed", None], 2, []]


def test_a_room_that_was_kept_before_there_were_checks_opens(run):
    result = run(
        CHECKED
        + """const bob = await worker(host, BOB);
        await (await page(host)).asks('job.submit', asked());
        await bob.worksUntil('denoise');
        const state = JSON.parse(JSON.stringify(host.state()));
        state.version = 1;
        delete state.queue.checks;
        delete state.queue.shutOut;
        for (const worker of state.queue.workers) { delete worker.valid; delete worker.variant; }
        for (const chunk of state.queue.chunks) delete chunk.check;
        for (const { images } of state.queue.jobs) for (const image of images) {
          delete image.doubt;
          delete image.checked;
        }
        state.queue.chunks = state.queue.chunks.filter(({ kind }) => kind !== 'check');
        const next = RoomHost.restore(state, { room: 'kitchen', models: [tiny], now, timers,
          blobs: host.blobs, checks: true, self: 'somebody' });
        const charlie = await worker(next, CHARLIE);
        const lease = await charlie.claims();
        return [lease.kind, next.state().version, next.queue.snapshot().checks.length];"""
    )
    assert result == ["denoise", 2, 1]


def test_nothing_is_checked_where_that_is_switched_off(run):
    result = run(
        CHECKED
        + """const other = await open();
        const bob = await worker(other, BOB), own = await worker(other, ALICE);
        await own.asks('job.submit', asked());
        await bob.completes(await bob.claims(), lies.encode);
        return [other.queue.snapshot().checks, (await own.claims())?.kind];"""
    )
    assert result[0] == []
    assert result[1] != "encode"
