"""The messages of a room from a tab that plays the server: what pages are told and may do."""

from tests.js.work.hosting import run

__all__ = ["run"]


# What pages are told ---------------------------------------------------------------------------
def test_a_page_is_sent_the_room_and_then_what_changes(run):
    state, changed, peers, others = run(
        """const host = await open();
        const mine = await page(host), theirs = await page(host, BOB, { name: 'Bob' });
        await passes(50);
        await mine.asks('job.submit', asked());
        return [mine.sent[0], theirs.last('room.changed'), mine.last('room.peers'),
                theirs.sent[0].revision];"""
    )
    assert state == {
        "type": "room.state", "revision": 0, "jobs": [], "older": None,
        "room": {"room": "kitchen", "title": "", "owner": state["room"]["owner"], "paused": False,
                 "tabs_help": True, "workers": [], "shut_out": []},
        "peers": [{"id": state["peer"], "client": state["room"]["owner"], "owner": True,
                   "worker": None, "status": None}],
        "peer": state["peer"],
    }  # fmt: skip
    assert (changed["since"], changed["gone"], changed["older"]) == (others, [], None)
    [job] = changed["jobs"]
    assert (job["prompt"], job["state"], job["position"]) == ("a rocket", "queued", 1)
    assert [(peer["owner"], peer.get("name")) for peer in peers["peers"]] == [
        (True, None), (False, "Bob"),
    ]  # fmt: skip


def test_a_page_says_what_its_person_is_called_also_the_hosts_own(run):
    names, refused, flooded = run(
        """const host = await open();
        const mine = await page(host), theirs = await page(host, BOB, { name: 'Bob' });
        await mine.says({ type: 'peer.name', name: ' Ann\\n\\u202e👩\u200d🚀 ' });
        await theirs.says({ type: 'peer.name', name: '' });
        const names = theirs.last('room.peers').peers.map(({ name = null }) => name);
        for (const name of [7, null, 'x'.repeat(161)]) {
          await theirs.says({ type: 'peer.name', name });
        }
        const refused = theirs.of('error').map(({ code }) => code);
        for (let i = 0; i < 8; i++) await theirs.says({ type: 'peer.name', name: 'x' });
        return [names, refused, theirs.closed];"""
    )
    assert names == ["Ann 👩\u200d🚀", None]
    assert refused == ["bad-message"] * 3
    assert flooded is not None


def test_who_says_again_and_again_how_they_are_is_closed_and_who_repeats_it_is_not(run):
    closed, told = run(
        """const host = await open();
        const mine = await page(host), theirs = await page(host, BOB);
        const statuses = async (page, list) => {
          for (const status of list) await page.says({ type: 'peer.status', status });
        };
        await statuses(theirs, Array(12).fill('loading'));
        const repeats = theirs.closed;
        const told = mine.of('room.peers').at(-1).peers.map(({ status }) => status);
        await statuses(theirs, ['hidden', 'battery', 'hidden', 'battery', 'hidden', 'battery']);
        const own = await page(host, ALICE, { here: true });
        await statuses(own, Array(20).fill(['hidden', 'battery']).flat());
        return [[repeats, theirs.closed, own.closed], told];"""
    )
    assert closed == [None, 4008, None]
    assert told == [None, "loading"]


def test_whom_a_tab_helps_is_seen_by_everybody_until_it_does_not(run):
    result = run(
        """const host = await open();
        const mine = await page(host), theirs = await page(host, BOB);
        const says = (more) => theirs.says({ type: 'peer.status', status: 'helping', ...more });
        for (const helps of [7, 'x'.repeat(65)]) await says({ helps });
        await says({ status: null, helps: 'w' });
        const told = () => mine.last('room.peers').peers.map(
          ({ status, helps = null }) => [status, helps]);
        const seen = [];
        for (const more of [{}, { helps: 'w' }, { status: 'away' }]) {
          await says(more);
          seen.push(told()[1]);
        }
        return [theirs.of('error').map(({ code }) => code), seen];"""
    )
    none = [["helping", None], ["helping", "w"], ["away", None]]
    assert result == [["bad-message"] * 3, none]


