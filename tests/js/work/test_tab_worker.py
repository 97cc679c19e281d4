"""What a tab says and when it stops: its messages, with an engine whose steps the test takes."""

import pytest

# Each call of the engine is kept in `calls` and ends when the test says so.
SCENE = """
const sent = [], states = [], calls = [], beats = [];
const engine = {
  device: { description: 'A\\nGPU', software: false, variant: 'few 64x128x8x2' },
  packageId: 'p'.repeat(64),
  about: { text_dim: 4 },
  closed: false,
  close() { this.closed = true; },
  noise: async () => ({ latent: new Float32Array(4), shape: [1, 2, 2] }),
};
for (const name of ['encode', 'denoise', 'decode']) {
  engine[name] = (request, options = {}) => new Promise((resolve, reject) => {
    options.signal.addEventListener('abort', () => reject(options.signal.reason));
    calls.push({ name, request, ...options, resolve, reject });
  });
}
const wire = {
  buffered: 0,
  send: (message) => sent.push(message),
  sendBytes: (bytes) => sent.push(bytes.length),
};
const worker = new m.TabWorker(engine, {
  wire, key: 'k', onState: (state) => states.push(state), onBeat: () => beats.push(1),
});
const until = async (look) => {
  for (let i = 0; i < 500; i++) {
    if (look()) return look();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`not so: ${look}`);
};
const settings = { prompt: 'a rocket', negative_prompt: '', steps: 4, guidance: 4, width: 16,
                   height: 16 };
const lease = (kind, more = {}) => ({ type: 'work.lease', chunk: 7, attempt: 1, kind, job: 'j',
  image: 0, seed: 5, start: 0, stop: 4, settings, bytes: 0, ...more });
const texts = { prompt: { features: new Float32Array(8), tokens: 2, unsure: [] },
                negative: { features: new Float32Array(0), tokens: 0, unsure: [] } };
const preview = { width: 2, height: 2, rgba: new Uint8ClampedArray(16).fill(9) };
const step = (number) => ({ step: number, latent: new Float32Array(4).fill(number), preview });
const said = (type) => sent.filter((message) => message.type === `work.${type}`);
const welcome = () => {
  worker.connected();
  worker.receive({ type: 'work.welcome', worker: 'w', renew_seconds: 1 });
};
"""


@pytest.fixture
def run(module_page):
    def run_(body: str):
        return module_page.evaluate(
            "async () => { const m = await import('/static/js/work/tab-worker.js');"
            " const t = await import('/static/js/engine/safetensors.js');" + SCENE + body + " }"
        )

    return run_


def test_it_says_hello_and_waits_for_a_chunk(run):
    sent, states = run("welcome(); return [sent, states];")
    hello, claim = sent
    assert hello == {
        "type": "work.hello", "key": "k", "device": "A GPU", "software": False,
        "packages": ["p" * 64], "kernels": "few 64x128x8x2", "own_first": False,
    }  # fmt: skip
    assert claim == {
        "type": "work.claim", "conditionings": [], "latents": [], "own_first": False,
    }  # fmt: skip
    assert states[-1] == {"state": "waiting"}


def test_whether_its_own_jobs_are_first_is_said_at_once_unless_it_holds_a_chunk(run):
    result = run(
        """worker.ownFirst = true;
        const quiet = sent.length;
        welcome();
        worker.ownFirst = true;                   // nothing new
        worker.ownFirst = false;                  // while it waits
        const waiting = sent.map(({ type, own_first: first }) => [type, first]);
        worker.receive(lease('denoise'));
        const call = await until(() => calls[0]);
        worker.ownFirst = true;                   // while it computes
        const computing = said('claim').length;
        call.resolve(new Float32Array(4));
        await until(() => said('complete').length);
        worker.receive({ type: 'work.done', chunk: 7, attempt: 1 });
        await until(() => said('claim').length > computing);
        worker.disconnected();
        worker.ownFirst = false;
        return [quiet, waiting, computing, said('claim').map(({ own_first: first }) => first)];"""
    )
    assert result == [
        0,
        [["work.hello", True], ["work.claim", True], ["work.claim", False]],
        2,
        [True, False, True],
    ]


