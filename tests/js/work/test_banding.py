"""A picture in bands: whatever the recruits do, it is the picture of one tab.

Both sides are the real ones, over channels in memory; each norm of their engine depends on all
rows, so a band that lacks the others' moments is visibly another one.
"""

from typing import Any

import pytest

from tests.js.work.test_recruiting import SCENE, Run, run

__all__ = ["run"]

BANDS = (
    SCENE.replace("max_side: 64", "max_side: 96")
    + """
const { joined } = await import('/static/js/engine/bands.js');
const { chooseBands } = await import('/static/js/work/bands-planner.js');
const TALL = [2, 12, 4];
Object.assign(Engine.prototype, {
  bandChannels: [2, 2, 2],
  margin: 0.3,
  decodeMs: 60,
  bands: 0,
  decodes: 0,
  lieMoments: (moments) => moments,
  liePixels: (rgba) => rgba,
  rowsOf: (latent, [channels, rows, columns], { first, rows: count }) => {
    const values = [];
    for (let row = first; row < first + count; row += 1) {
      for (let at = 0; at < columns; at += 1) {
        values.push([...Array(channels).keys()].map(
          (channel) => latent[(channel * rows + row) * columns + at]));
      }
    }
    return values;
  },
  momentsOf: (values) => {
    const means = [0, 1].map((c) => values.reduce((sum, of) => sum + of[c], 0) / values.length);
    const squares = [0, 1].map((c) =>
      values.reduce((sum, of) => sum + (of[c] - means[c]) ** 2, 0) / values.length);
    return Float32Array.of(...means, ...squares);
  },
  normed: (values, moments, norm) => values.map((of) => of.map((value, c) =>
    Math.sin(norm + 1 + 2 * (value - moments[c]) / Math.sqrt(moments[2 + c] + 0.1)))),
  pixels: (values, columns) => {
    const [width, height] = [8 * columns, (8 * values.length) / columns];
    const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const of = values[(y >> 3) * columns + (x >> 3)];
        rgba.set([128 + 100 * of[0], 128 + 100 * of[1], 8 * (y & 7)], 4 * (y * width + x));
      }
    }
    return { width, height, rgba };
  },
  async decode({ latent, shape }, { signal }) {
    await sleep(this.decodeMs);
    signal?.throwIfAborted();
    this.decodes += 1;
    let values = this.rowsOf(latent, shape, { first: 0, rows: shape[1] });
    for (const norm of [0, 1, 2]) values = this.normed(values, this.momentsOf(values), norm);
    return this.pixels(values, shape[2]);
  },
  async bandShares({ shape, bands }) {
    return bands.map(({ rows }) => rows / shape[1] + this.margin / bands.length);
  },
  async decodeBands({ latent, shape, bands }, { signal, exchange }) {
    let all = bands.map((band) => this.rowsOf(latent, shape, band));
    const [share] = await this.bandShares({ shape, bands });
    for (const norm of [0, 1, 2]) {
      await sleep((this.decodeMs * share * bands.length) / 3);
      signal?.throwIfAborted();
      const moments = all.map((values) => this.lieMoments(this.momentsOf(values), norm));
      this.norms?.(norm);
      const together = await Promise.race([exchange({ norm, moments }), new Promise((_, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason));
      })]);
      if (!together) return null;
      all = all.map((values) => this.normed(values, together, norm));
    }
    this.bands += bands.length;
    return all.map((values) => {
      const found = this.pixels(values, shape[2]);
      return { ...found, rgba: this.liePixels(found.rgba) };
    });
  },
});
const tallNoise = (seed) => Float32Array.from({ length: 96 }, (_, at) => Math.sin(seed + at * at));
const decoded = (one, signal = new AbortController().signal) =>
  one.recruiting.decode({ latent: tallNoise(7), shape: TALL }, { signal, ledger: one.ledger });
const whole = await new Engine().decode({ latent: tallNoise(7), shape: TALL }, {});
const off = ({ width, height, rgba }) => {
  if (width !== whole.width || height !== whole.height) return 'another size';
  return Math.max(...rgba.map((value, at) => Math.abs(value - whole.rgba[at])));
};
const told = (one) => one.told.map(({ strategy, why, ended, rows, real, expected }) => ({
  strategy, why, ended, rows, real, expected }));
const last = (one) => told(one).at(-1);
"""
)


