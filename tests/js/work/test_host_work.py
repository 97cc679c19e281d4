"""Tabs that compute for a host in a tab: the lease protocol over scripted wires, and all that is no
result."""

import io

import numpy as np
import pytest
from PIL import Image

from diffusion.pictures import settings_from_png
from tests.js.work.hosting import run
from tests.studio import settings_of

__all__ = ["run"]


def test_a_tab_makes_a_picture_and_everybody_sees_it_come(run):
    result = run(
        """const host = await open();
        const bob = await page(host, BOB);
        const tab = await worker(host);
        const lease = tab.claims();                       // there is nothing yet
        await bob.asks('job.submit', asked());
        const encode = tab.of('work.lease')[0];
        const nothing = tab.tensors();
        await tab.completes(encode, { prompt: text(4), negative: text(0) });
        const done = tab.last('work.done');
        const denoise = await tab.claims();
        const sent = tab.tensors();
        await passes(500);
        await tab.steps(denoise, 1, { latent: latent(1), preview: preview(200) });
        await passes(50);
        const shown = bob.last('room.changed').jobs[0].images[0];
        await tab.completes(denoise);
        await tab.worksUntil('decode').then((lease) => tab.says({ type: 'work.goodbye' }));
        await tab.says({ ...hello, key: KEY });
        tab.tensors();
        const decode = await tab.claims({ latents: [[denoise.job, 0, 4]] });
        const kinds = [decode.kind, Object.keys(tab.tensors())];
        await tab.completes(decode);
        await passes(50);
        const job = bob.last('room.changed').jobs[0];
        const file = async (name) => [...await host.blobs.get(name)];
        return [tab.of('work.welcome')[0], encode, nothing, done, denoise, Object.keys(sent),
                [...sent.prompt.data].length, shown, await file(shown.preview_url), kinds, job,
                await file(job.images[0].url), await clientLabel(ALICE)];"""
    )
    welcome, encode, nothing, done, denoise, sent, size, shown, webp, kinds, job, png, label = (
        result
    )
    assert welcome == {"type": "work.welcome", "worker": welcome["worker"], "renew_seconds": 10}
    assert encode == {
        "type": "work.lease", "chunk": encode["chunk"], "attempt": 0, "kind": "encode",
        "job": job["id"], "image": None, "seed": None, "start": 0, "stop": 0, "bytes": 0,
        "fresh": False, "settings": settings_of(prompt="a rocket", steps=4).as_dict(),
    }  # fmt: skip
    assert list(encode["settings"]) == list(settings_of().as_dict())
    assert nothing == {}
    assert done == {"type": "work.done", "chunk": encode["chunk"], "attempt": 0}
    assert (denoise["kind"], denoise["image"], denoise["seed"]) == ("denoise", 0, 7)
    assert (sorted(sent), size) == (["negative", "prompt"], 12)
    assert (shown["state"], shown["step"], shown["steps"]) == ("running", 1, 4)
    assert shown["worker"] == {
        "id": welcome["worker"], "name": f"tab of {label}", "kind": "tab", "client": label,
        "device": "Test GPU", "kernels": "",
    }  # fmt: skip
    assert Image.open(io.BytesIO(bytes(webp))).size == (8, 8)
    assert kinds == ["decode", []]
    assert (job["state"], job["images"][0]["state"]) == ("done", "done")
    pixels = np.asarray(Image.open(io.BytesIO(bytes(png))))
    assert pixels.shape == (64, 64, 3)
    assert np.all(pixels == 99)
    assert settings_from_png(bytes(png)) == settings_of(prompt="a rocket", steps=4).as_dict()