def test_a_burst_of_changes_comes_as_few_messages_and_each_builds_on_the_one_before(run):
    result = run(
        """const host = await open();
        const mine = await page(host);
        for (let id = 0; id < 12; id++) {
          mine.end.receive({ type: 'job.submit', id, ...asked({ seed: id }) });
        }
        await quiet();
        await passes(1000);
        const changes = mine.of('room.changed');
        let { revision } = mine.sent[0];
        const chained = changes.every((change) => {
          const follows = change.since === revision;
          ({ revision } = change);
          return follows;
        });
        const seen = new Set(changes.flatMap(({ jobs }) => jobs.map(({ id }) => id)));
        await mine.says({ type: 'peer.beat', revision });
        const current = mine.last('peer.beat').revision === revision;
        return [changes.length, chained, seen.size, current];"""
    )
    count, *rest = result
    assert count <= 3
    assert rest == [True, 12, True]


def test_after_a_resync_a_page_has_everything_again(run):
    first, second = run(
        """const host = await open();
        const mine = await page(host);
        await mine.asks('job.submit', asked());
        await mine.says({ type: 'room.resync' });
        return mine.of('room.state');"""
    )
    assert second["revision"] > first["revision"]
    assert [job["prompt"] for job in second["jobs"]] == ["a rocket"]


def test_a_silent_page_is_gone_after_10_seconds_and_the_hosts_own_is_not(run):
    result = run(
        """const host = await open();
        const own = await page(host, ALICE, { here: true });
        const alive = await page(host, BOB), silent = await worker(host, CHARLIE);
        await own.asks('job.submit', asked());
        const lease = await silent.claims();
        for (let s = 0; s < 12; s++) {
          await passes(1000);
          await alive.says({ type: 'peer.beat', revision: 0 });
        }
        const held = host.queue.holds({ ...lease, worker: silent.id });
        return [own.closed, alive.closed, silent.closed, lease.kind,
                alive.last('room.peers').peers.length, held,
                own.last('room.changed').room.workers.length];"""
    )
    assert result == [None, None, 4000, "encode", 2, False, 0]


def test_a_machine_that_slept_takes_nobody_for_gone_and_no_lease_back(run):
    result = run(
        """const host = await open();
        const tab = await worker(host);
        await tab.asks('job.submit', asked());
        const lease = await tab.claims();
        clock.ms += 600_000;
        await passes(6000);
        return [tab.closed, tab.of('work.lost').length, host.queue.workers().length];"""
    )
    assert result == [None, 0, 1]


def test_a_late_lease_is_taken_back_and_said_to_the_tab(run):
    result = run(
        """const host = await open();
        const tab = await worker(host);
        await tab.asks('job.submit', asked());
        const lease = await tab.claims();
        for (let s = 0; s < 36; s++) {
          await passes(1000);
          await tab.says({ type: 'peer.beat', revision: 0 });
        }
        return [tab.closed, lease, tab.of('work.lost')];"""
    )
    closed, lease, [lost] = result
    assert closed is None
    assert lost == {
        "type": "work.lost", "chunk": lease["chunk"], "attempt": lease["attempt"], "code": "lost",
    }  # fmt: skip


MALFORMED = [
    ("[]", "not-an-object"), ("'hello'", "not-an-object"), ("null", "not-an-object"),
    ("{}", "unknown-type"), ("{ type: 7 }", "unknown-type"),
    ("{ type: 'nonsense' }", "unknown-type"), ("{ type: 'peer.nonsense' }", "unknown-type"),
    ("{ type: 'room.nonsense', id: 1 }", "unknown-type"),
    ("{ type: 'job.toString', id: 1 }", "unknown-type"),
    ("{ type: '__proto__.x' }", "unknown-type"), ("{ type: 'peer.beat' }", "bad-message"),
    ("{ type: 'peer.beat', revision: -1 }", "bad-message"),
    ("{ type: 'peer.beat', revision: '1' }", "bad-message"),
    ("{ type: 'peer.beat', revision: 1, x: 'y'.repeat(5000) }", "too-long"),
    ("{ type: 'job.submit', id: 1, x: 'y'.repeat(33000) }", "too-long"),
    ("{ type: 'job.submit', request: { prompt: 'a' } }", "bad-message"),
    ("{ type: 'job.cancel', id: 'i'.repeat(65) }", "bad-message"),
    ("{ type: 'work.claim' }", "not-a-worker"),
    ("{ type: 'work.nonsense' }", "not-a-worker"),
    ("{ type: 'work.device' }", "not-a-worker"),
    ("{ ...hello, key: 'x' }", "bad-message"),
    ("{ ...hello, device: 'two\\nlines' }", "bad-message"),
    ("{ ...hello, packages: [] }", "bad-message"),
    ("{ ...hello, packages: 'abc' }", "bad-message"),
    ("{ ...hello, packages: Array(17).fill(PACKAGE) }", "bad-message"),
]  # fmt: skip


