"""A chunk's holder and its recruit: whatever the recruit does, the latents are those of one tab.

Both sides are the real ones, over channels in memory; their engine's arithmetic shows every step
that is lost, done twice, or done with something else.
"""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.js.room.transfer.conftest import SCENE as CHANNELS

SCENE = """
const { Recruiting } = await import('/static/js/work/recruiting.js');
const { advanced, exchangedSteps } = await import('/static/js/engine/halves.js');
const { toBytes } = await import('/static/js/engine/safetensors.js');
const { Ledger } = await import('/static/js/work/ledger.js');

const SHAPE = [2, 4, 4];
const STEPS = 12;
class Engine {
  modelId = 'm'.repeat(64);
  variant = 'f32';
  about = { text_dim: 3, latent_channels: 2, max_side: 64, vae_scale: 8 };
  halves = { negative: 0, prompt: 0 };
  texts = new Set();
  steps = 0;
  lie = (velocity) => velocity;
  constructor({ halfMs = 4, aloneMs = 8 } = {}) { Object.assign(this, { halfMs, aloneMs }); }
  velocity(half, text, latent, step) {
    const sum = text.features.reduce((all, value) => all + value, half === 'prompt' ? 1 : 2);
    return latent.map((value, at) => Math.fround(Math.sin(value * sum + step + at)));
  }
  async denoise({ conditioning, latent, steps, guidance, start, stop }, { signal, onStep }) {
    const strides = new Float32Array(steps).fill(-1 / steps);
    for (let step = start; step < stop; step += 1) {
      signal.throwIfAborted();
      await sleep(this.aloneMs);
      const of = (half) => this.velocity(half, conditioning[half], latent, step);
      const both = { negative: of('negative'), prompt: of('prompt') };
      latent = advanced(latent, both, guidance, strides[step]);
      this.steps += 1;
      onStep({ step: step + 1, latent });
    }
    signal.throwIfAborted();
    return latent;
  }
  async denoiseHalf(request, { signal, exchange, onStep = () => {} }) {
    const { conditioning, half, steps, checks = [] } = request;
    for (const text of Object.keys(conditioning)) this.texts.add(text);
    const velocityOf = (which) => async (latent, step) => {
      await sleep(this.halfMs);
      this.halves[which] += 1;
      return this.lie(this.velocity(which, conditioning[which], latent, step), step);
    };
    const other = half === 'prompt' ? 'negative' : 'prompt';
    const run = { ...request, checks, strides: new Float32Array(steps).fill(-1 / steps),
                  velocity: velocityOf(half), otherVelocity: velocityOf(other) };
    const asked = async (mine) => {
      const given = await Promise.race([exchange(mine), new Promise((_, reject) => {
        if (signal?.aborted) reject(signal.reason);
        signal?.addEventListener('abort', () => reject(signal.reason));
      })]);
      return given;
    };
    return exchangedSteps(run, asked, signal, (step, latent) => onStep({ step, latent }));
  }
}

const text = (seed, tokens) => ({ tokens, unsure: [],
  features: Float32Array.from({ length: 3 * tokens }, (_, at) => Math.sin(seed + at)) });
const conditioning = { prompt: text(1, 4), negative: text(2, 1) };
const noiseOf = (seed) => Float32Array.from({ length: 32 }, (_, at) => Math.sin(seed * at));
const wanted = (more = {}) => ({ conditioning, latent: noiseOf(7), shape: SHAPE, steps: STEPS,
  guidance: 4, start: 0, stop: STEPS, ...more });
const alone = (more) => new Engine({ aloneMs: 0 }).denoise(
  wanted(more), { signal: new AbortController().signal, onStep() {} });

// Tabs that are connected with each other. `channels`: those that the first one opened, both ends.
const channels = [];
const mesh = (id, others) => {
  const served = new Map();
  const one = {
    id, served, roundTripMs: 1,
    serve: (label, take) => (take ? served.set(label, take) : served.delete(label)),
    peers: () => others().filter((other) => other !== one).map((other) => ({
      id: other.id, name: other.id, roundTripMs: other.roundTripMs,
      openChannel: async (label) => {
        if (!other.served.has(label)) {
          throw Object.assign(new Error('refused'), { code: 'channel-refused' });
        }
        const [mine, theirs] = fakes();
        channels.push({ mine, theirs });
        other.served.get(label)(theirs);
        return mine;
      },
    })),
  };
  return one;
};
const everybody = [];
const tab = (id, options = {}) => {
  const place = mesh(id, () => everybody);
  everybody.push(place);
  const one = { place, engine: options.engine ?? new Engine(options), told: [], helping: [],
                free: true, whom: new Set(), ledger: new Ledger() };
  one.recruiting = options.hostile ? null : new Recruiting({
    engine: one.engine, mesh: place, setting: options.setting ?? 'halves',
    isFree: () => one.free, random: options.random ?? (() => 0.99),
    self: () => ('worker' in options ? options.worker : `worker of ${id}`),
    onStrategy: (strategy) => one.told.push(strategy),
    onHelping: (helping) => {
      one.helping.push(helping?.step ?? null);
      if (helping) one.whom.add(helping.whom);
    },
  });
  one.steps = [];
  one.denoise = async (more, signal = new AbortController().signal) => [...await
    one.recruiting.denoise(wanted(more), { signal, ledger: one.ledger, onStep: ({ step }) => {
      one.steps.push(step);
      one.onStep?.(step);
    } })];
  return one;
};
const right = [...await alone()];
const outcome = (one, made) => ({
  right: made.join() === right.join(),
  steps: one.steps, why: one.told.at(-1)?.why, ended: one.told.at(-1)?.ended,
  strategy: one.told.at(-1)?.strategy, aloneSteps: one.engine.steps,
});
"""
Run = Callable[..., Any]
ALL = list(range(1, 13))


