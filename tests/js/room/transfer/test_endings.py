"""Every transfer ends on both sides, and then nothing of it is left."""

import pytest

# Two bare lines over fake channels, with a clock that the test moves.
LINES = """
const clock = new Clock();
const channels = fakes();
const lost = [];
const arrived = [];
const lines = channels.map((channel, n) => {
  const line = new TransferLine(channel, {
    kinds: new Map([[1, { most: 2 ** 24, ordered: true, short: true }], [2, { most: 2 ** 24 }]]),
    clock,
    deliver: ({ bytes, reference }) => arrived.push([n, reference, bytes.length]),
    lost: (kind, reference, error) => lost.push([n, kind, reference, error.code]),
    closed: (error) => { line.ended = error.code; },
  });
  return line;
});
const [a, b] = lines;
const empty = () => lines.every(({ unfinished: { sending, receiving, heldBytes } }) =>
  sending + receiving + heldBytes === 0);
await null; // they listen
"""


def test_a_transfer_without_progress_is_an_error_on_both_sides_after_15_seconds(run):
    result = run(
        LINES
        + """let passed = 0;
        channels[0].through = (frame) => {
          passed += 1;
          if (passed === 3) channels.forEach((channel) => { channel.held = true; });
          return [frame];
        };
        const sending = codeOf(a.send(2, noise(2 ** 23), { reference: 5 }));
        await until(() => passed >= 3);
        await sleep(5);
        clock.pass(14000);
        const early = [a.ended, b.ended, lost.length, a.unfinished.sending];
        clock.pass(2000);
        const code = await sending;
        const before = lines.map(({ ended }) => ended);
        clock.pass(16000); // neither end has answered the other's last word
        return [early, code, lost, before, lines.map(({ ended }) => ended), empty()];""",
    )
    early, code, lost, before, after, nothing_left = result
    assert early == [None, None, 0, 1]
    assert code == "stalled"
    assert lost == [[1, 2, 5, "stalled"]]
    assert before == [None, None]
    assert "stalled" in after
    assert nothing_left


@pytest.mark.parametrize("ordered", [True, False])
def test_a_channel_that_swallows_everything_ends_both_sides(run, ordered):
    codes, ended, left, runs = run(
        LINES
        + """const kind = args[0] ? 1 : 2;
        const sent = [codeOf(a.send(kind, noise(300000))), codeOf(a.send(kind, noise(10))),
                      codeOf(b.send(kind, noise(200000)))];
        channels.forEach((channel) => {
          let passed = 0;
          channel.through = (frame) => ((passed += 1) > 2 ? [] : [frame]);
        });
        for (let i = 0; i < 40; i += 1) { clock.pass(1000); await sleep(1); }
        const ended = lines.map((line) => line.ended);
        return [await Promise.all(sent), ended, !empty(), clock.runs.size];""",
        ordered,
    )
    assert set(codes) <= {"stalled", "closed"}
    assert set(ended) <= {"stalled", "closed"}
    assert not left
    assert runs == 0


def test_what_gets_on_slowly_is_left_alone(run):
    codes, ended = run(
        LINES
        + """const sending = codeOf(a.send(2, noise(400000)));
        const queued = codeOf(a.send(1, noise(100)));
        channels.forEach((channel) => { channel.held = true; });
        for (let i = 0; i < 100 && !empty(); i += 1) {
          clock.pass(4000);
          for (const channel of channels) { // one frame each way
            const frame = channel.waiting.shift();
            if (frame) channel.other.hear(frame);
            channel.onbufferedamountlow?.();
          }
          await sleep(1);
        }
        return [await Promise.all([sending, queued]), lines.map(({ ended }) => ended)];""",
    )
    assert codes == ["fine", "fine"]
    assert ended == [None, None]