def test_a_message_that_is_none_is_answered_with_an_error_and_nothing_else_happens(run):
    messages = ", ".join(message for message, _ in MALFORMED)
    answers = run(
        f"""const host = await open();
        const mine = await page(host);
        const before = host.queue.revision;
        const answers = [];
        for (const message of [{messages}]) {{
          const count = mine.sent.length;
          clock.ms += 2000;
          await mine.says(message);
          const [answer, ...more] = mine.sent.slice(count);
          await mine.says({{ type: 'peer.beat', revision: 0 }});
          answers.push([answer, more.length, host.queue.revision - before, mine.sent.at(-1).type]);
        }}
        return answers;"""
    )
    for (message, code), (answer, more, changed, beat) in zip(MALFORMED, answers, strict=True):
        assert (answer["type"], answer["code"]) == ("error", code), message
        assert answer["detail"], message
        assert (more, changed, beat) == (0, 0, "peer.beat"), message


def test_a_flood_of_messages_or_bytes_ends_the_wire(run):
    result = run(
        """const host = await open();
        const one = await page(host), two = await page(host), patient = await page(host);
        for (let i = 0; i < 70; i++) one.end.receive({ type: 'peer.beat', revision: 0 });
        for (let i = 0; i < 300; i++) two.end.receiveBytes(new ArrayBuffer(2 ** 18));
        for (let i = 0; i < 70; i++) {
          clock.ms += 50;
          await patient.says({ type: 'peer.beat', revision: 0 });
        }
        return [one.closed, two.closed, patient.closed, host.peers().length];"""
    )
    assert result == [4008, 4008, None, 1]


def test_the_hosts_own_page_may_ask_as_often_as_it_likes(run):
    result = run(
        """const host = await open();
        const own = await page(host, ALICE, { here: true });
        for (let i = 0; i < 300; i++) own.end.receive({ type: 'peer.beat', revision: 0 });
        await quiet();
        return [own.closed, own.of('peer.beat').length];"""
    )
    assert result == [None, 300]


def test_a_peer_that_connects_again_takes_the_place_of_its_broken_wire(run):
    result = run(
        """const host = await open();
        const first = await worker(host, BOB, { peer: 'bob', name: ' Bob\\n the\\u202e builder ' });
        await first.asks('job.submit', asked());
        const lease = await first.claims();
        const second = await worker(host, BOB, { peer: 'bob' });
        const count = first.sent.length;
        const again = await second.claims();
        await first.says({ type: 'room.resync' });
        return [first.of('room.peers')[0].peers[0].name, first.sent.length - count,
                second.last('room.peers').peers.length, again.attempt - lease.attempt];"""
    )
    assert result == ["Bob the builder", 0, 1, 1]


def test_another_tab_goes_on_with_the_state_and_its_blobs(run):
    result = run(
        """const readings = [];
        const host = await open({ onRead: ({ revision }) => readings.push(revision) });
        const tab = await worker(host, BOB), mine = await page(host);
        await mine.asks('room.title', { title: 'Ours' });
        const { job } = await tab.asks('job.submit', asked());
        const lease = await tab.worksUntil('denoise');
        await tab.steps(lease, 1, { latent: latent(1) });
        await passes(50);
        const state = JSON.parse(JSON.stringify(host.state()));
        const blobs = new Blobs({ now });
        for (const name of host.queue.blobs()) {
          await blobs.adopt(name, await host.blobs.get(name));
        }
        const options = { room: 'kitchen', models: [tiny], now, timers, blobs };
        const next = RoomHost.restore(state, options);
        const theirs = await worker(next, CHARLIE);
        const again = await theirs.claims();
        const sent = theirs.tensors();
        const bob = await page(next, BOB);
        const cancelled = await bob.asks('job.cancel', { job: job.id });
        const { room, revision } = theirs.of('room.state')[0];
        const owner = await clientLabel(ALICE);
        const other = { ...state, version: 3 };
        let refused;
        try { RoomHost.restore(other, { models: [] }); } catch (error) { refused = error.name; }
        return [again.job === job.id, again.start, again.attempt - lease.attempt,
                sent.latent.data[0], cancelled.type, room.title, room.owner === owner,
                revision > readings.at(-1), readings.length > 0, refused];"""
    )
    assert result == [True, 1, 1, 1, "answer", "Ours", True, True, True, "RangeError"]