@pytest.fixture
def run(module_page: Page) -> Run:
    return lambda body, *args: module_page.evaluate(
        f"async (args) => {{ {CHANNELS} {SCENE} return (async () => {{ {body} }})(); }}", list(args)
    )


def test_two_tabs_make_what_one_makes(run: Run) -> None:
    found = run("""
    const ann = tab('ann'), bob = tab('bob');
    const made = await ann.denoise();
    return { ...outcome(ann, made), halves: [ann.engine.halves, bob.engine.halves],
             texts: [...bob.engine.texts], helping: bob.helping, whom: [...bob.whom],
             partners: ann.ledger.partners,
             real: ann.told.some(({ real }) => real === null || real > 0) };
    """)
    assert found["right"]
    assert found["steps"] == ALL
    assert (found["strategy"], found["why"], found["ended"]) == ("halves", "forced", None)
    ann, bob = found["halves"]
    assert ann == {"negative": 1, "prompt": 12}  # the first step of a tab is computed here too
    assert bob == {"negative": 12 + 2, "prompt": 0}  # two for practice
    assert found["texts"] == ["negative"]  # it is not told what the picture shows
    assert found["helping"][:3] == [0, 1, 2]
    assert found["helping"][-1] is None
    assert found["aloneSteps"] == 0
    assert found["whom"] == ["worker of ann"]
    [helped] = found["partners"]
    assert (helped["worker"], helped["steps"]) == ("worker of bob", 12)
    latent = 2 * 4 * 4 * 4
    assert 12 * latent < helped["received"] < 12 * (latent + 300)  # a velocity each step, in f32
    more = helped["sent"] - helped["received"]
    assert 2 * (latent + 64) + 12 < more < 2 * (latent + 300), more  # the latent twice, a text