def test_what_it_computed_is_at_hand_for_the_next_chunk(run):
    result = run(
        """welcome();
        worker.receive(lease('encode'));
        (await until(() => calls[0])).resolve(texts);
        const [complete] = await until(() => said('complete').length && said('complete'));
        worker.receive({ type: 'work.done', chunk: 7, attempt: 1 });
        worker.receive(lease('denoise', { chunk: 8 }));
        const call = await until(() => calls[1]);
        call.resolve(new Float32Array(4));
        await until(() => said('complete').length === 2);
        worker.receive({ type: 'work.done', chunk: 8, attempt: 1 });
        return [complete, calls.map(({ name }) => name), call.request.conditioning === texts,
                said('claim').at(-1)];"""
    )
    complete, names, same, claim = result
    assert (complete["chunk"], complete["attempt"]) == (7, 1)
    assert complete["seconds"] >= 0
    assert names == ["encode", "denoise"]
    assert same
    assert claim["conditionings"] == ["j"]
    assert claim["latents"] == [["j", 0, 4]]


@pytest.mark.parametrize("ended", ["done", "lost"])
def test_what_is_next_is_claimed_with_a_result_and_once(run, ended):
    result = run(
        """welcome();
        worker.receive(lease('denoise'));
        (await until(() => calls[0])).resolve(new Float32Array(4));
        await until(() => said('complete').length);
        const order = sent.flatMap(({ type }) => type ?? []);  // without the bytes
        worker.ownFirst = true;                   // it has claimed, and says so anew
        const before = states.length;
        worker.receive({ type: 'work.ENDED', chunk: 7, attempt: 1 });
        const after = states.slice(before);
        worker.receive(lease('denoise', { chunk: 8 }));
        await until(() => calls[1]);
        return [order, after, said('claim').map(({ own_first: first }) => first)];""".replace(
            "ENDED", ended
        )
    )
    order, after, claims = result
    assert order[-3:] == ["work.claim", "work.complete", "work.claim"]
    assert after == [{"state": "waiting"}]
    assert claims == [False, False, True]


def test_what_it_lacks_comes_with_the_lease_in_pieces(run):
    result = run(
        """welcome();
        const tensors = t.toBytes({
          latent: { shape: [1, 2, 2], data: new Float32Array([1, 2, 3, 4]) },
          prompt: { shape: [2, 4], data: new Float32Array(8).fill(3) },
        });
        worker.receive(lease('denoise', { start: 2, bytes: tensors.length }));
        const early = calls.length;
        worker.receiveBytes(tensors.slice(0, 10).buffer);
        worker.receiveBytes(tensors.slice(10).buffer);
        const { request } = await until(() => calls[0]);
        return [early, [...request.latent], request.shape, request.start,
                request.conditioning.prompt.tokens, request.conditioning.prompt.features.length];"""
    )
    assert result == [0, [1, 2, 3, 4], [1, 2, 2], 2, 2, 8]


@pytest.mark.parametrize(
    "ending",
    ["worker.receive({ type: 'work.lost', chunk: 7, attempt: 1, code: 'lost' });",
     "worker.disconnected();", "worker.stop();",
     "worker.receive({ type: 'work.dismissed', code: 'x', detail: 'No.' });"],
)  # fmt: skip
def test_the_engine_is_stopped_within_the_step_and_hands_nothing_in(run, ending):
    result = run(
        f"""welcome();
        worker.receive(lease('denoise', {{ start: 0 }}));
        const call = await until(() => calls[0]);
        const before = said('step').length;
        {ending}
        const steps = said('step').length - before;
        call.onStep(step(2)); // it was on its way
        call.resolve(new Float32Array(4));
        await new Promise((resolve) => setTimeout(resolve, 30));
        return [call.signal.aborted, said('complete').length, said('fail').length,
                said('step').length - before - steps];"""
    )
    assert result == [True, 0, 0, 0]


def test_a_lost_chunk_that_it_does_not_hold_is_none_of_its_business(run):
    result = run(
        """welcome();
        worker.receive(lease('denoise'));
        const call = await until(() => calls[0]);
        for (const [chunk, attempt] of [[7, 0], [8, 1]]) {
          worker.receive({ type: 'work.lost', chunk, attempt, code: 'lost' });
          worker.receive({ type: 'work.done', chunk, attempt });
        }
        return [call.signal.aborted, said('claim').length];"""
    )
    assert result == [False, 1]


def test_steps_are_shown_and_checkpoints_left_as_time_passes(run):
    result = run(
        """let now = 1000;
        performance.now = () => now;
        welcome();
        worker.receive(lease('denoise', { stop: 100 }));
        const { onStep } = await until(() => calls[0]);
        for (let number = 1; number <= 40; number++) { now += 100; onStep(step(number)); }
        delete performance.now;
        return said('step').map(({ step, latent, preview }) => [step, latent, preview]);"""
    )
    steps = [step for step, _, _ in result]
    assert all(preview for _, _, preview in result)
    assert steps == [*range(1, 20, 2), *range(20, 41, 2)], "at most 8 a second"
    assert [step for step, latent, _ in result if latent] == [20, 40], "every 2 s"


