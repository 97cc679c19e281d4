"""A link: questions with answers, blobs by their name, and the wire of a tab that computes."""

import pytest

ASKED = """
const errors = { ended: null };
const ask = async (serve, body) => {
  const ends = linked(fakes(), [{}, serve]);
  const result = await body(ends[0].link, ends[1].link, ends);
  await until(() => nothingLeft(...ends));
  return result;
};
"""


def test_answers_find_their_questions_in_whatever_order_they_come(run):
    result = run(
        ASKED
        + """return ask({ answer: async ({ n }) => { await sleep(30 - 10 * n); return { n }; } },
          (asker) => Promise.all([0, 1, 2].map((n) => asker.request({ n }))));"""
    )
    assert result == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_what_the_other_side_throws_is_known_by_its_code(run):
    result = run(
        ASKED
        + """class Refused extends Error { code = 'not-the-holder'; }
        const told = ({ code, message, name }) => [code, message, name];
        const threw = await ask({ answer: () => { throw new Refused('It is somebody else.'); } },
          (asker) => asker.request({}).catch(told));
        const none = await ask({}, (asker) => asker.request({}).catch(told));
        const blob = await ask({}, (asker) => asker.fetchBlob('a'.repeat(64)).catch(told));
        return [threw, none[0], blob[0]];"""
    )
    assert result == [
        ["not-the-holder", "It is somebody else.", "TransferError"], "not-served", "not-served",
    ]  # fmt: skip


def test_an_answer_that_is_late_is_not_taken_and_the_next_question_is_answered(run):
    result = run(
        ASKED
        + """return ask({ answer: async ({ ms }) => { await sleep(ms); return { ms }; } },
          async (asker) => {
            const stop = new AbortController();
            const stopped = codeOf(asker.request({ ms: 60 }, { signal: stop.signal }));
            stop.abort(Object.assign(new Error('no'), { code: 'mine' }));
            const late = await codeOf(asker.request({ ms: 60 }, { timeoutMs: 15 }));
            const next = await asker.request({ ms: 80 });
            return [await stopped, late, next];
          });"""
    )
    assert result == ["mine", "timeout", {"ms": 80}]


def test_messages_that_are_none_end_the_link(run):
    codes = run(
        """const codes = [];
        const texts = ['', '{', '[]', 'null', '7', '"x"', '{}', '{"type": 3}', '\\xff'];
        for (const [n, text] of texts.entries()) {
          const [stranger, channel] = fakes();
          const [end] = linked([channel]);
          await null;
          const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
          channel.hear(frames.whole(1, 1, 0, bytes));
          codes.push(end.ended, end.heard.length);
        }
        return codes;"""
    )
    assert codes == ["bad-message", 0] * 9


def test_blobs_come_several_at_once_and_few_at_a_time(run):
    most, right, missing, wrong, bad_name = run(
        ASKED
        + """const blobs = new Map();
        for (let n = 0; n < 10; n += 1) {
          const blob = noise(n * 60000, n + 1);
          blobs.set(hex(await sha256(blob)), blob);
        }
        const absent = 'b'.repeat(64);
        const false_ = 'c'.repeat(64);
        let [now, most] = [0, 0];
        const provide = async (name) => {
          now += 1;
          most = Math.max(most, now);
          await sleep(5);
          now -= 1;
          return name === false_ ? noise(100) : blobs.get(name) ?? null;
        };
        return ask({ provide }, async (asker) => {
          const missing = codeOf(asker.fetchBlob(absent));
          const wrong = codeOf(asker.fetchBlob(false_));
          const got = await Promise.all([...blobs.keys()].map((name) => asker.fetchBlob(name)));
          const right = [...blobs.values()].every((blob, n) => same(blob, got[n]));
          return [most, right, await missing, await wrong, await codeOf(asker.fetchBlob('xyz'))];
        });"""
    )
    assert right
    assert 2 <= most <= 4
    assert missing == "not-found"
    assert wrong == "corrupt"
    assert bad_name == "TypeError"