def test_whose_jobs_come_first_is_what_the_tab_said_last(run):
    """Charlie has been served last, so that by the order of turns Bob would be next."""
    result = run(
        """const host = await open();
        const asks = await page(host, CHARLIE), bob = await page(host, BOB);
        const first = await asks.asks('job.submit', asked());
        const tab = await worker(host, CHARLIE);
        const encode = await tab.claims();
        await asks.asks('job.cancel', { job: encode.job });
        const job = async (whose) => (await whose.asks('job.submit', asked())).job.id;
        const jobs = [];
        for (const who of [bob, bob, asks, asks]) jobs.push(await job(who));
        const begun = [];
        const begins = async (more) => {
          const lease = await tab.claims(more);
          begun.push(jobs.indexOf(lease.job));
          await asks.asks('job.cancel', { job: lease.job });
          await bob.asks('job.cancel', { job: lease.job });
        };
        await begins({ own_first: true });
        await tab.says({ type: 'work.goodbye' });
        await tab.says({ ...hello, own_first: true });
        await begins();
        jobs.push(await job(asks));
        await begins({ own_first: false });
        return begun;"""
    )
    assert result == [2, 3, 0]


def test_what_a_tab_lacks_is_sent_and_what_it_has_is_not(run):
    result = run(
        """const host = await open();
        const tab = await worker(host);
        const { job: { id } } = await tab.asks('job.submit', asked());
        const first = await tab.worksUntil('denoise');
        tab.tensors();
        await tab.steps(first, 2, { latent: latent(2) });
        tab.end.close();
        const other = await worker(host, BOB);
        const again = await other.claims({ conditionings: [id] });
        const lacking = other.tensors();
        other.end.close();
        const third = await worker(host, BOB);
        await third.claims({ latents: [[id, 0, 2], [id, 1, 2]] });
        const texts = third.tensors();
        return [again.start, Object.keys(lacking), [...lacking.latent.data].every((x) => x === 2),
                lacking.latent.shape, Object.keys(texts).sort()];"""
    )
    assert result == [2, ["latent"], True, [2, 8, 8], ["negative", "prompt"]]


def test_pieces_have_their_length_and_what_nobody_wants_is_passed_over(run):
    result = run(
        """const host = await open({ models: [{ ...tiny, latent_channels: 64, vae_scale: 1 }] });
        const tab = await worker(host);
        await tab.asks('job.submit', asked());
        const lease = await tab.worksUntil('denoise');
        const right = { latent: latent(1, [64, 64, 64]) };       // 1 MiB: five pieces
        const bytes = t.toBytes(right);
        await tab.says({ type: 'work.complete', chunk: 1, attempt: 0, seconds: 1 }, bytes);
        const passed = tab.sent.slice(-1);
        await tab.says({ type: 'work.complete', chunk: 1, attempt: 0, bytes: 300000 });
        tab.end.receiveBytes(new ArrayBuffer(262144));
        tab.end.receiveBytes(new ArrayBuffer(37857));            // one too many
        tab.end.receiveBytes(new ArrayBuffer(1));
        await quiet();
        const wrong = tab.of('error').map(({ code }) => code);
        await tab.says({ ...tab.named(lease, 'work.complete'), bytes: bytes.length });
        await tab.says({ ...tab.named(lease, 'work.step'), step: 1, latent: true, bytes: 600 });
        const twice = tab.last('error').code;
        await tab.says({ type: 'peer.beat', revision: 0 });      // other messages may come between
        for (const piece of piecesOf(bytes)) tab.end.receiveBytes(piece.slice().buffer);
        await quiet();
        return [passed, wrong, twice, tab.last('work.done')?.chunk === lease.chunk];"""
    )
    passed, wrong, twice, done = result
    assert passed == [{"type": "work.lost", "chunk": 1, "attempt": 0, "code": "lost"}]
    assert wrong == ["unexpected-bytes", "unexpected-bytes"]
    assert (twice, done) == ("bytes-missing", True)


RESULTS = [
    "{ latent: latent(NaN) }", "{ latent: latent(Infinity) }", "{ latent: latent(0, [2, 8, 9]) }",
    "{ latent: latent(0, [1, 8, 8]) }", "{ latent: { ...latent(0), shape: [16, 8] } }",
    "{ latent: { shape: [2, 8, 8], data: new Uint16Array(128) } }", "{ other: latent(0) }",
    "{ latent: latent(0), more: text(1) }", "new Uint8Array(64).fill(255)", "new Uint8Array(1)",
    "new Uint8Array(2 ** 16)", "t.toBytes({ latent: latent(0) }).subarray(0, -4)",
    "(() => { const right = t.toBytes({ latent: latent(0) });"
    " const more = new Uint8Array(right.length + 4); more.set(right); return more; })()",
    "new TextEncoder().encode('\\x02\\0\\0\\0\\0\\0\\0\\0{}')",
]  # fmt: skip


