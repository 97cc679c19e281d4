"""One worker and two queues: where it is, and that nothing of one reaches it while it is at the
other. The other tab is played; the way to it is real in tests/js/test_one_room.py."""

import pytest

SCENE = """
let now = 1000, waits = false;
performance.now = () => now;
const timers = { list: [], every(ms, run) { this.list.push(run); return () => {}; } };
const pass = async (ms) => {
  now += ms;
  for (const run of timers.list) run();
  await new Promise((resolve) => setTimeout(resolve, 20));
};
const home = { sent: [], buffered: 0, send(m) { this.sent.push(m); },
               sendBytes(b) { this.sent.push(b.length); } };
const heard = [];
const worker = {
  connected() { heard.push('connected'); queues.send({ type: 'work.hello' }); },
  disconnected() { heard.push('disconnected'); },
  receive({ type }) { heard.push(type); },
  receiveBytes({ byteLength }) { heard.push(byteLength); },
};
// The holder at an exported page, at the other end of a channel in memory
const holders = new Map();
const holder = (id, { lets = true } = {}) => {
  const there = { asked: [], sent: [], link: null };
  const peer = {
    id, about: { queue: { holds: true, term: 1, copy: -1 } },
    async openChannel(label) {
      const ends = [0, 1].map(() => ({ readyState: 'open', bufferedAmount: 0 }));
      ends.forEach((end, at) => {
        end.send = (data) => queueMicrotask(() => ends[1 - at].onmessage?.({ data }));
        end.close = () => ends.forEach((each) => {
          if (each.readyState === 'closed') return;
          each.readyState = 'closed';
          queueMicrotask(() => each.onclose?.());
        });
      });
      there.label = label;
      there.link = new l.Link(ends[1], {
        receive: (message) => there.sent.push(message.type),
        answer: (question) => {
          if (!lets) throw Object.assign(new Error('no'), { code: 'not-holder' });
          there.asked.push(question);
          return { term: 1 };
        },
      });
      return ends[0];
    },
  };
  holders.set(id, peer);
  return there;
};
const network = { get peers() { return [...holders.values()]; } };
const queues = new m.TwoQueues(home, () => waits);
queues.employ(worker);
queues.connected();
let moves = 0;
queues.meets({ network, client: 'c'.repeat(32), timers, moved: () => { moves += 1; } });
const state = (...jobs) => ({ type: 'room.state', revision: 1, room: { paused: false },
  jobs: jobs.map((state, id) => ({ id: `${id}`, state })) });
const until = async (look) => {
  for (let i = 0; i < 300; i++) {
    if (look()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`not so: ${look}`);
};
const idle = () => queues.stated({ state: 'waiting' });
const away = async (there) => {
  await pass(0);
  await until(() => there.asked.length);
  there.link.send(state('queued'));
  idle();
  await pass(0);
  await pass(2500);
  await until(() => queues.isAway);
};
"""


@pytest.fixture
def run(module_page):
    def run_(body: str):
        module_page.reload()  # the clock is played
        return module_page.evaluate(
            "async () => { const m = await import('/static/js/work/two-queues.js');"
            " const l = await import('/static/js/room/link.js');" + SCENE + body + " }"
        )

    return run_


def test_it_goes_where_work_is_after_a_while_without_a_chunk_and_says_so_at_both(run):
    asked, label, sent, home, heard, moves = run(
        """const there = holder('b');
        await pass(0);
        await until(() => there.asked.length);
        there.link.send(state('done', 'running'));
        idle();
        await pass(1900);
        if (queues.isAway) throw new Error('too early');
        await pass(200);
        await until(() => there.sent.includes('work.hello'));
        return [there.asked, there.label, there.sent, home.sent, heard, moves];"""
    )
    assert asked == [{"type": "queue.enter", "client": "c" * 32, "copies": False}]
    assert (label, moves) == ("queue", 1)
    assert "work.hello" in sent
    assert [message["type"] for message in home] == ["work.hello", "work.goodbye"]
    assert heard == ["connected", "connected"]