def test_who_helped_is_told_of_what_counts_and_of_nobody_whom_the_queue_does_not_know(
    run: Run,
) -> None:
    left, gone, unknown, liar, twice = run("""
    const scene = async (options, trouble, times = 1) => {
      everybody.length = 0;
      const ann = tab('ann'), bob = tab('bob', options);
      ann.onStep = (step) => trouble?.(step, ann, bob);
      for (let time = 0; time < times; time += 1) await ann.denoise();
      return ann.ledger.partners.map(({ worker, steps }) => [worker, steps]);
    };
    const caught = async () => {
      everybody.length = 0;
      const chances = [0.1, 7 / 12 + 0.01]; // the second run is checked at step 7
      const ann = tab('ann', { random: () => chances.shift() ?? 0.99 }), bob = tab('bob');
      await ann.denoise({ stop: 1 });
      bob.engine.lie = (velocity, step) => (
        step >= 7 ? velocity.map((value) => value + 0.05) : velocity);
      await ann.denoise();
      return [ann.told.at(-1).ended, ...ann.ledger.partners.map(({ steps }) => steps)];
    };
    return [
      await scene({}, (step, ann, bob) => {
        if (step === 5) { bob.free = false; bob.recruiting.leave(); }
      }),
      await scene({}, (step, ann, bob) => { if (step === 1) bob.recruiting.close(); }),
      await scene({ worker: null }),
      await caught(),
      await scene({}, null, 2),
    ];
    """)
    [[worker, steps]] = left
    assert worker == "worker of bob"
    assert 5 <= steps <= 7  # and the others alone
    assert gone in ([], [["worker of bob", 1]], [["worker of bob", 2]])
    assert unknown == []
    assert liar == ["wrong", 1]  # of the run that was found wrong nothing is kept
    assert twice == [["worker of bob", 24]]


def test_by_itself_it_measures_first_then_shares_what_gains(run: Run) -> None:
    found = run("""
    const ann = tab('ann', { setting: 'auto', aloneMs: 120, halfMs: 40 });
    const bob = tab('bob', { setting: 'auto', aloneMs: 120, halfMs: 40 });
    const first = await ann.denoise();
    const unmeasured = ann.told.at(-1).why;
    const steps = ann.engine.steps;
    const second = await ann.denoise();
    const { strategy, why, expected, real, name } = ann.told.at(-1);
    const third = await ann.denoise();
    return { right: [first, second, third].map((made) => made.join() === right.join()), unmeasured,
             steps, strategy, why, expected, real, name, alone: ann.engine.steps,
             prompts: ann.engine.halves.prompt, prepared: bob.engine.halves.negative };
    """)
    assert found["right"] == [True, True, True]
    assert (found["unmeasured"], found["steps"]) == ("unmeasured", 12)
    assert (found["strategy"], found["why"], found["name"]) == ("halves", "gain", "bob")
    assert found["expected"] > 1.1
    assert found["real"] > 1.1
    # It began alone and shared the rest; every step was done once
    assert 12 < found["alone"] < 36
    assert found["alone"] + found["prompts"] == 36


@pytest.mark.parametrize(
    ("trouble", "ended"),
    [
        ("channels[0].theirs.close();", "gone"),
        ("bob.place.served.clear(); bob.recruiting.close();", "gone"),
        ("channels[0].theirs.held = true;", "late"),
        ("channels[0].mine.held = true;", "late"),
        ("bob.free = false; bob.recruiting.leave();", "busy"),
        ("bob.engine.lie = () => { throw new Error('out of memory'); };", "gone"),
        ("bob.engine.lie = (velocity) => velocity.map(() => NaN);", "nonsense"),
        ("bob.engine.lie = (velocity) => velocity.subarray(1);", None),
    ],
    ids=["closed", "stopped", "stalled", "deaf", "has work", "fails", "not numbers", "too short"],
)
def test_whatever_becomes_of_the_recruit_the_holder_goes_on_from_where_it_was(
    run: Run, trouble: str, ended: str | None
) -> None:
    found = run(f"""
    const ann = tab('ann'), bob = tab('bob');
    ann.onStep = (step) => {{ if (step === 5) {{ {trouble} }} }};
    const began = performance.now();
    const made = await ann.denoise();
    return {{ ...outcome(ann, made), seconds: (performance.now() - began) / 1000 }};
    """)
    assert found["right"]
    assert found["strategy"] == "alone"
    assert ended is None or found["ended"] == ended
    assert found["seconds"] < 8
    if ended != "nonsense" and ended is not None:
        assert found["steps"] == ALL  # nothing is done twice
        assert 5 <= 12 - found["aloneSteps"] <= 7