def test_a_latent_that_is_none_is_refused_before_anybody_sees_it(run):
    codes = run(
        f"""const codes = [];
        for (const data of [{", ".join(RESULTS)}]) {{
          const host = await open();
          const tab = await worker(host);
          await tab.asks('job.submit', asked());
          const lease = await tab.worksUntil('denoise');
          const blobs = host.queue.blobs().size;
          await tab.completes(lease, data);
          const {{ chunks: [chunk] }} = host.queue.snapshot();
          const lost = tab.last('work.lost');
          codes.push([lost?.code, lost?.chunk === lease.chunk, chunk.state, chunk.faults,
                      host.queue.blobs().size - blobs]);
        }}
        return codes;"""
    )
    assert codes == [["refused", True, "pending", 1, 0]] * len(RESULTS)


def test_more_bytes_than_a_result_may_have_are_not_taken_in(run):
    result = run(
        """const host = await open();
        const tab = await worker(host);
        await tab.asks('job.submit', asked());
        const lease = await tab.worksUntil('denoise');
        await tab.says({ ...tab.named(lease, 'work.complete'), seconds: 1, bytes: 2 ** 40 });
        const wrong = [];
        for (const bytes of [-1, 1.5, '7', 2 ** 60]) {
          await tab.says({ ...tab.named(lease, 'work.complete'), bytes });
          wrong.push(tab.last('error').code);
        }
        return [tab.last('work.lost').code, wrong];"""
    )
    assert result == ["refused", ["bad-message"] * 4]


def test_three_faults_in_a_row_and_the_tab_is_dismissed_and_a_good_chunk_makes_up_for_two(run):
    result = run(
        """const host = await open();
        const helper = await worker(host, BOB), tab = await worker(host);
        const fails = async () => {
          await tab.asks('job.submit', asked());
          const lease = await tab.claims();
          await tab.says({ ...tab.named(lease, 'work.fail'), fault: 'from-the-future' });
          await tab.asks('job.cancel', { job: lease.job });
        };
        await fails();
        await fails();
        await tab.asks('job.submit', asked());
        await tab.completes(await tab.claims());
        await tab.asks('job.cancel', { job: tab.last('work.lease').job });
        await fails();
        await fails();
        const early = tab.of('work.dismissed').length;
        await fails();
        await tab.says(claim);
        const workers = host.queue.workers().map(({ id }) => id === helper.id);
        return [early, tab.last('work.dismissed'), tab.last('error').code, workers,
                host.peers().at(-1).worker];"""
    )
    early, dismissed, code, workers, worker = result
    assert early == 0
    assert dismissed["code"] == "too-many-faults"
    assert dismissed["detail"].startswith("Nothing that this tab began came to a good end")
    assert (code, workers, worker) == ("not-a-worker", [True], None)


def test_too_little_memory_is_told_and_no_reason_to_send_a_tab_away(run):
    result = run(
        """const host = await open();
        const large = await worker(host, BOB), small = await worker(host);
        for (const side of [128, 112, 96, 80]) {
          await small.asks('job.submit', asked({ width: side, height: side }));
          const lease = await small.worksUntil('denoise');
          await small.says({ ...small.named(lease, 'work.fail'), fault: 'out-of-memory' });
        }
        await small.asks('job.submit', asked({ width: 64, height: 64 }));
        const little = await small.worksUntil('denoise');
        const big = await large.claims();
        await passes(500);
        const { workers } = small.last('room.changed').room;
        const { lacks } = workers.find(({ id }) => id === small.id);
        return [small.of('work.dismissed').length, little.settings.width, big.settings.width, lacks,
                host.queue.snapshot().chunks.map(({ faults }) => faults)];"""
    )
    dismissed, little, big, lacks, faults = result
    assert (dismissed, little, big, lacks) == (0, 64, 128, {"denoise": 80 * 80})
    assert set(faults) == {0}


