"""What arrives is what was sent or nothing, whatever happens to frames on the way."""

import pytest

# One exchange of everything that a link does, over frames so small that it takes many. `spoil`
# makes the `through` of one end's channel; `errors` are the codes of what went wrong.
EXCHANGE = """
const exchange = async (spoil, seed) => {
  const random = randomFrom(seed);
  const channels = fakes();
  channels.forEach((channel) => { channel.maxMessageBytes = 120; });
  const clock = new Clock();
  const blob = noise(250, seed);
  const name = hex(await sha256(blob));
  const bytes = noise(310, seed + 1);
  const ends = linked(channels, { both: {
    clock, provide: () => blob, answer: ({ n }) => ({ n: n + 1, long: 'x'.repeat(200) }),
  } });
  channels[random() % 2].through = spoil(random);
  const [a, b] = ends;
  const long = { type: 'long', text: 'y'.repeat(300) };
  const sent = [{ type: 'first' }, bytes, long, { type: 'last' }];
  for (const { link } of ends) {
    for (const one of sent) one.type ? link.send(one) : link.sendBytes(one);
  }
  const judged = (asked, isRight) =>
    asked.then((got) => (isRight(got) ? 'fine' : 'WRONG'), ({ code }) => code);
  const asked = [
    judged(a.link.fetchBlob(name), (got) => same(got, blob)),
    judged(b.link.request({ n: seed }), ({ n }) => n === seed + 1),
  ];
  let answers = null;
  Promise.all(asked).then((all) => { answers = all; });
  const arrived = () => answers && ends.every(({ heard }) => heard.length === sent.length)
    && nothingLeft(...ends);
  for (let i = 0; i < 12 && !arrived(); i += 1) await sleep(10);
  for (let i = 0; i < 40; i += 1) { // time passes, and what waits for nothing ends
    if (arrived() || ends.every(({ ended }) => ended)) break;
    clock.pass(1000);
    await sleep(1);
  }
  await until(() => answers);
  const right = ends.every(({ heard }) => heard.every((one, n) => (one instanceof Uint8Array
    ? same(one, sent[n]) : JSON.stringify(one) === JSON.stringify(sent[n]))));
  return {
    right: right && !answers.includes('WRONG'),
    whole: ends.every(({ heard }) => heard.length === sent.length),
    left: !nothingLeft(...ends),
    errors: [...answers.filter((code) => code !== 'fine'), ...ends.map(({ ended }) => ended)]
      .filter(Boolean),
    clock: clock.runs.size,
  };
};
// Does `change` to one frame of the first 24, by chance.
const toOne = (change) => (random) => {
  const victim = random() % 24;
  let count = 0;
  let done = false;
  return (frame) => {
    count += 1;
    if (done || count <= victim) return [frame];
    done = true;
    return change(frame, random);
  };
};
const run = async (spoil, times) => {
  const all = [];
  for (let from = 0; from < times; from += 60) {
    all.push(...await Promise.all(
      Array.from({ length: Math.min(60, times - from) }, (_, n) => exchange(spoil, from + n + 1))));
  }
  return all;
};
"""

# Each: what happens to the frame, and whether it always is an error.
FAULTS = {
    "a byte is another one": (
        """(frame, random) => {
          const bytes = new Uint8Array(frame);
          bytes[random() % bytes.length] ^= 1 + (random() % 255);
          return [frame];
        }""",
        True,
    ),
    "its end is missing": (
        "(frame, random) => [frame.slice(0, random() % frame.byteLength)]",
        True,
    ),
    "there is more of it": (
        """(frame, random) => {
          const longer = new Uint8Array(frame.byteLength + 1 + (random() % 40));
          longer.set(new Uint8Array(frame));
          return [longer.buffer];
        }""",
        True,
    ),
    "it comes twice": ("(frame) => [frame, frame.slice()]", True),
    "it is text": ("() => ['{}']", True),
    "it is lost": ("() => []", False),  # a lost acknowledgement is made good by the next
}


def test_without_a_fault_everything_arrives_and_nothing_is_left(run):
    result = run(EXCHANGE + "return exchange(() => (frame) => [frame], 7);")
    assert result == {"right": True, "whole": True, "left": False, "errors": [], "clock": 2}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_frame_that_suffered_is_an_error_and_never_a_wrong_byte(run, fault):
    change, always = FAULTS[fault]
    results = run(EXCHANGE + f"return run(toOne({change}), 180);")
    assert len(results) == 180
    for seed, result in enumerate(results, 1):
        assert result["right"], seed
        assert not result["left"], seed
        assert result["errors"] or (not always and result["whole"]), (seed, result)
    codes = {code for result in results for code in result["errors"]}
    assert codes <= {"bad-frame", "closed", "corrupt", "stalled", "cancelled", "timeout"}