@pytest.fixture
def play(module_page: Any) -> Run:
    from tests.js.room.transfer.conftest import SCENE as CHANNELS

    return lambda body, *args: module_page.evaluate(
        f"async (args) => {{ {CHANNELS} {BANDS} return (async () => {{ {body} }})(); }}",
        list(args),
    )


@pytest.mark.parametrize("others", [1, 2, 3])
def test_several_tabs_make_the_picture_of_one(play: Run, others: int) -> None:
    body = """
    const options = { setting: 'bands' };
    const ann = tab('ann', options);
    const recruits = [...Array(args[0]).keys()].map((at) => tab(`peer${at}`, options));
    const results = [];
    for (let time = 0; time < 2; time += 1) results.push(off(await decoded(ann)));
    await sleep(50);
    return [results, last(ann), ann.engine.decodes, ann.engine.bands,
            recruits.map(({ engine, helping }) => [engine.bands, engine.decodes, helping]),
            ann.ledger.partners, recruits.map(({ whom }) => [...whom])];
    """
    results, strategy, decodes, bands, recruits, partners, whom = play(body, others)
    assert [(one["worker"], one["steps"]) for one in partners] == [
        (f"worker of peer{at}", 0) for at in range(others)
    ]
    for one in partners:  # twice: a latent, moments at three norms, and rows of RGB back
        assert one["sent"] > 2 * 4 * 96
        assert one["received"] > 2 * 3 * 8 * 8 * 4
    assert whom == [["worker of ann"]] * others
    assert max(results) <= 1
    assert (strategy["strategy"], strategy["why"], strategy["ended"]) == ("bands", "forced", None)
    assert len(strategy["rows"]) == others + 1
    assert sum(strategy["rows"]) == 12
    assert decodes == 0
    assert bands == 2 + others  # its own, and to check them each recruit's the first time
    for theirs in recruits:
        assert theirs[:2] == [2, 0]
        assert len(theirs[2]) == 2 * 2  # helping, and not any more


def test_by_itself_it_measures_first_then_shares_what_gains(play: Run) -> None:
    body = """
    const ann = tab('ann', { setting: 'auto' });
    const bob = tab('bob', { setting: 'auto' });
    ann.engine.decodeMs = bob.engine.decodeMs = 1500;
    ann.engine.margin = bob.engine.margin = 0;
    const results = [];
    for (let time = 0; time < 5; time += 1) results.push(off(await decoded(ann)));
    return [results, told(ann), ann.engine.decodes, bob.engine.bands];
    """
    results, told, decodes, bands = play(body)
    assert max(results) <= 1
    # The first decode of a size does much that later ones do not
    assert [(one["strategy"], one["why"]) for one in told[:2]] == [("alone", "unmeasured")] * 2
    assert (told[2]["strategy"], told[2]["why"]) == ("bands", "gain")
    assert 1.1 < told[2]["expected"] < 2
    assert (decodes, bands) == (2, 3)
    real = [one["real"] for one in told if one["real"]]
    assert len(real) == 2  # the first split was checked, which takes longer
    assert max(real) > 1
    assert max(real) < 2


@pytest.mark.parametrize(
    ("arrange", "ended"),
    [
        (
            "bob.engine.norms = (norm) => { if (norm === 1) channels.at(-1).theirs.close(); }",
            "gone",
        ),
        ("bob.engine.norms = (norm) => { if (norm === 1) bob.recruiting.leave(); }", "busy"),
        ("bob.engine.norms = (norm) => { if (norm === 1) throw new Error('broken'); }", "gone"),
        ("bob.engine.decodeBands = async () => { throw new Error('broken'); }", "gone"),
        ("bob.recruiting.decode = null; ann.engine.norms = () => { bob.free = false; }", None),
    ],
    ids=["gone", "busy", "failed in the middle", "failed", "got work before it was asked again"],
)
def test_whatever_becomes_of_a_recruit_the_picture_is_made(
    play: Run, arrange: str, ended: str | None
) -> None:
    body = f"""
    const ann = tab('ann', {{ setting: 'bands' }});
    const bob = tab('bob', {{ setting: 'bands' }});
    {arrange};
    const result = off(await decoded(ann));
    return [result, last(ann), ann.engine.decodes];
    """
    result, strategy, decodes = play(body)
    assert result <= 1
    assert strategy["ended"] == ended
    assert strategy["strategy"] == ("alone" if ended else "bands")
    assert decodes == (1 if ended else 0)