def test_late_and_forged_messages_change_nothing(run):
    result = run(
        """const host = await open();
        const mine = await worker(host), evil = await worker(host, BOB);
        await mine.asks('job.submit', asked());
        const first = await mine.claims();
        await mine.completes(first);
        const lease = await mine.claims();
        mine.tensors();
        const before = JSON.stringify(host.queue.snapshot());
        const forged = [
          mine.named(lease, ''), { ...mine.named(lease, ''), attempt: lease.attempt + 1 },
          { chunk: first.chunk, attempt: first.attempt }, { chunk: 10 ** 9, attempt: 0 },
        ];
        const answers = [];
        for (const who of [evil, mine]) {
          for (const named of forged.slice(who === mine ? 1 : 0)) {
            for (const type of ['work.complete', 'work.renew', 'work.fail', 'work.step']) {
              const message = { ...named, type, step: 1, latent: true, seconds: 0.1 };
              const bytes = ['work.complete', 'work.step'].includes(type)
                ? t.toBytes({ latent: latent(5) }) : undefined;
              clock.ms += 1000;
              await who.says(message, bytes);
              answers.push(who.sent.at(-1).type);
            }
          }
        }
        const snapshot = host.queue.snapshot();
        const { deadline } = snapshot.chunks[0];
        const same = JSON.stringify(snapshot) === before;
        await mine.completes(lease);
        await mine.completes(lease);            // once more
        return [new Set(answers).size, answers[0], same, mine.sent.at(-1).code,
                host.queue.snapshot().chunks.map(({ start }) => start === lease.stop)];"""
    )
    assert result == [1, "work.lost", True, "lost", [True]]


def test_who_has_helped_is_in_the_timeline_and_what_is_none_is_no_message(run):
    refused, told, by = run(
        """const host = await open();
        const mine = await worker(host), other = await worker(host, BOB);
        const { job } = await mine.asks('job.submit', asked());
        await mine.completes(await mine.claims());
        const lease = await mine.claims();
        const steps = lease.stop - lease.start;
        const good = { worker: other.id, steps: 1, received: 10, sent: 20 };
        const hands = async (partners) => {
          await mine.says({ ...mine.named(lease, 'work.complete'), seconds: 0.5, partners },
            t.toBytes(result(lease)));
          return mine.sent.at(-1);
        };
        const refused = [];
        for (const partners of [
          {}, 7, [7], [null], [{ ...good, worker: 5 }], [{ ...good, worker: 'x'.repeat(65) }],
          [{ ...good, steps: steps + 1 }], [{ ...good, steps: 0.5 }], [{ ...good, sent: -1 }],
          [{ ...good, received: '7' }], [good, good],
          [{ ...good, steps }, { ...good, worker: 'another' }],
          Array.from({ length: 9 }, (_, at) => ({ ...good, worker: `w${at}`, steps: 0 })),
        ]) {
          const { type, code } = await hands(partners);
          refused.push([type, code]);
        }
        await hands([good, { ...good, worker: 'a stranger', steps: 0 }]);
        const { timeline } = await mine.asks('picture.timeline', { job: job.id, index: 0 });
        const [{ partners }] = timeline.entries.filter(({ kind }) => kind === 'denoise');
        const [{ steps_by }] = host.queue.jobs()[0].images;
        const told = partners.map(({ worker, ...more }) => (
          { ...more, is: worker.id === other.id }));
        return [refused, told, [steps_by[mine.id], steps_by[other.id], steps]];"""
    )
    assert refused == [["error", "bad-message"]] * 13
    assert told == [{"how": "half", "steps": 1, "received": 10, "sent": 20, "is": True}]
    assert by[:2] == [by[2] - 0.5, 0.5]


def test_a_cancelled_job_is_said_to_the_tab_that_computes_it_and_it_gets_other_work(run):
    result = run(
        """const host = await open();
        const tab = await worker(host);
        const { job } = await tab.asks('job.submit', asked());
        const lease = await tab.claims();
        await tab.asks('job.cancel', { job: job.id });
        const lost = tab.last('work.lost');
        await tab.asks('job.submit', asked({ seed: 9 }));
        const next = await tab.claims();
        return [lost.code, lost.chunk === lease.chunk, next.settings.seed];"""
    )
    assert result == ["lost", True, 9]