@pytest.mark.parametrize("at", [0, 7])
def test_a_recruit_that_computes_something_else_is_found_and_its_part_done_again(
    run: Run, at: int
) -> None:
    found = run(
        """
        const chances = [0.1, args[0] / 12 + 0.01];
        const ann = tab('ann', { random: () => chances.shift() ?? 0.99 }), bob = tab('bob');
        if (args[0]) await ann.denoise({ stop: 1 }); // that run is checked, and right
        ann.steps.length = 0;
        bob.engine.lie = (velocity, step) => (
          step >= args[0] ? velocity.map((value) => value + 0.05) : velocity);
        const made = await ann.denoise();
        const again = await ann.denoise();
        return { ...outcome(ann, made), again: again.join() === right.join(),
                 strategies: ann.told.map(({ strategy, ended }) => [strategy, ended]) };
        """,
        at,
    )
    assert found["right"]
    assert found["again"]
    assert ["alone", "wrong"] in found["strategies"]
    assert found["strategies"][-1] == ["alone", None]  # it is not asked again
    assert found["steps"][: 12 + at] == [*range(1, at + 1), *ALL]


HOSTILE = """
const answers = { 'halves.ask': { half_s: 0.01 }, 'halves.prepare': { half_s: 0.01, fetch_s: 0 } };
const hostile = tab('eve', { hostile: true });
let ends = 0;
hostile.place.serve('halves', (channel) => {
  const link = new Link(channel, {
    answer: ({ type }) => ({ ...answers[type], ...args[1] }),
    receiveBytes: () => {
      const shape = SHAPE;
      const data = new Float32Array(32);
      const send = (tensors, metadata) => link.sendBytes(toBytes(tensors, metadata));
      try { eval(args[0]); } catch { /* it is closed */ }
    },
    receive: () => { ends += 1; },
  });
});
const ann = tab('ann');
const began = performance.now();
const made = await ann.denoise();
return { ...outcome(ann, made), seconds: (performance.now() - began) / 1000 };
"""


@pytest.mark.parametrize(
    "sent",
    [
        "link.sendBytes(new Uint8Array(5000))",
        "link.sendBytes(new Uint8Array(0))",
        "send({ velocity: { shape, data: data.map(() => NaN) } }, { run: '1', step: '0' })",
        "send({ velocity: { shape, data: data.map(() => Infinity) } }, { run: '1', step: '0' })",
        "send({ velocity: { shape: [1, 4, 4], data: data.slice(16) } }, { run: '1', step: '0' })",
        "send({ velocity: { shape, data: new Uint32Array(32) } }, { run: '1', step: '0' })",
        "send({ other: { shape, data } }, { run: '1', step: '0' })",
        "send({ velocity: { shape, data }, more: { shape, data } }, { run: '1', step: '0' })",
        "send({ velocity: { shape, data } }, { run: '1', step: '7' })",
        "send({ velocity: { shape, data } }, { run: '1', step: '-1' })",
        "send({ velocity: { shape, data } }, {})",
        "send({ latent: { shape, data } }, { run: '1', step: '0', stop: '3' })",
        "send({ velocity: { shape, data } }, { run: '1', step: '0' }); "
        "send({ velocity: { shape, data } }, { run: '1', step: '0' })",
        "link.send({ type: 'halves.please' })",
        "link.send({ type: 'halves.end', run: 1, code: { toString: 1 } })",
        "link.close()",
        "",
        "send({ velocity: { shape, data } }, { run: '99', step: '0' })",
        "send({ velocity: { shape, data } }, { run: '1', step: '0' })",
    ],
)  # fmt: skip
def test_what_a_hostile_recruit_sends_costs_a_step_at_most(run: Run, sent: str) -> None:
    found = run(HOSTILE.replace("eval(args[0]);", f"{sent};"), sent, {})
    assert found["right"]
    assert found["strategy"] == "alone"
    assert found["ended"] in {"nonsense", "gone", "late", "wrong"}
    assert found["steps"] == ALL
    assert found["seconds"] < 4