@pytest.mark.parametrize("after_frames", [0, 1, 5, 60])
def test_whoever_sends_may_give_up_at_any_time(run, after_frames):
    code, lost, again, left = run(
        LINES
        + """const stop = new AbortController();
        const enough = new DOMException('no more', 'AbortError');
        channels[0].through = (frame) => {
          if (channels[0].sent.length > args[0]) stop.abort(enough);
          return [frame];
        };
        if (args[0] === 0) channels[0].held = true;
        const sending = codeOf(a.send(2, noise(2 ** 23), { reference: 3, signal: stop.signal })
          .catch((error) => { throw error.name === 'AbortError' ? { code: 'aborted' } : error; }));
        if (args[0] === 0) {
          stop.abort(enough);
          channels[0].held = false;
          channels[0].go();
        }
        const code = await sending;
        const again = await codeOf(a.send(2, noise(1000), { reference: 4 }));
        await until(empty);
        return [code, lost, again, arrived.filter(([, reference]) => reference === 3).length];""",
        after_frames,
    )
    assert code == "aborted"
    assert lost in ([[1, 2, 3, "cancelled"]], [])
    assert again == "fine"
    assert left == 0


def test_whoever_receives_may_refuse_what_is_arriving(run):
    code, lost, blocks, again = run(
        LINES
        + """const sending = codeOf(a.send(2, noise(2 ** 24), { reference: 3 }));
        await until(() => b.unfinished.receiving);
        b.refuse(2, 3);
        const code = await sending;
        await until(empty);
        const blocks = channels[0].sent.filter((sent) => frames.parse(sent).type === frames.BLOCK);
        return [code, lost, blocks.length, await codeOf(a.send(2, noise(1000)))];"""
    )
    assert code == "cancelled"
    assert lost == [[1, 2, 3, "cancelled"]]
    assert blocks < 200  # of 257
    assert again == "fine"


def test_bytes_beyond_the_limit_of_their_kind_are_not_sent(run):
    assert run(
        LINES
        + """let code;
        try { a.send(2, new Uint8Array(2 ** 24 + 1)); } catch (error) { code = error.code; }
        return [code, channels[0].sent.length, empty()];"""
    ) == ["too-large", 0, True]


def test_what_came_whole_before_the_channel_closed_is_delivered(run):
    result = run(
        """const channels = fakes();
        const [a, b] = linked(channels);
        const bytes = noise(200000);
        a.link.sendBytes(bytes);
        a.link.send({ type: 'goodbye' });
        await until(() => channels[0].sent.length >= 7); // both are on their way
        channels[0].go();
        channels[1].onclose(); // while the digest of the bytes is computed
        await until(() => b.ended);
        const [first, second] = b.heard;
        return [b.heard.length, same(first, bytes), second.type, b.ended, nothingLeft(b)];"""
    )
    assert result == [2, True, "goodbye", "closed", True]


def test_a_connection_that_closes_in_the_middle_ends_everything(run):
    result = run(
        """const big = new Uint8Array(2 ** 24);
        const name = hex(await sha256(big));
        const [a, b] = linked(await connected(), { both: { provide: () => big } });
        const fetches = [codeOf(a.link.fetchBlob(name)), codeOf(b.link.fetchBlob(name))];
        b.link.sendBytes(big);
        await until(() => a.link.unfinished.heldBytes > 2 ** 24);
        connections[0].close();
        const codes = await Promise.all(fetches);
        await until(() => a.ended && b.ended);
        const late = [await codeOf(a.link.request({})), a.link.send({ type: 'x' }) ?? 'quiet'];
        return [codes, a.ended, b.ended, nothingLeft(a, b), a.heard.length, late];"""
    )
    assert result == [["closed", "closed"], "closed", "closed", True, 0, ["closed", "quiet"]]


def test_a_receiver_that_stands_still_is_noticed_in_15_seconds_of_real_time(run):
    codes, seconds, left, ended = run(
        """const big = new Uint8Array(2 ** 24);
        const name = hex(await sha256(big));
        const channels = await connected();
        const [a, b] = linked(channels, { both: { provide: () => big } });
        const fetching = codeOf(b.link.fetchBlob(name));
        await until(() => b.link.unfinished.heldBytes);
        a.link.sendBytes(noise(1000)); // waits in order, and behind nothing
        const began = performance.now();
        channels[1].onmessage = () => {}; // from now on b hears nothing
        const code = await fetching;
        const seconds = (performance.now() - began) / 1000;
        await until(() => a.ended && b.ended);
        return [[code, a.ended], seconds, !nothingLeft(a, b), b.ended];"""
    )
    assert codes[0] in ("stalled", "closed")
    assert codes[1] in ("stalled", "closed")
    assert 13 < seconds < 20
    assert not left
    assert ended in ("stalled", "closed")