def test_who_rests_leaves_a_step_and_the_chunk_is_open_to_all(run):
    result = run(
        """const host = await open();
        const tab = await worker(host);
        await tab.asks('job.submit', asked());
        await tab.completes(await tab.claims(), { prompt: text(4), negative: text(0) });
        const lease = await tab.claims();
        const { chunk, attempt } = lease;
        await tab.says({ type: 'work.release', chunk, attempt });
        const refused = tab.last('error').code;
        await tab.steps(lease, 1, { latent: latent(1) });
        await tab.says({ type: 'work.release', chunk, attempt });
        const { chunks: [open_] } = host.queue.snapshot();
        await tab.says({ type: 'work.release', chunk, attempt });
        const next = await tab.claims();
        const { entries } = host.queue.timeline(lease.job, 0);
        return [refused, open_.state, open_.faults, tab.last('work.lost').code,
                [next.start, next.attempt], entries.map(({ outcome, stop }) => [outcome, stop])];"""
    )
    assert result == [
        "bad-message", "pending", 0, "lost", [1, 1], [["done", 0], ["returned", 1], ["running", 1]],
    ]  # fmt: skip


def test_what_a_closed_tab_held_goes_back_at_once_unharmed_and_a_crash_is_a_fault(run):
    result = run(
        """const host = await open();
        const idle = await worker(host, BOB);
        const ends = [];
        for (const how of [undefined, { crashed: true }, 'goodbye']) {
          const tab = await worker(host);
          if (!ends.length) await tab.asks('job.submit', asked());
          const lease = await tab.claims();
          if (how === 'goodbye') await tab.says({ type: 'work.goodbye' });
          else tab.end.close(how);
          await quiet();
          const { chunks: [chunk] } = host.queue.snapshot();
          ends.push([chunk.state, chunk.faults, chunk.attempt - lease.attempt]);
        }
        return ends;"""
    )
    assert result == [["pending", 0, 1], ["pending", 1, 1], ["pending", 1, 1]]


def test_a_tab_that_renews_without_a_step_for_five_minutes_has_stalled(run):
    result = run(
        """const host = await open();
        const tab = await worker(host);
        await tab.asks('job.submit', asked());
        const lease = await tab.worksUntil('denoise');
        for (let i = 0; i < 34; i++) {
          await passes(9000);
          await tab.says(tab.named(lease, 'work.renew'));
          await tab.steps(lease, 1);             // one and the same
        }
        const held = tab.of('work.lost').length;
        await passes(9000);
        await tab.says(tab.named(lease, 'work.renew'));
        await passes(9000);
        await tab.says(tab.named(lease, 'work.renew'));
        return [held, tab.of('work.lost').map(({ code }) => code)];"""
    )
    assert result == [0, ["stalled", "lost"]]


@pytest.mark.parametrize("step", ["0", "5", "-1", "1.5", "'1'", "undefined"])
def test_a_step_outside_of_the_chunk_is_no_message(run, step):
    result = run(
        f"""const host = await open();
        const tab = await worker(host);
        await tab.asks('job.submit', asked());
        const lease = await tab.worksUntil('denoise');
        await tab.steps(lease, {step}, {{ latent: latent(1) }});
        const {{ chunks: [chunk] }} = host.queue.snapshot();
        return [tab.last('error').code, chunk.state, chunk.faults];"""
    )
    assert result == ["bad-message", "leased", 0]


def test_a_lost_file_is_a_fault_and_after_two_it_goes_on_from_the_checkpoint_before(run):
    result = run(
        """const host = await open();
        const tab = await worker(host);
        const { job } = await tab.asks('job.submit', asked());
        const lease = await tab.worksUntil('denoise');
        await tab.steps(lease, 1, { latent: latent(1) });
        await tab.steps(lease, 2, { latent: latent(2) });
        const newest = host.queue.snapshot().jobs[0].images[0].checkpoints[0].latent;
        const { get } = host.blobs;
        host.blobs.get = async (name) => (name === newest ? null : get.call(host.blobs, name));
        tab.end.close();
        const [one, two] = [await worker(host, BOB), await worker(host, CHARLIE)];
        await one.claims();
        await two.claims();
        await one.claims();
        await quiet();
        const leases = [...one.of('work.lease'), ...two.of('work.lease')];
        return leases.map(({ kind, start }) => [kind, start]);"""
    )
    assert result == [["denoise", 1]]