def test_frames_that_change_places_are_an_error_or_no_matter(run):
    results = run(
        EXCHANGE
        + """return run((random) => {
          const victim = random() % 20;
          let [count, kept] = [0, null];
          return (frame) => {
            count += 1;
            if (count === victim) { kept = frame; return []; }
            const back = kept ? [frame, kept] : [frame];
            kept = null;
            return back;
          };
        }, 180);"""
    )
    for seed, result in enumerate(results, 1):
        assert result["right"], seed
        assert not result["left"], seed
        assert result["whole"] or result["errors"], seed


def test_frames_of_a_stranger_never_take_more_memory_than_the_budget(run):
    most, endings = run(
        """const random = randomFrom(11);
        const pick = (...list) => list[random() % list.length];
        const small = () => pick(0, 1, 2, 3, 4, 5, 2 ** 32 - 1);
        const digest = noise(32);
        const kinds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 255];
        let [most, endings] = [0, {}];
        for (let round = 0; round < 400; round += 1) {
          const [stranger, channel] = fakes();
          const [end] = linked([channel], [{ provide: () => null, answer: () => ({}) }]);
          await null;
          let next = 1;
          for (let i = 0; i < 40 && !end.ended; i += 1) {
            const id = random() % 3 ? random() % (next + 1) : next;
            channel.hear(pick(
              () => frames.whole(id, pick(...kinds), small(), noise(random() % 40, round)),
              () => frames.open(id, pick(...kinds), small(), pick(0, 5, 100, 2 ** 26, 2 ** 32 - 1),
                pick(0, 5, 100, 65536, 2 ** 18, 2 ** 32 - 1)),
              () => frames.block(id, small(), noise(pick(0, 5, 100), round)),
              () => frames.end(id, digest),
              () => frames.cancel(id, pick('cancelled', 'stalled', 'corrupt')),
              () => frames.ack(id, small()),
              () => frames.done(id),
              () => frames.refuse(id, 'unexpected'),
              () => noise(random() % 60, round).buffer,
            )());
            if (id === next) next += 1;
            most = Math.max(most, end.link.unfinished.heldBytes);
          }
          endings[end.ended] = (endings[end.ended] ?? 0) + 1;
          end.link.close();
          if (!nothingLeft(end)) throw new Error('something is left');
        }
        return [most, endings];"""
    )
    assert most <= 2**27
    assert endings["bad-frame"] > 300
    others = {"bad-message", "cancelled", "stalled", "corrupt", "too-large", "over-budget", "flood"}
    assert set(endings) - others <= {"bad-frame", "null"}


def test_a_peer_that_begins_a_gigabyte_is_shut_out_while_memory_stays_bounded(run):
    results = run(
        """const results = [];
        for (const ordered of [false, true]) {
          const [stranger, channel] = fakes();
          const kinds = new Map([[1, { most: 2 ** 26, ordered }]]);
          const line = new TransferLine(channel, { kinds,
            deliver() {}, closed: (error) => { line.ended = error.code; } });
          await null;
          let [id, most] = [0, 0];
          while (!line.ended && id < 16) {
            id += 1;
            channel.hear(frames.open(id, 1, 0, 2 ** 26, 65516));
            if (id < 3) channel.hear(frames.block(id, 0, noise(65516)));
            most = Math.max(most, line.unfinished.heldBytes);
          }
          const { sending, receiving, heldBytes } = line.unfinished;
          results.push([id, most, line.ended, channel.readyState, sending + receiving + heldBytes]);
        }
        return results;"""
    )
    # Two may arrive, the rest is refused; of what must come in order the first refusal is the end.
    assert results == [[11, 2**27, "flood", "closed", 0], [3, 2**27, "over-budget", "closed", 0]]


@pytest.mark.parametrize(
    ("size", "most_begun"), [(0, 600), (2**26, 600), (2**26 + 1, 20), (2**32 - 1, 1)]
)
def test_a_peer_that_goes_on_beginning_what_is_refused_is_shut_out(run, size, most_begun):
    begun, most, code = run(
        """const [stranger, channel] = fakes();
        const [end] = linked([channel]);
        await null;
        let [id, most] = [0, 0];
        while (!end.ended && id < 5000) {
          id += 1;
          channel.hear(frames.open(id, 7, 1, args[0], 65516)); // a blob that nobody asked for
          if (!end.ended && id % 2) channel.hear(frames.cancel(id, 'cancelled'));
          most = Math.max(most, end.link.unfinished.heldBytes);
        }
        return [id, most, end.ended];""",
        size,
    )
    assert (code, most) == ("flood", 0)
    assert begun <= most_begun


def test_small_transfers_that_never_end_are_counted(run):
    begun, code = run(
        """const [stranger, channel] = fakes();
        const line = new TransferLine(channel, { kinds: new Map([[1, { most: 8 }]]),
          deliver() {}, closed: (error) => { line.ended = error.code; } });
        await null;
        let id = 0;
        while (!line.ended && id < 5000) channel.hear(frames.open(id += 1, 1, 0, 1, 65516));
        return [id, line.ended];"""
    )
    assert code == "flood"
    assert 256 < begun < 1000