def test_previews_wait_while_the_network_is_slow_and_checkpoints_do_not(run):
    result = run(
        """let now = 1000;
        performance.now = () => now;
        wire.buffered = 2 ** 22;
        welcome();
        worker.receive(lease('denoise', { stop: 100 }));
        const { onStep } = await until(() => calls[0]);
        for (let number = 1; number <= 30; number++) { now += 100; onStep(step(number)); }
        delete performance.now;
        return said('step').map(({ step, latent }) => [step, latent]);"""
    )
    assert result == [[20, True]]


def test_the_lease_is_renewed_and_the_page_beats_without_the_pages_timers(run):
    result = run(
        """const { setTimeout } = window;
        window.setTimeout = window.setInterval = () => 0; // held up, as in a hidden tab
        welcome();
        worker.receive(lease('denoise'));
        while (!beats.length || said('renew').length < 3) {
          await new Promise((resolve) => { const c = new MessageChannel();
            c.port1.onmessage = resolve; c.port2.postMessage(0); });
        }
        worker.stop();
        window.setTimeout = setTimeout;
        return said('renew')[0];"""
    )
    assert result == {"type": "work.renew", "chunk": 7, "attempt": 1}


def test_it_gives_back_what_it_has_when_it_is_stopped(run):
    result = run(
        """welcome();
        worker.receive(lease('denoise'));
        const { onStep } = await until(() => calls[0]);
        onStep(step(1));
        onStep(step(3));
        worker.stop();
        const at = sent.findIndex(({ type }) => type === 'work.goodbye');
        return [said('step').at(-1), sent.length - 1 === at, engine.closed];"""
    )
    step, last, closed = result
    assert (step["step"], step["latent"]) == (3, True)
    assert last
    assert closed


@pytest.mark.parametrize(
    ("code", "fault", "ended"),
    [
        ("out-of-memory", "out-of-memory", False),
        ("too-large", "out-of-memory", False),
        ("device-error", "computation-failed", False),
        (23, "computation-failed", False),  # of a DOMException
        ("device-lost", "worker-lost", True),
        ("bad-plan", "model-unreadable", True),
        ("worker-failed", "worker-lost", True),
    ],
)
def test_an_error_of_the_engine_is_said_by_its_kind(run, code, fault, ended):
    result = run(
        f"""welcome();
        worker.receive(lease('decode', {{ bytes: 0, kind: 'encode' }}));
        const call = await until(() => calls[0]);
        call.reject(Object.assign(new Error('it broke'), {{ code: {code!r} }}));
        const [fail] = await until(() => said('fail').length && said('fail'));
        const [claims, goodbyes] = [said('claim').length, said('goodbye').length];
        return [fail, claims, goodbyes, states.at(-1), engine.closed];"""
    )
    fail, claims, goodbyes, state, closed = result
    assert fail == {
        "type": "work.fail", "chunk": 7, "attempt": 1, "fault": fault, "detail": "Error: it broke",
    }  # fmt: skip
    assert (claims, goodbyes) == ((1, 1) if ended else (2, 0))
    assert closed is ended
    if ended:
        assert state == {"state": "ended", "code": code, "message": "it broke"}


def test_a_prompt_that_this_browser_may_read_differently_is_left_to_others(run):
    detail = run(
        """welcome();
        worker.receive(lease('encode'));
        const unsure = { ...texts, prompt: { ...texts.prompt, unsure: ['\\u{1FAE8}'] } };
        (await until(() => calls[0])).resolve(unsure);
        return (await until(() => said('fail').length && said('fail')))[0].detail;"""
    )
    assert "differently" in detail


def test_after_the_connection_was_lost_it_says_hello_again(run):
    result = run(
        """welcome();
        worker.receive(lease('denoise', { bytes: 100 }));
        worker.receiveBytes(new ArrayBuffer(60)); // and then nothing more
        worker.disconnected();
        welcome();
        worker.receiveBytes(new ArrayBuffer(40));
        return [said('hello').length, said('claim').length, calls.length, states.at(-1)];"""
    )
    assert result == [2, 2, 0, {"state": "waiting"}]