@pytest.mark.parametrize(
    "state",
    ["state('done', 'failed')", "{ ...state('queued'), room: { paused: true } }", "state()"],
    ids=["nothing waits", "paused", "empty"],
)
def test_where_nothing_is_to_be_done_it_does_not_go(run, state):
    assert not run(
        f"""const there = holder('b');
        await pass(0);
        await until(() => there.asked.length);
        there.link.send({state});
        idle();
        for (let i = 0; i < 5; i += 1) await pass(1000);
        return queues.isAway;"""
    )


def test_a_worker_that_has_a_chunk_stays(run):
    assert not run(
        """const there = holder('b');
        await pass(0);
        await until(() => there.asked.length);
        there.link.send(state('queued'));
        idle();
        queues.stated({ state: 'computing' });
        for (let i = 0; i < 5; i += 1) await pass(1000);
        return queues.isAway;"""
    )


def test_nothing_of_the_queue_that_it_left_reaches_it(run):
    heard = run(
        """const there = holder('b');
        await away(there);
        heard.length = 0;
        queues.receive({ type: 'work.lease' });
        queues.receiveBytes(new ArrayBuffer(8));
        queues.disconnected();
        queues.connected();
        there.link.send({ type: 'work.lease' });
        there.link.sendBytes(new Uint8Array(16));
        await until(() => heard.length === 2);
        waits = true;
        await pass(0);
        const before = queues.isAway; // it holds that chunk
        idle();
        await pass(0);
        const after = queues.isAway;
        there.link.send({ type: 'work.lease' });
        there.link.sendBytes(new Uint8Array(24));
        await pass(0);
        queues.receive({ type: 'work.welcome' });
        return [heard, before, after, there.sent.includes('work.goodbye')];"""
    )
    assert heard == [["work.lease", 16, "connected", "work.welcome"], True, False, True]


def test_when_the_work_there_ends_or_its_holder_goes_it_comes_back(run):
    assert run(
        """const there = holder('b');
        await away(there);
        there.link.send({ type: 'room.changed', since: 1, revision: 2, room: { paused: false },
          jobs: [{ id: '0', state: 'done' }], gone: [] });
        await pass(0);
        const computing = queues.isAway;
        idle();
        await pass(0);
        return [computing, queues.isAway];"""
    ) == [True, False]
    assert not run(
        """const there = holder('b');
        await away(there);
        holders.clear();
        there.link.close();
        await until(() => !queues.isAway);
        return queues.isAway;"""
    )


def test_a_holder_that_dismisses_it_is_left_alone_and_another_one_is_not(run):
    assert run(
        """const there = holder('b');
        await away(there);
        there.link.send({ type: 'work.dismissed', code: 'unknown-package', detail: '' });
        await until(() => !queues.isAway);
        idle();
        for (let i = 0; i < 5; i += 1) await pass(1000);
        const again = queues.isAway;
        holders.clear();
        const other = holder('d');
        await away(other);
        return [again, heard.includes('work.dismissed'), queues.isAway];"""
    ) == [False, False, True]


def test_a_holder_that_does_not_let_it_in_is_asked_again_later(run):
    assert run(
        """const there = holder('b', { lets: false });
        let asked = 0;
        const { openChannel } = holders.get('b');
        holders.get('b').openChannel = (label) => { asked += 1; return openChannel(label); };
        const counts = [];
        await pass(0);
        for (const ms of [1000, 3000, 2000]) {
          await new Promise((resolve) => setTimeout(resolve, 100));
          counts.push(asked);
          await pass(ms);
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
        return [...counts, asked, queues.isAway];"""
    ) == [1, 1, 1, 2, False]


def test_what_was_lost_on_the_way_is_asked_for(run):
    assert "room.resync" in run(
        """const there = holder('b');
        await pass(0);
        await until(() => there.asked.length);
        there.link.send(state('queued'));
        there.link.send({ type: 'room.changed', since: 7, revision: 8, room: {}, jobs: [],
                          gone: [] });
        await until(() => there.sent.includes('room.resync'));
        return there.sent;"""
    )