def test_who_is_late_is_not_waited_for_and_left_alone_for_a_while(play: Run) -> None:
    body = """
    const ann = tab('ann', { setting: 'auto' });
    const bob = tab('bob', { setting: 'auto' });
    ann.engine.decodeMs = bob.engine.decodeMs = 300;
    await decoded(ann); // so that it is known how long that takes
    await decoded(ann);
    const { decodeBands } = bob.engine;
    bob.engine.decodeBands = function (request, options) {
      return decodeBands.call(this, request, { ...options, exchange: async (mine) => {
        if (mine.norm === 1) await sleep(60_000);
        return options.exchange(mine);
      } });
    };
    const began = performance.now();
    const result = off(await decoded(ann));
    const took = performance.now() - began;
    const first = last(ann);
    await decoded(ann);
    return [result, first, took, last(ann)];
    """
    result, first, took, second = play(body)
    assert result <= 1
    assert (first["strategy"], first["ended"]) == ("alone", "late")
    assert 2_000 < took < 10_000
    assert second["why"] == "nobody"


@pytest.mark.parametrize("code", ["too-large", "out-of-memory"])
def test_a_holder_without_memory_for_its_band_decodes_alone_from_then_on(
    play: Run, code: str
) -> None:
    body = """
    const ann = tab('ann', { setting: 'bands' });
    const bob = tab('bob', { setting: 'bands' });
    ann.engine.decodeBands = async () => {
      throw Object.assign(new Error('no room'), { code: args[0] });
    };
    const result = off(await decoded(ann));
    const first = last(ann);
    await decoded(ann);
    await sleep(50);
    const { decodes } = ann.engine;
    return [result, first, last(ann), decodes, bob.helping, off(await decoded(bob))];
    """
    result, first, second, decodes, helping, other = play(body, code)
    assert max(result, other) <= 1
    assert (first["strategy"], first["ended"]) == ("alone", "memory")
    assert (second["strategy"], second["why"]) == ("alone", "memory")
    assert decodes == 2
    assert helping[-1] is None
    assert len(helping) == 2


@pytest.mark.parametrize(
    "lie",
    [
        "lieMoments = (moments) => moments.map((value) => 1.1 * value)",
        "lieMoments = (moments, norm) => moments.map((value) => value + (norm === 2))",
        "liePixels = (rgba) => rgba.map((value) => value * 0.9)",
        "liePixels = (rgba) => rgba.fill(0, 0, rgba.length / 4)",
    ],
)
def test_a_recruit_that_computes_something_else_is_found(play: Run, lie: str) -> None:
    body = f"""
    const ann = tab('ann', {{ setting: 'bands' }});
    const bob = tab('bob', {{ setting: 'bands' }});
    bob.engine.{lie};
    const result = off(await decoded(ann));
    const first = last(ann);
    const again = off(await decoded(ann));
    return [result, again, first, last(ann), ann.engine.decodes, channels.length];
    """
    result, again, first, second, decodes, channels = play(body)
    assert max(result, again) <= 1
    assert (first["strategy"], first["ended"]) == ("alone", "wrong")
    assert (second["strategy"], second["why"]) == ("alone", "nobody")  # it is never asked again
    assert (decodes, channels) == (2, 1)


def test_of_several_new_recruits_the_one_that_lies_is_found(play: Run) -> None:
    body = """
    const ann = tab('ann', { setting: 'bands' });
    const recruits = ['bob', 'cid', 'dot'].map((id) => tab(id, { setting: 'bands' }));
    recruits[2].engine.lieMoments = (moments) => moments.map((value) => 1.1 * value);
    const results = [off(await decoded(ann))];
    const first = last(ann);
    results.push(off(await decoded(ann)));
    return [results, first, last(ann)];
    """
    results, first, second = play(body)
    assert max(results) <= 1
    assert (first["strategy"], first["ended"]) == ("alone", "wrong")
    assert (second["strategy"], len(second["rows"])) == ("bands", 3)