def test_a_room_that_was_closed_is_there_again_and_one_tab_alone_has_it(run):
    result = run(
        """const own = { room: `room-${Math.random()}`, client: ALICE, models: [tiny] };
        const host = await RoomHost.open(own);
        const tab = await worker(host);
        const answer = await tab.asks('job.submit', asked());
        const elsewhere = await RoomHost.open(own).then(() => null, ({ code }) => code);
        const lease = await tab.worksUntil('denoise');
        await tab.steps(lease, 1, { latent: latent(5) });
        await host.close();
        const again = await RoomHost.open({ ...own, client: BOB });
        const theirs = await worker(again, BOB);
        const [job] = theirs.of('room.state')[0].jobs;
        const next = await theirs.claims();
        const sent = theirs.tensors();
        await again.close();
        return [answer.kept, elsewhere, job.id === answer.job.id, next.start, sent.latent.data[0],
                again.owner === await clientLabel(ALICE), tab.of('error').length];"""
    )
    assert result == [True, "held-elsewhere", True, 1, 5, True, 0]


def test_timers_of_a_host_go_on_while_those_of_its_page_are_held_up(run):
    result = run(
        """const { HostTimers } = await import('/static/js/work/host-timers.js');
        const { setTimeout } = window;
        window.setTimeout = window.setInterval = () => 0; // as in a hidden tab
        const hosts = new HostTimers();
        const ran = [];
        const callOff = hosts.every(20, () => ran.push('every'));
        hosts.after(30, () => ran.push('never'))();
        hosts.after(40, () => ran.push('after'));
        const began = performance.now();
        while (ran.length < 4 && performance.now() - began < 9000) await turn();
        callOff();
        const count = ran.length;
        await new Promise((resolve) => hosts.after(100, resolve));
        hosts.close();
        window.setTimeout = setTimeout;
        return [ran.length - count, [...new Set(ran)].sort()];"""
    )
    assert result == [0, ["after", "every"]]


def test_who_attaches_says_who_it_is(run):
    result = run(
        """const host = await open();
        return [{ peer: 'p', client: 'short' }, { peer: '', client: ALICE }, { client: ALICE }]
          .map((who) => { try { host.attach({}, who); } catch (error) { return error.name; } });"""
    )
    assert result == ["TypeError"] * 3


# What people do --------------------------------------------------------------------------------
def test_a_job_is_taken_once_and_belongs_to_whoever_asked(run):
    result = run(
        """const host = await open();
        const owner = await page(host), bob = await page(host, BOB), again = await page(host, BOB),
              charlie = await page(host, CHARLIE);
        const job = '12345678-1234-1234-1234-123456789abc';
        const first = await bob.asks('job.submit', { ...asked(), job });
        const second = await again.asks('job.submit', { ...asked(), job });
        const stranger = await charlie.asks('job.cancel', { job });
        const forged = await charlie.asks('job.submit', { ...asked(), job });
        const none = await charlie.asks('job.cancel', { job: 'x' });
        const mine = await again.asks('job.cancel', { job });
        const twice = await bob.asks('job.cancel', { job });
        const other = (await bob.asks('job.submit', asked())).job;
        const byOwner = await owner.asks('job.cancel', { job: other.id });
        return [first, second.job.id === job, stranger, forged.code, none.code, mine, twice.type,
                byOwner.type, host.queue.job(job).state, await clientLabel(BOB)];"""
    )
    first, same, stranger, forged, none, mine, twice, by_owner, state, label = result
    assert (first["type"], first["room_paused"], first["kept"]) == ("answer", False, False)
    assert first["job"]["client"] == label
    assert same
    assert stranger["type"] == "error"
    assert (stranger["code"], stranger["field"]) == ("no-such-job", None)
    assert stranger["detail"] == "There is no such job, or it is not yours to change."
    assert (forged, none) == ("no-such-job", "no-such-job")
    assert (mine["type"], twice, by_owner, state) == ("answer", "answer", "answer", "cancelled")