@pytest.mark.parametrize(
    "answer", [{"half_s": -1}, {"half_s": "soon"}, {"fetch_s": []}, {"worker": 7}, {"worker": ""}]
)
def test_answers_that_are_none_are_no_recruit(run: Run, answer: dict[str, object]) -> None:
    found = run(HOSTILE, "", answer)
    assert found["right"]
    assert (found["strategy"], found["why"], found["ended"]) == ("alone", "nobody", None)


@pytest.mark.parametrize(
    ("arrange", "why"),
    [
        ("bob.free = false;", "busy"),
        ("bob.engine.modelId = 'another';", "nobody"),
        ("bob.engine.variant = 'int4';", "nobody"),
        ("bob.recruiting.close();", "nobody"),
        ("everybody.pop();", "nobody"),
    ],
    ids=["busy", "another model", "coarse weights", "does not compute", "nobody"],
)
def test_who_cannot_help_is_not_waited_for(run: Run, arrange: str, why: str) -> None:
    found = run(f"""
    const ann = tab('ann'), bob = tab('bob');
    {arrange}
    const made = await ann.denoise();
    return outcome(ann, made);
    """)
    assert found["right"]
    assert (found["strategy"], found["why"], found["aloneSteps"]) == ("alone", why, 12)


def test_a_link_that_is_too_slow_is_not_used(run: Run) -> None:
    found = run("""
    const ann = tab('ann', { setting: 'auto', aloneMs: 10 }), bob = tab('bob');
    bob.place.roundTripMs = 5000;
    await ann.denoise();
    const made = await ann.denoise();
    const { expected } = ann.told.at(-1);
    return { ...outcome(ann, made), expected };
    """)
    assert found["right"]
    assert (found["strategy"], found["why"]) == ("alone", "slow-link")
    assert found["expected"] < 1
    assert found["aloneSteps"] == 24


def test_a_split_that_is_slower_than_alone_is_given_up_after_a_few_steps(run: Run) -> None:
    found = run("""
    const ann = tab('ann', { setting: 'auto', aloneMs: 20, halfMs: 10 });
    const bob = tab('bob', { halfMs: 8 });
    await ann.denoise({ stop: 4 });
    ann.onStep = () => { // now that it is needed
      if (bob.helping.length) bob.engine.halfMs = 150;
    };
    ann.steps.length = 0;
    const made = await ann.denoise();
    return { ...outcome(ann, made), shared: ann.engine.halves.prompt };
    """)
    assert found["right"]
    assert (found["strategy"], found["ended"]) == ("alone", "slow")
    assert found["shared"] <= 6
    assert found["steps"] == ALL