HOSTILE = """
const { Link } = await import('/static/js/room/link.js');
const numbers = (name, shape, data, metadata) => toBytes({ [name]: { shape, data } }, metadata);
const mallory = tab('mallory', { hostile: true });
const hostile = (send, answer = { fetch_s: 0 }) => mallory.place.serve('halves', (channel) => {
  const link = new Link(channel, {
    answer: ({ type, run }) => {
      if (type === 'bands.ask') return { decode_s: 0.05 };
      setTimeout(() => send(link, `${run}`), 1);
      return answer;
    },
    receive() {}, receiveBytes() {}, closed() {},
  });
});
const moments = (run, more = {}, data = [1, 1, 1, 1], shape = [2, 2]) =>
  numbers('moments', shape, Float32Array.from(data), { run, step: '0', ...more });
"""


@pytest.mark.parametrize(
    "sent",
    [
        "moments(run, {}, [1, NaN, 1, 1])",
        "moments(run, {}, [1, 1, 1, -1])",
        "moments(run, {}, [1, 1, 1, 1, 1, 1], [2, 3])",
        "moments(run, { step: '1' })",
        "moments(run, { step: '9' })",
        "moments(run, { stop: '3' })",
        "numbers('velocity', [2, 2], new Float32Array(4), { run, step: '0' })",
        "numbers('picture', [48, 32, 3], new Uint8Array(4608), { run, step: '3' })",
        "numbers('moments', [2, 2], new Uint8Array(4), { run, step: '0' })",
        "new Uint8Array(7)",
    ],
)
def test_what_a_hostile_recruit_sends_costs_its_help_only(play: Run, sent: str) -> None:
    body = f"""
    const ann = tab('ann', {{ setting: 'bands' }});
    {HOSTILE}
    hostile((link, run) => link.sendBytes({sent}));
    const result = off(await decoded(ann));
    const first = last(ann);
    await decoded(ann);
    return [result, first, last(ann)];
    """
    result, first, second = play(body)
    assert result <= 1
    assert (first["strategy"], first["ended"]) == ("alone", "nonsense")
    assert second["why"] == "nobody"


@pytest.mark.parametrize(
    "more",
    [
        {"first": 8, "rows": 5},
        {"first": -1},
        {"rows": 0},
        {"first": 0.5},
        {"rows": "3"},
        {"file": "x"},
        {"run": -1},
        {"run": None},
        {"shape": [2, 900, 4]},
        {"shape": [3, 12, 4]},
    ],
)
def test_a_recruit_refuses_what_is_no_band_and_stays_free(play: Run, more: dict[str, Any]) -> None:
    body = """
    const bob = tab('bob', { setting: 'auto' });
    const { Link } = await import('/static/js/room/link.js');
    const [mine, theirs] = fakes();
    bob.place.served.get('halves')(theirs);
    const link = new Link(mine, { provide: () => null });
    const ask = (type, more) => link.request({ type, model: 'm'.repeat(64), variant: 'f32',
      shape: TALL, ...more }).then(() => null, ({ code }) => code);
    const begin = { run: 1, first: 6, rows: 6, file: 'a'.repeat(64) };
    const refused = await ask('bands.begin', { ...begin, ...args[0] });
    const notThere = await ask('bands.begin', begin);
    return [refused, notThere, await ask('bands.ask', {}), bob.helping];
    """
    refused, not_there, asked, helping = play(body, more)
    assert refused == "bad-request"
    assert not_there == "not-found"
    assert asked is None
    assert helping == [None, None]  # it began to, once, and stopped


def test_when_the_holder_stops_its_recruits_are_free_again(play: Run) -> None:
    body = """
    const ann = tab('ann', { setting: 'bands' });
    const bob = tab('bob', { setting: 'bands' });
    const cid = tab('cid', { setting: 'bands' });
    const controller = new AbortController();
    ann.engine.norms = (norm) => { if (norm === 1) controller.abort(); };
    const name = await decoded(ann, controller.signal).catch((error) => error.name);
    await sleep(100);
    ann.engine.norms = null;
    return [name, off(await decoded(bob)), last(bob)];
    """
    name, result, strategy = play(body)
    assert name == "AbortError"
    assert result <= 1
    assert len(strategy["rows"]) == 3  # both others help


