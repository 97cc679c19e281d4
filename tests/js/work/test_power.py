"""A tab computes at most a share of the time, and pauses and rests without losing what it holds."""

import pytest

from tests.js.work.test_tab_worker import run

__all__ = ["run"]

# The engine computes by itself here: so many milliseconds a step.
BY_ITSELF = """
  engine.denoise = async ({ latent, start, stop }, { signal, onStep }) => {
    calls.push({ start, stop });
    for (let at = start; at < stop; at++) {
      await new Promise((resolve) => setTimeout(resolve, STEP_MS));
      signal.throwIfAborted();
      busy += STEP_MS;
      onStep(step(at + 1));
    }
    return latent;
  };
  let busy = 0;
  welcome();
"""


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("step_ms", [4, 60])
def test_of_all_the_time_the_share_is_computed(run, share, step_ms):
    steps = 12 if step_ms == 60 else 120
    computed, said = run(
        BY_ITSELF.replace("STEP_MS", str(step_ms))
        + f"""worker.limit({share});
        const timed = {{ ...settings, steps: {steps} }};
        const began = performance.now();
        worker.receive(lease('denoise', {{ stop: {steps}, settings: timed }}));
        await until(() => said('complete').length);
        worker.receive({{ type: 'work.done', chunk: 7, attempt: 1 }});
        await until(() => said('claim').length === 2); // after the last rest
        const all = performance.now() - began;
        const computing = said('complete')[0].seconds * 1000;
        return [computing / all, {{ busy: busy / all, resting: states.filter(
          ({{ state }}) => state === 'resting').length, calls: calls.length }}];"""
    )
    assert abs(computed - share) < 0.1
    assert said["busy"] <= share + 0.1
    assert said["resting"] >= 1
    assert said["calls"] == steps


def test_all_of_the_time_is_one_call_of_the_engine_and_no_rest(run):
    calls, states = run(
        BY_ITSELF.replace("STEP_MS", "2")
        + """worker.receive(lease('denoise'));
        await until(() => said('complete').length);
        worker.receive({ type: 'work.done', chunk: 7, attempt: 1 });
        return [calls, states.map(({ state }) => state)];"""
    )
    assert calls == [{"start": 0, "stop": 4}]
    assert "resting" not in states


def test_a_rest_is_owed_and_paid_over_more_than_one_piece_of_work(run):
    rests = run(
        """const { Power } = await import('/static/js/work/power.js');
        let now = 0;
        const timers = { after: (ms, run) => { now += ms + 3; run(); }, close() {} }; // late ones
        const power = new Power({ now: () => now, timers });
        power.limit(0.5);
        const rests = [];
        for (let i = 0; i < 4; i++) {
          now += 20;
          power.worked(20);
          rests.push(power.restMs);
          await power.rest();
        }
        power.limit(0.25);
        power.worked(10);
        rests.push(power.restMs);
        power.limit(1);
        rests.push(power.restMs);
        return rests;"""
    )
    assert rests == [20, 17, 17, 17, 30, 0]


def test_another_limit_ends_the_rest(run):
    states = run(
        BY_ITSELF.replace("STEP_MS", "50")
        + """worker.limit(0.01); // seconds of rest
        worker.receive(lease('denoise', { stop: 2 }));
        await until(() => states.at(-1).state === 'resting');
        worker.limit(1);
        await until(() => said('complete').length);
        return states.map(({ state }) => state);"""
    )
    assert states[-1] == "computing"


def test_a_long_rest_gives_the_chunk_back_with_its_checkpoint(run):
    sent, claims = run(
        BY_ITSELF.replace("STEP_MS", "60")
        + """worker.limit(0.005); // 12 s of rest for a step
        worker.receive(lease('denoise'));
        await until(() => said('release').length);
        await new Promise((resolve) => setTimeout(resolve, 50));
        return [sent.filter(({ type }) => type && type !== 'work.renew'), said('claim').length];"""
    )
    assert [message["type"] for message in sent[-2:]] == ["work.step", "work.release"]
    assert (sent[-2]["step"], sent[-2]["latent"]) == (1, True)
    assert (sent[-1]["chunk"], sent[-1]["attempt"]) == (7, 1)
    assert claims == 1  # the next one when it has rested


def test_a_pause_gives_the_lease_back_and_it_is_a_worker_again_after_it(run):
    result = run(
        """welcome();
        worker.receive(lease('denoise'));
        const call = await until(() => calls[0]);
        call.onStep(step(2));
        worker.pause('battery');
        const types = sent.filter(({ type }) => type).map(({ type }) => type);
        const paused = states.at(-1);
        call.onStep(step(3)); // it was on its way
        worker.resume();
        const hello = sent.at(-1).type;
        worker.receive({ type: 'work.welcome', worker: 'w', renew_seconds: 1 });
        return [types, said('step').at(-1), call.signal.aborted, paused, hello, sent.at(-1),
                states.at(-1)];"""
    )
    types, last_step, aborted, paused, hello, claim, state = result
    assert types[-2:] == ["work.step", "work.goodbye"]
    assert (last_step["step"], last_step["latent"]) == (2, True)
    assert aborted
    assert paused == {"state": "paused", "reason": "battery"}
    assert hello == "work.hello"
    assert claim["type"] == "work.claim"
    assert claim["latents"] == []
    assert state == {"state": "waiting"}


def test_a_paused_tab_says_no_hello_whatever_its_socket_does(run):
    sent, states = run(
        """worker.pause('hidden');
        worker.connected();
        worker.disconnected();
        worker.connected();
        const quiet = sent.length;
        const paused = states.at(-1);
        worker.disconnected();
        worker.resume();
        const closed = sent.length;
        worker.connected();
        return [[quiet, closed, sent.map(({ type }) => type)], [paused, states.at(-1)]];"""
    )
    assert sent == [0, 0, ["work.hello"]]
    assert states == [{"state": "paused", "reason": "hidden"}, {"state": "connecting"}]


def test_a_pause_that_crosses_a_welcome_or_a_lease_holds_nothing(run):
    types, computed, state = run(
        """worker.connected();
        worker.pause('hidden');
        worker.receive({ type: 'work.welcome', worker: 'w', renew_seconds: 1 });
        const early = sent.map(({ type }) => type);
        worker.resume();
        worker.receive({ type: 'work.welcome', worker: 'w', renew_seconds: 1 });
        worker.pause('hidden');
        worker.receive(lease('denoise')); // was on its way
        await new Promise((resolve) => setTimeout(resolve, 30));
        return [[early, sent.map(({ type }) => type)], calls.length, states.at(-1)];"""
    )
    assert types[0] == ["work.hello", "work.goodbye"]
    assert types[1] == [*types[0], "work.hello", "work.claim", "work.goodbye"]
    assert computed == 0
    assert state == {"state": "paused", "reason": "hidden"}