def test_when_the_holder_stops_its_recruit_is_free_again(run: Run) -> None:
    found = run("""
    const ann = tab('ann'), bob = tab('bob'), cid = tab('cid');
    cid.free = ann.free = false;
    const stop = new AbortController();
    ann.onStep = (step) => step === 4 && stop.abort(new Error('cancelled'));
    const error = await ann.denoise({}, stop.signal).catch((reason) => reason.message);
    await until(() => bob.helping.at(-1) === null);
    const halves = bob.engine.halves.negative;
    await sleep(60);
    const late = bob.engine.halves.negative - halves;
    ann.recruiting.close();
    everybody.splice(0, 1);
    const made = await cid.denoise();
    return { error, late, ...outcome(cid, made) };
    """)
    assert (found["error"], found["late"]) == ("cancelled", 0)
    assert found["right"]
    assert found["strategy"] == "halves"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "halves.steal"}, "unknown-type"),
        ({"type": "halves.ask"}, "bad-request"),
        ({"type": "halves.ask", "shape": [2, 9, 4]}, "bad-request"),
        ({"type": "halves.ask", "shape": [3, 4, 4]}, "bad-request"),
        ({"type": "halves.ask", "shape": "222"}, "bad-request"),
        ({"type": "halves.ask", "model": "x"}, "other-model"),
        ({"type": "halves.prepare", "half": "both"}, "bad-request"),
        ({"type": "halves.prepare", "steps": 101}, "bad-request"),
        ({"type": "halves.prepare", "guidance": 1}, "bad-request"),
        ({"type": "halves.prepare", "tokens": 5000}, "bad-request"),
        ({"type": "halves.prepare", "file": "../secret"}, "bad-request"),
        ({"type": "halves.prepare"}, "not-found"),
        ({"type": "halves.prepare", "bytes": 1}, "bad-tensors"),
    ],
    ids=str,
)
def test_a_recruit_refuses_what_is_no_half_and_stays_free(run: Run, message, code: str) -> None:
    found = run(
        """
        const bob = tab('bob');
        const [mine, theirs] = fakes();
        bob.place.served.get('halves')(theirs);
        const [message] = args;
        const bytes = new Uint8Array(900);
        const link = new Link(mine, { provide: () => (message.bytes ? bytes : null) });
        const file = hex(await sha256(bytes));
        const code = await codeOf(link.request({ model: bob.engine.modelId, variant: 'f32',
          shape: message.type === 'halves.ask' && !message.model ? undefined : SHAPE,
          half: 'negative', steps: 4, guidance: 4, tokens: 1, file, ...message }));
        const ann = tab('ann');
        const made = await ann.denoise();
        return { code, ...outcome(ann, made) };
        """,
        message,
    )
    assert found["code"] == code
    assert found["right"]
    assert found["strategy"] == "halves"


@pytest.mark.parametrize(
    "sent",
    [
        "link.sendBytes(new Uint8Array(100))",
        "link.send({ type: 'halves.what' })",
        "send({ latent: { shape, data: data.fill(NaN) } }, { run: '1', step: '0', stop: '4' })",
        "send({ latent: { shape, data } }, { run: '1', step: '4', stop: '4' })",
        "send({ latent: { shape, data } }, { run: '1', step: '0', stop: '99' })",
    ],
)
def test_a_holder_that_sends_nonsense_is_left(run: Run, sent: str) -> None:
    found = run(
        f"""
        const bob = tab('bob');
        const [mine, theirs] = fakes();
        bob.place.served.get('halves')(theirs);
        const shape = SHAPE, data = new Float32Array(32);
        const bytes = toBytes({{ text: {{ shape: [1, 3], data: new Float32Array(3) }},
                                 latent: {{ shape, data }} }});
        let closed = null;
        const link = new Link(mine, {{ provide: () => bytes,
                                       closed: (error) => {{ closed = error.code; }} }});
        const send = (tensors, metadata) => link.sendBytes(toBytes(tensors, metadata));
        await link.request({{ type: 'halves.prepare', model: bob.engine.modelId, variant: 'f32',
          shape, half: 'negative', steps: 4, guidance: 4, tokens: 1,
          file: hex(await sha256(bytes)) }});
        {sent};
        await until(() => closed);
        const ann = tab('ann');
        const made = await ann.denoise();
        return {{ helped: bob.helping.filter((step) => step > 0).length, ...outcome(ann, made) }};
        """
    )
    assert found["right"]
    assert found["strategy"] == "halves"