def test_what_is_prepared_for_the_steps_survives_a_band(play: Run) -> None:
    body = """
    const options = { setting: 'auto', halfMs: 20, aloneMs: 60 };
    const [ann, bob] = [tab('ann', options), tab('bob', options)];
    ann.engine.decodeMs = bob.engine.decodeMs = 1500;
    const made = [];
    for (let time = 0; time < 4; time += 1) {
      made.push([(await ann.denoise()).join() === right.join(), off(await decoded(ann))]);
    }
    return [made, told(ann).map(({ ended }) => ended).filter(Boolean), bob.engine.halves.negative,
            bob.engine.bands];
    """
    made, ended, halves, bands = play(body)
    assert [same for same, _ in made] == [True] * 4
    assert max(off for _, off in made) <= 1
    assert ended == []  # "busy" where what was prepared has gone
    assert halves > 12
    assert bands == 2


@pytest.mark.parametrize(
    ("changes", "strategy", "why"),
    [
        ({}, "bands", "gain"),
        ({"setting": "alone"}, "alone", "forced"),
        ({"setting": "halves"}, "alone", "forced"),
        ({"setting": "bands", "aloneS": None}, "bands", "forced"),
        ({"others": 0}, "alone", "nobody"),
        ({"norms": 0}, "alone", "nobody"),
        ({"aloneS": None}, "alone", "unmeasured"),
        ({"candidates": []}, "alone", "nobody"),
        ({"candidates": [], "busy": 1}, "alone", "busy"),
        ({"slow": {"decodeS": 50}}, "alone", "slow-tab"),
        ({"slow": {"crossingS": 0.1}}, "alone", "slow-link"),
        ({"slow": {"pictureS": 5}}, "alone", "slow-link"),
        ({"setupS": 2}, "alone", "slow-tab"),
    ],
)
def test_what_is_chosen_and_why(
    play: Run, changes: dict[str, Any], strategy: str, why: str
) -> None:
    body = """
    const { slow, ...changes } = args[0];
    return chooseBands({
      setting: 'auto', aloneS: 2, setupS: 0, rows: 32, norms: 19, others: 1, busy: 0,
      candidates: [{ id: 'bob', decodeS: 2, crossingS: 0.003, pictureS: 0.05, ...slow }],
      shares: (rows) => rows.map((count) => 0.1 + 0.9 * Math.min(1, (count + 4) / 32)), ...changes,
    });
    """
    choice = play(body, changes)
    assert (choice["strategy"], choice["why"]) == (strategy, why)


def test_rows_go_by_speed_and_help_that_would_slow_is_left_out(play: Run) -> None:
    body = """
    const { rowsBySpeed } = await import('/static/js/work/bands-planner.js');
    const chosen = (seconds) => chooseBands({
      setting: 'auto', aloneS: 2, setupS: 0, rows: 32, norms: 19, others: 9, busy: 0,
      candidates: seconds.map((decodeS, at) => (
        { id: `peer${at}`, decodeS, crossingS: 0.001, pictureS: 0.01 })),
      shares: (rows) => rows.map((count) => 0.1 + 0.9 * Math.min(1, (count + 4) / 32)),
    });
    return [rowsBySpeed(32, [1, 1]), rowsBySpeed(10, [1, 3]), rowsBySpeed(3, [1, 1000, 1000]),
            rowsBySpeed(7, [1, 1, 1]), chosen([2, 40]).peers, chosen([4, 1]).peers,
            chosen([1, 2, null]).rows];
    """
    even, uneven, least, odd, few, fastest, four = play(body)
    assert even == [16, 16]
    assert sum(uneven) == 10
    assert uneven[0] >= 7
    assert sorted(least) == [1, 1, 1]
    assert sum(odd) == 7
    assert max(odd) - min(odd) <= 1
    assert few == ["peer0"]
    assert fastest[0] == "peer1"
    assert sum(four) == 32