def test_a_tab_with_a_model_that_the_room_has_not_is_dismissed_and_so_is_one_too_many(run):
    result = run(
        """const host = await open();
        const tab = await page(host);
        await tab.says({ ...hello, packages: ['0'.repeat(64)] });
        const mine = [];
        for (let i = 0; i < 9; i++) mine.push(await worker(host));
        const theirs = await worker(host, BOB);
        await mine[0].says(hello);
        return [tab.last('work.dismissed'), mine.at(-1).last('work.dismissed'),
                typeof theirs.id, new Set(mine.map(({ id }) => id)).size,
                mine[0].last('error').detail];"""
    )
    unknown, crowd, other, ids, twice = result
    assert unknown["code"] == "unknown-package"
    assert (crowd["code"], crowd["detail"]) == (
        "too-many-tabs", "8 tabs compute here already; more are not allowed.",
    )  # fmt: skip
    assert (other, ids) == ("string", 9)  # eight, and none
    assert twice == "This tab is a worker already."


def test_a_tab_is_the_same_worker_after_a_reload_and_a_duplicate_is_another(run):
    result = run(
        """const host = await open();
        const ids = [];
        const says = async (client, close) => {
          const it = await page(host, client);
          await it.says(hello);
          ids.push(it.last('work.welcome').worker);
          if (close) it.end.close();
        };
        await says(ALICE, true);
        await says(ALICE, false);
        await says(ALICE, true);
        await says(BOB, true);
        return [ids[0] === ids[1], new Set(ids).size];"""
    )
    assert result == [True, 3]


def test_what_is_left_to_a_worker_that_does_not_come_is_handed_out_two_seconds_later(run):
    result = run(
        """const host = await open();
        const one = await worker(host), two = await worker(host, BOB);
        await one.asks('job.submit', asked());
        const lease = await one.worksUntil('denoise'); // its image, from now on
        clock.ms += 10;
        await one.completes(lease);                    // and then it says nothing
        await two.says(claim);
        const early = two.of('work.lease').length;
        await passes(2500);
        return [early, two.of('work.lease').map(({ start }) => start === lease.stop)];"""
    )
    assert result == [0, [True]]


def test_jobs_and_pictures_are_on_the_disk_before_anybody_is_told_that_they_are_taken(run):
    result = run(
        """const writes = [];
        const keeper = { has: () => false, blob: async () => null, close: async () => {},
          save: (state, names) => new Promise((resolve, reject) => writes.push({
            job: state.queue.jobs[0]?.state, names: names.size, resolve, reject })) };
        const host = await open({ keeper });
        const tab = await worker(host);
        const ends = async (how = 'resolve') => {
          for (let tries = 0; !writes.length && tries < 1000; tries++) await turn();
          const { job, names, [how]: end } = writes.shift();
          end(new DOMException('full', 'QuotaExceededError'));
          for (let i = 0; i < 20; i++) await turn();
          return [job, names];
        };
        const told = [];
        const look = (type) => told.push(tab.of(type).length);
        const sends = (message, bytes) => {
          tab.end.receive(bytes ? { ...message, bytes: bytes.length } : message);
          if (bytes) tab.end.receiveBytes(bytes.slice().buffer);
        };
        sends({ type: 'job.submit', id: 1, ...asked() });
        for (let i = 0; i < 50; i++) await turn();
        look('answer');
        const submitted = await ends();
        look('answer');
        const decode = await tab.worksUntil('decode');
        look('work.done');
        sends({ ...tab.named(decode, 'work.complete'), seconds: 1 }, t.toBytes(result(decode)));
        const pictured = await ends('reject');
        look('work.done');
        return [told, submitted, pictured, tab.last('answer').kept, troubles];"""
    )
    [before, after, chunks, done], submitted, pictured, kept, troubles = result
    assert (before, after, kept) == (0, 1, True)
    assert submitted == ["queued", 0]
    assert pictured == ["done", 1]
    assert done == chunks + 1
    assert len(troubles) == 1
    assert troubles[0].startswith("This browser has no more room to keep pictures")