def test_pictures_are_sent_without_their_alpha(run):
    result = run(
        """welcome();
        const latent = t.toBytes({ latent: { shape: [1, 2, 2], data: new Float32Array(4) } });
        let bytes;
        wire.sendBytes = (piece) => { bytes = piece; };
        worker.receive(lease('decode', { bytes: latent.length }));
        worker.receiveBytes(latent.buffer);
        const rgba = new Uint8ClampedArray([1, 2, 3, 255, 4, 5, 6, 255]);
        (await until(() => calls[0])).resolve({ width: 2, height: 1, rgba });
        await until(() => bytes);
        const { picture } = t.fromBytes(bytes);
        return [picture.shape, [...picture.data]];"""
    )
    assert result == [[1, 2, 3], [1, 2, 3, 4, 5, 6]]


# Two tabs at one chunk ------------------------------------------------------------------------
MESH = """
const served = new Map();
const mesh = { peers: () => [], serve: (label, take) => served.set(label, take) };
let free = true;
const idle = new m.TabWorker(engine, {
  wire, key: 'k', mesh, strategy: 'halves', onState: (state) => states.push(state),
});
idle.connected();
idle.receive({ type: 'work.welcome', worker: 'w', renew_seconds: 1 });
const { Link } = await import('/static/js/room/link.js');
const answered = async (more = {}) => {
  const ends = [{}, {}].map((end) => Object.assign(end, {
    readyState: 'open', bufferedAmount: 0, maxMessageBytes: 65536,
    send: (data) => setTimeout(() => end.other.onmessage?.({ data: data.slice() })),
    close: () => {},
  }));
  [ends[0].other, ends[1].other] = [ends[1], ends[0]];
  served.get('halves')(ends[1]);
  const question = { type: 'halves.ask', model: engine.modelId, variant: 'f16', shape: [1, 2, 2] };
  return new Link(ends[0], {}).request({ ...question, ...more }).then(
    ({ to, ...answer }) => answer, ({ code }) => code);
};
const asked = async () => {
  const answer = await answered();
  return typeof answer === 'string' ? answer : answer.half_s;
};
Object.assign(engine, { modelId: 'm', variant: 'f16' });
Object.assign(engine.about, { latent_channels: 1, max_side: 64, vae_scale: 8 });
"""


def test_it_helps_others_while_it_has_waited_for_a_moment_and_has_no_chunk(run):
    result = run(
        MESH
        + """const at_once = await asked();
        await new Promise((resolve) => setTimeout(resolve, 300));
        const waiting = await asked();
        idle.receive(lease('denoise'));
        await until(() => calls[0]);
        const computing = await asked();
        idle.stop();
        return [at_once, waiting, computing, served.get('halves')];"""
    )
    assert result == ["busy", None, "busy", None]


def test_who_asks_for_help_is_told_which_worker_it_asks(run):
    result = run(
        MESH
        + """await new Promise((resolve) => setTimeout(resolve, 300));
        const answers = [{ worker: 'v' }, {}, { worker: 5 }].map((more) => answered(more));
        return Promise.all(answers);"""
    )
    assert result == [{"half_s": None, "worker": "w"}] * 2 + ["bad-request"]


def test_who_has_helped_is_said_with_the_result_of_the_same_chunk(run):
    result = run(
        """welcome();
        worker.receive(lease('denoise'));
        (await until(() => calls[0])).ledger.note('v', { steps: 3, received: 5, sent: 6 });
        calls[0].ledger.note(null, { steps: 1, received: 1, sent: 1 });
        calls[0].resolve(new Float32Array(4));
        await until(() => said('complete').length);
        worker.receive({ type: 'work.done', chunk: 7, attempt: 1 });
        worker.receive(lease('denoise'));
        (await until(() => calls[1])).resolve(new Float32Array(4));
        await until(() => said('complete').length === 2);
        return said('complete').map(({ partners }) => partners ?? 'nobody');"""
    )
    assert result == [[{"worker": "v", "steps": 3, "received": 5, "sent": 6}], "nobody"]


def test_its_state_says_how_a_chunk_is_computed(run):
    result = run(
        MESH
        + """mesh.peers = () => [{ id: 'bob', name: 'Bob', roundTripMs: 1,
          openChannel: async () => { throw Object.assign(new Error('no'), { code: 'busy' }); } }];
        idle.receive(lease('denoise'));
        const call = await until(() => calls[0]);
        call.onStep(step(1));
        const { strategy } = states.at(-1);
        call.resolve(new Float32Array(4));
        await until(() => said('complete').length);
        idle.receive({ type: 'work.done', chunk: 7, attempt: 1 });
        return [call.name, strategy, states.at(-1)];"""
    )
    assert result == [
        "denoise",
        "Alone: the other tabs compute pictures of their own.",
        {"state": "waiting"},
    ]