def test_what_a_channel_has_kept_is_heard_and_answered(run):
    """As the channel between two tabs does, whose other end may be made first."""
    answer = run(
        """const [one, two] = fakes();
        const early = [];
        let listener = null;
        two.hear = (data) => (listener ? listener({ data }) : early.push({ data }));
        Object.defineProperty(two, 'onmessage', { set(listen) {
          listener = listen;
          for (const event of early.splice(0)) listen(event);
        } });
        const [a] = linked([one]);
        const asking = a.link.request({ n: 4 });
        await until(() => early.length);
        const b = new Link(two, { answer: ({ n }) => ({ n, here: b instanceof Link }) });
        return asking;"""
    )
    assert answer == {"n": 4, "here": True}


@pytest.mark.parametrize("kept_ms", [10, 100, 1000])
def test_a_question_passes_a_long_transfer_on_any_channel(run, kept_ms):
    """A frame of 64 KiB leaves every so many ms: what lies before a question is worth about 200 ms,
    and never more than 1 MiB."""
    before = run(
        """const channels = fakes();
        const clock = new Clock();
        const big = new Uint8Array(2 ** 24);
        const [a, b] = linked(channels, { both: {
          clock, provide: () => big, answer: () => ({}) } });
        const fetching = codeOf(b.link.fetchBlob(hex(await sha256(big))));
        await until(() => channels[0].sent.length);
        channels[0].held = true;
        const leave = () => {
          clock.ms += args[0];
          const frame = channels[0].waiting.shift();
          if (frame) b_hears(frame);
          if (channels[0].bufferedAmount <= channels[0].bufferedAmountLowThreshold) {
            channels[0].onbufferedamountlow();
          }
        };
        const b_hears = (frame) => channels[1].hear(frame);
        for (let i = 0; i < 60; i += 1) { leave(); await sleep(1); }
        const asking = codeOf(a.link.request({}));
        const isAsked = (frame) => frames.parse(frame).type === frames.WHOLE;
        let before = 0;
        for (; !(channels[0].waiting[0] && isAsked(channels[0].waiting[0])); before += 1) {
          leave();
          await sleep(1);
        }
        a.link.close();
        await Promise.all([fetching, asking]);
        return before;""",
        kept_ms,
    )
    assert before <= {10: 17, 100: 5, 1000: 3}[kept_ms]


def test_large_blobs_wait_for_each_other_without_a_timeout(run):
    """Two of 60 MiB are more than one peer may have unfinished at another, beside the rest."""
    codes, most = run(
        """const big = new Uint8Array(60 * 2 ** 20);
        const name = hex(await sha256(big));
        const [one, two] = fakes();
        one.through = (frame) => { // 60 MiB take 1.6 s here, and the second blob begins after them
          const [began, ms] = [performance.now(), frame.byteLength / 40000];
          while (performance.now() - began < ms);
          return [frame];
        };
        const [a, b] = linked([one, two], [{ provide: () => big }, {}]);
        const fetches = [1, 2].map(() => codeOf(b.link.fetchBlob(name, { timeoutMs: 900 })));
        let [done, most] = [false, 0];
        Promise.all(fetches).then(() => { done = true; });
        for (; !done; await sleep(1)) most = Math.max(most, b.link.unfinished.heldBytes);
        return [await Promise.all(fetches), most];"""
    )
    assert codes == ["fine", "fine"]
    assert most == 60 * 2**20


def test_a_blob_that_is_not_wanted_any_more_stops_on_the_way(run):
    code, at, left, message = run(
        """const big = new Uint8Array(2 ** 24);
        const name = hex(await sha256(big));
        const [a, b] = linked(await connected(), { both: { provide: () => big } });
        const stop = new AbortController();
        const fetching = codeOf(a.link.fetchBlob(name, { signal: stop.signal }));
        const waiting = Array.from({ length: 6 }, () =>
          codeOf(a.link.fetchBlob(name, { signal: stop.signal })));
        await until(() => a.link.unfinished.heldBytes);
        stop.abort(Object.assign(new Error('no'), { code: 'stopped' }));
        const codes = await Promise.all([fetching, ...waiting]);
        const at = b.link.buffered;
        await until(() => nothingLeft(a, b));
        b.link.send({ type: 'still here' });
        await until(() => a.heard.length);
        return [codes, at, b.link.buffered, a.heard[0].type];"""
    )
    assert code == ["stopped"] * 7
    assert at > 0
    assert left == 0
    assert message == "still here"