def test_a_request_that_is_wrong_is_refused_field_by_field(run):
    answer = run(
        """const host = await open();
        return (await page(host)).asks('job.submit', asked({ prompt: '', width: 65, steps: 0 }));"""
    )
    assert (answer["type"], answer["code"], answer["field"]) == ("error", "prompt-empty", "prompt")
    assert [(error["field"], error["code"]) for error in answer["errors"]] == [
        ("prompt", "prompt-empty"), ("width", "side-not-multiple"), ("steps", "steps-out-of-range"),
    ]  # fmt: skip


def test_a_client_and_a_room_may_have_so_many_jobs(run):
    mine, room = run(
        """const host = await open();
        const ask = async (who, count) => {
          let answer;
          for (let i = 0; i < count; i++) {
            clock.ms += 60;
            answer = await who.asks('job.submit', asked());
          }
          return answer;
        };
        const bob = await page(host, BOB);
        const full = await ask(bob, 21);
        for (const digit of '4567') await ask(await page(host, digit.repeat(32)), 20);
        return [full, await ask(await page(host, CHARLIE), 1)];"""
    )
    assert (mine["code"], mine["detail"]) == (
        "client-full", "You have 20 unfinished jobs; at most 20 are allowed.",
    )  # fmt: skip
    assert (room["code"], room["detail"]) == (
        "room-full", "This room has 100 unfinished jobs; at most 100 are allowed.",
    )  # fmt: skip


def test_what_failed_is_asked_for_again_with_its_seed_or_dismissed(run):
    result = run(
        """const host = await open();
        const tab = await worker(host), bob = await page(host, BOB);
        const fails = async () => {
          const { job } = await bob.asks('job.submit', asked({ num_images: 2 }));
          await tab.worksUntil('decode').then((lease) => tab.completes(lease));
          for (let i = 0; i < 3; i++) {
            if (host.queue.job(job.id).state === 'failed') break;
            const other = await worker(host);
            const lease = await other.claims();
            await other.says({ ...other.named(lease, 'work.fail'), fault: 'computation-failed' });
            other.end.close();
          }
          return host.queue.job(job.id);
        };
        const job = await fails();
        const early = await bob.asks('picture.delete', { job: job.id, index: 5 });
        const again = await bob.asks('job.retry', { job: job.id });
        const left = host.queue.job(job.id);
        const done = await bob.asks('job.cancel', { job: job.id });
        await bob.asks('job.cancel', { job: again.job.id });
        const picture = await bob.asks('picture.delete', { job: job.id, index: 0 });
        const second = await fails();
        const dismissed = await bob.asks('job.dismiss', { job: second.id });
        const twice = await bob.asks('job.dismiss', { job: second.id });
        return [job, early, again, left, done, picture.type, host.queue.job(job.id), dismissed.type,
                twice.code, host.queue.job(second.id).images.length];"""
    )
    job, early, again, left, done, picture, gone, dismissed, twice, images = result
    assert job["state"] == "failed"
    assert job["error"]["code"] == "computation-failed"
    assert (early["code"], early["detail"]) == (
        "no-such-picture", "This job has no picture with this number.",
    )  # fmt: skip
    assert (again["job"]["seed"], again["job"]["num_images"]) == (8, 1)
    assert [image["state"] for image in left["images"]] == ["done"]
    assert (done["code"], done["detail"]) == (
        "already-ended", "This job is failed: there is nothing left to cancel.",
    )  # fmt: skip
    assert (picture, gone) == ("answer", None)
    assert (dismissed, twice, images) == ("answer", "no-such-job", 1)


def test_an_unfinished_picture_is_not_deleted(run):
    answer = run(
        """const host = await open();
        const mine = await page(host);
        const { job } = await mine.asks('job.submit', asked());
        return mine.asks('picture.delete', { job: job.id, index: 0 });"""
    )
    assert (answer["code"], answer["detail"]) == (
        "not-finished", "This picture is not finished: cancel its job instead.",
    )  # fmt: skip


def test_the_owner_alone_names_the_room_and_pauses_it(run):
    result = run(
        """const host = await open();
        const mine = await page(host), tab = await worker(host, BOB);
        const refused = [await tab.asks('room.title', { title: 'x' }),
          await tab.asks('room.pause', { paused: true })].map(({ code }) => code);
        const wrong = [await mine.asks('room.title', { title: 7 }),
          await mine.asks('room.pause', { paused: 'yes' })].map(({ code, field }) => [code, field]);
        await mine.asks('room.title', { title: '  Our \\0\\n kitchen ' + '🚀'.repeat(90) });
        await mine.asks('room.pause', { paused: true });
        await mine.asks('job.submit', asked());
        await passes(50);
        const { room } = tab.last('room.changed');
        const paused = await tab.claims();
        await mine.asks('room.pause', { paused: false });
        return [refused, wrong, room.title, room.paused, paused ?? null,
                tab.last('work.lease')?.kind];"""
    )
    refused, wrong, title, paused, lease, kind = result
    assert refused == ["not-found", "not-found"]
    assert wrong == [["wrong-type", "title"], ["wrong-type", "paused"]]
    assert title == ("Our kitchen " + "🚀" * 90)[:80]
    assert (paused, lease, kind) == (True, None, "encode")


def test_pictures_older_than_the_page_shows_come_when_they_are_asked_for(run):
    result = run(
        """const host = await open();
        const mine = await page(host);
        host.queue.arrive({ id: 'w', client: 'w', name: 'w', device: 'w', models: ['tiny'] });
        for (let i = 0; i < 330; i++) {
          host.queue.submit({ prompt: `${i}`, model: 'tiny', width: 16, height: 16, steps: 1,
            guidance: 1, seed: i, num_images: 1 }, { client: 'w', id: `job${i}` });
          for (let lease; (lease = host.queue.claim('w')) !== null;) {
            host.queue.complete(lease, 'e'.repeat(64), 0);
          }
        }
        await mine.says({ type: 'room.resync' });
        const { jobs, older } = mine.last('room.state');
        const first = await mine.asks('room.older', { before: older });
        const second = await mine.asks('room.older', { before: first.older });
        const wrong = await mine.asks('room.older', { before: 'nowhere' });
        return [...[{ jobs }, first, second].map(({ jobs }) => [jobs[0].prompt, jobs.length]),
                second.older, wrong.code, wrong.field];"""
    )
    assert result == [["130", 200], ["30", 100], ["0", 30], None, "invalid-value", "before"]


def test_files_are_sent_to_pages_that_ask_for_what_the_queue_names(run):
    result = run(
        """const host = await open();
        const tab = await worker(host), mine = await page(host);
        await mine.asks('job.submit', asked());
        await tab.completes(await tab.worksUntil('decode'));
        const [name] = host.queue.blobs();
        const answer = await mine.asks('blob.get', { name });
        const size = mine.received.splice(0).reduce((sum, { length }) => sum + length, 0);
        const stray = await host.blobs.put(new Uint8Array(9));
        const refused = [await mine.asks('blob.get', { name: stray }),
          await mine.asks('blob.get', { name: 7 })].map(({ code }) => code);
        const large = await host.blobs.put(new Uint8Array(2 ** 24));
        host.queue.blobs = () => new Set([large]);
        const codes = [];
        for (let i = 0; i < 5; i++) codes.push((await mine.asks('blob.get', { name: large })).code);
        return [answer, size, refused, codes.at(-1), host.queue.job(tab.last('work.lease').job)
          .images[0].url === name];"""
    )
    answer, size, refused, flood, is_url = result
    assert (answer["type"], answer["bytes"]) == ("blob", size)
    assert size > 60
    assert refused == ["no-such-blob", "no-such-blob"]
    assert flood == "too-much"
    assert is_url