def test_too_many_questions_at_once_are_refused_and_not_kept(run):
    busy, answered = run(
        ASKED
        + """let go;
        const gate = new Promise((resolve) => { go = resolve; });
        return ask({ answer: async () => { await gate; return {}; } }, async (asker) => {
          const all = Array.from({ length: 300 }, () => codeOf(asker.request({})));
          const busy = await Promise.race(all);
          go();
          const codes = await Promise.all(all);
          return [busy, codes.filter((code) => code === 'fine').length];
        });"""
    )
    assert busy == "busy"
    assert answered == 256


def test_a_tab_computes_over_a_link_as_over_the_rooms_socket(run):
    """TabWorker at one end, WorkLine at the other, which leases a chunk that starts from 1.5 MB."""
    result = run(
        """const { TabWorker } = await import('/static/js/work/tab-worker.js');
        const { WorkLine } = await import('/static/js/work/work-line.js');
        const { toBytes, fromBytes } = await import('/static/js/engine/safetensors.js');
        const channels = await connected();
        const data = Float32Array.from({ length: 375000 }, (_, n) => n);
        const latent = { shape: [6, 250, 250], data };
        const texts = { prompt: { shape: [2, 4], data: new Float32Array(8).fill(3) } };
        const engine = { device: { description: 'GPU', software: false }, packageId: 'p',
          about: { text_dim: 4 }, close() {},
          denoise: async ({ latent, start, stop }, { onStep }) => {
            const preview = { width: 250, height: 250, rgba: new Uint8ClampedArray(250000) };
            for (let step = start + 1; step <= stop; step += 1) onStep({ step, latent, preview });
            return latent.map((number) => number + 1);
          } };
        const heard = [];
        let worker = null;
        const tab = new Link(channels[0], {
          receive: (message) => worker.receive(message),
          receiveBytes: (bytes) => worker.receiveBytes(bytes),
        });
        worker = new TabWorker(engine, { wire: tab, key: 'k', onState() {} });
        const take = (one) => {
          if (!one) return;
          heard.push([one.message.type, one.bytes.length]);
          if (one.message.type === 'work.hello') {
            line.say({ type: 'work.welcome', worker: 'w', renew_seconds: 10 });
          } else if (one.message.type === 'work.claim' && heard.length < 4) {
            line.say({ type: 'work.lease', chunk: 1, attempt: 1, kind: 'denoise', job: 'j',
              image: 0, seed: 0, start: 2, stop: 4,
              settings: { steps: 8, guidance: 1, prompt: '' } }, toBytes({ latent, ...texts }));
          } else if (one.message.type === 'work.complete') {
            result = fromBytes(one.bytes).latent.data;
            line.say({ type: 'work.done', chunk: 1, attempt: 1 });
          }
        };
        let result = null;
        const host = new Link(channels[1], {
          receive: (message) => take(line.hear(message)),
          receiveBytes: (bytes) => take(line.hearBytes(bytes)),
        });
        const line = new WorkLine(host);
        worker.connected();
        await until(() => heard.filter(([type]) => type === 'work.claim').length === 2);
        worker.stop();
        await until(() => heard.at(-1)[0] === 'work.goodbye');
        return [heard.map(([type]) => type), result.every((number, n) => number === n + 1)];"""
    )
    types, right = result
    assert types[:2] == ["work.hello", "work.claim"]
    assert set(types[2:-3]) <= {"work.step"}
    assert types[-3:] == ["work.complete", "work.claim", "work.goodbye"]
    assert right
