"""Guidance halves on two engines in one browser, each with a device and a Worker of its own: the
latents of one engine, and torch's."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue

import numpy as np
import pytest
from playwright.sync_api import Page

from diffusion.backends.wgpu_backend import open_wgpu
from diffusion.backends.wgpu_device import Device
from diffusion.halves import advanced, denoise_half
from diffusion.noise import initial_noise
from tests.browser import webgpu_chromium
from tests.diffusion.plan.conftest import device
from tests.js.engine.gpu import (
    Array,
    Call,
    Packages,
    decoded,
    distance,
    gpu,
    gpu_page,
    host,
    packages,
)
from tests.js.engine.package_host import PackageHost

__all__ = ["device", "gpu", "gpu_page", "host", "packages", "webgpu_chromium"]

Answer = Callable[[str], str]

MODEL = "odd"
SHAPE = 16, 8, 8
PROMPT, NEGATIVE, GUIDANCE, STEPS, SEED = "a red apple left of a small dog", "blurry", 4, 6, 7
F32, F16 = 1e-3, 2e-2  # what an engine by itself is allowed beside torch, see test_engine.py

PRELUDE = """
const { f32, f16 } = kept;
const wanted = { prompt: 'a red apple left of a small dog', negativePrompt: 'blurry', guidance: 4 };
const { latent, shape } = await f32.noise({ seed: 7, width: 64, height: 64 });
const texts = await f32.encode(wanted);
const run = { latent, shape, steps: 6, guidance: 4, start: 0, stop: 6 };
const alone = (engine, more = {}) => engine.denoise({ ...run, conditioning: texts, ...more });
// A pair that gives each other what it makes
const pair = (first, second, more = {}) => {
  const made = { negative: [], prompt: [] };
  const waiting = { negative: [], prompt: [] };
  const exchange = (half, other) => ({ step, velocity }) => {
    made[half][step] = velocity;
    waiting[half][step]?.(velocity);
    return made[other][step] ?? new Promise((resolve) => { waiting[other][step] = resolve; });
  };
  const one = (engine, half, other) => engine.denoiseHalf(
    { ...run, conditioning: { [half]: texts[half] }, half, ...more },
    { exchange: exchange(half, other) });
  return Promise.all([one(first, 'negative', 'prompt'), one(second, 'prompt', 'negative')]);
};
"""


@pytest.fixture(scope="module")
def pages(gpu: Call, host: PackageHost) -> Call:
    body = """
    const options = { allowSoftware: true, poison: true, preload: ['encode', 'denoise'],
      longestSubmissionMs: Infinity };
    kept.f32 = await m.openEngine(args[0], options);
    kept.f16 = await m.openEngine(args[1], options);
    """
    gpu("engine", body, host.url + f"{MODEL}.f32/", host.url + f"{MODEL}.f16/")
    return lambda body, *args: gpu("engine", PRELUDE + body, *args)


@pytest.fixture(scope="module")
def theirs(packages: Packages) -> Array:
    backend = packages.torch(MODEL)
    texts = backend.encode(PROMPT, NEGATIVE, GUIDANCE)
    noise = initial_noise(SEED, SHAPE)
    latent = backend.denoise(texts, noise, steps=STEPS, guidance=GUIDANCE, start=0, stop=STEPS)
    assert distance(latent, noise) > 0.1
    return latent


def test_an_engine_that_is_given_the_other_half_makes_what_it_makes_alone(
    pages: Call, theirs: Array
) -> None:
    """Each step takes one submission, as alone."""
    body = """
    const one = await alone(f32);
    const before = await f32.stats();
    const checked = [];
    const seen = [];
    const { latent: done, step } = await f32.denoiseHalf(
      { ...run, conditioning: texts, half: 'prompt', checks: [0, 1, 2, 3, 4, 5] },
      { onStep: ({ step, preview }) => seen.push([step, preview.rgba.length]),
        exchange: ({ step, expected }) => { checked.push(step); return expected; } });
    const after = await f32.stats();
    return [base64(one), base64(done), step, checked, seen,
            after.submissions - before.submissions, after.bufferBytes - before.bufferBytes];
    """
    one, done, step, checked, seen, submissions, bytes_ = pages(body)
    alone, halves = decoded(one, *SHAPE), decoded(done, *SHAPE)
    assert distance(halves, alone) < 1e-5
    assert distance(alone, theirs) < F32
    assert distance(halves, theirs) < F32
    assert step == STEPS
    assert checked == list(range(STEPS))
    assert seen == [[step, 4 * 8 * 8] for step in range(1, STEPS + 1)]
    assert submissions == (1 + STEPS) + STEPS * (1 + 1)  # its own half; each check a run of its own
    assert bytes_ == 0


@pytest.mark.parametrize(("first", "second", "close"), [("f32", "f16", F16), ("f16", "f32", F16)])
def test_f16_and_f32_make_one_picture_together(
    pages: Call, theirs: Array, first: str, second: str, close: float
) -> None:
    body = f"""
    const before = await {first}.stats();
    const [one, two] = await pair({first}, {second});
    const after = await {first}.stats();
    return [base64(one.latent), base64(two.latent), one.step, two.step,
            after.submissions - before.submissions];
    """
    one, two, *rest = pages(body)
    assert one == two  # to the last bit, whatever the devices round
    assert 0 < distance(decoded(one, *SHAPE), theirs) < close
    assert rest == [STEPS, STEPS, 1 + STEPS]


@pytest.fixture(scope="module")
def answers(gpu_page: Page) -> list[Answer]:
    """What the page is answered when it gives a velocity: the last of these does it."""
    answers: list[Answer] = []
    gpu_page.expose_function("given", lambda velocity: answers[-1](velocity))
    return answers


# The first name is the tab's packing, the second one what computes elsewhere
@pytest.mark.parametrize(
    ("tab", "elsewhere", "close"),
    [
        ("f32", "torch", F32),
        ("f16", "torch", F16),
        ("f32", "wgpu f16", F16),
        ("f16", "wgpu f16", F16),
    ],
)
def test_a_tab_and_another_kind_of_worker_make_one_picture_together(
    pages: Call, answers: list[Answer], packages: Packages, device: Device, theirs: Array,
    tab: str, elsewhere: str, close: float,
) -> None:  # fmt: skip
    """WebGPU here, torch or wgpu there, a velocity to and fro every step."""
    sent: dict[str, SimpleQueue[Array]] = {"tab": SimpleQueue(), "elsewhere": SimpleQueue()}

    def given(velocity: str) -> str:
        sent["tab"].put(decoded(velocity, *SHAPE))
        return base64.b64encode(sent["elsewhere"].get(timeout=60).tobytes()).decode()

    def exchange(step: int, velocity: Array) -> Array:
        sent["elsewhere"].put(velocity)
        return sent["tab"].get(timeout=60)

    noise = initial_noise(SEED, SHAPE)

    def compute() -> Array:
        torch = packages.torch(MODEL)
        texts = torch.encode(PROMPT, NEGATIVE, GUIDANCE)
        if elsewhere == "torch":
            return half_of(torch, texts)
        with closing(open_wgpu(torch.folder, device, variant="f16")) as backend:
            return half_of(backend, texts)

    def half_of(backend, texts) -> Array:
        latent, done = denoise_half(
            backend, {"negative": texts["negative"]}, noise, half="negative",
            steps=STEPS, guidance=GUIDANCE, start=0, stop=STEPS, exchange=exchange,
        )  # fmt: skip
        assert done == STEPS
        return latent

    answers.append(given)
    body = f"""
    const done = await {tab}.denoiseHalf(
      {{ ...run, latent: floats(args[0]), half: 'prompt',
         conditioning: {{ prompt: texts.prompt }} }},
      {{ exchange: async ({{ velocity }}) => floats(await given(base64(velocity))) }});
    return [base64(done.latent), done.step];
    """
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(compute)
        made, step = pages(body, base64.b64encode(noise.tobytes()).decode())
        there = computing.result()
    here = decoded(made, *SHAPE)
    assert step == STEPS
    assert np.array_equal(here, there)  # to the last bit, whatever computes a half
    assert 0 < distance(here, theirs) < close


def test_it_goes_on_alone_from_the_step_at_which_the_other_half_stayed_away(
    pages: Call, theirs: Array
) -> None:
    body = """
    const steps = [];
    const { latent: left, step } = await f32.denoiseHalf(
      { ...run, conditioning: texts, half: 'negative', checks: [0, 1] },
      { onStep: ({ step }) => steps.push(step), exchange: ({ expected }) => expected });
    const rest = await alone(f32, { latent: left, start: step });
    const refused = await f32.denoiseHalf(
      { ...run, conditioning: texts, half: 'negative' },
      { exchange: () => { throw new Error('gone'); } });
    return [steps, step, base64(rest), refused.step, base64(refused.latent), base64(latent)];
    """
    steps, step, rest, at, unchanged, noise = pages(body)
    assert (steps, step) == ([1, 2], 2)
    assert distance(decoded(rest, *SHAPE), theirs) < F32
    assert (at, unchanged) == (0, noise)


def test_given_up_while_it_waits_for_the_other_half_it_ends_at_once(pages: Call) -> None:
    body = """
    const cancel = new AbortController();
    const error = await f32.denoiseHalf(
      { ...run, conditioning: texts, half: 'prompt' },
      { signal: cancel.signal, exchange: () => {
        cancel.abort(new Error('enough'));
        return new Promise(() => {});
      } }).catch((reason) => reason);
    const again = await alone(f32, { stop: 1 });
    return [error.message, again.length];
    """
    assert pages(body) == ["enough", 1024]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("{ guidance: 1 }", "Only with guidance"),
        ("{ half: 'both' }", "Only with guidance"),
        ("{ conditioning: { negative: texts.negative } }", '"prompt" is missing'),
        ("{ start: 3, stop: 2 }", "Steps 3 to 2"),
    ],
)
def test_what_makes_no_sense_is_refused(pages: Call, changes: str, said: str) -> None:
    body = f"""
    return f32.denoiseHalf({{ ...run, conditioning: texts, half: 'prompt', ...{changes} }},
      {{ exchange: () => null }}).then(() => null, ({{ code, message }}) => [code, message]);
    """
    code, message = pages(body)
    assert code == "bad-request"
    assert said in message


def test_a_step_has_the_same_bits_as_in_python(gpu: Call) -> None:
    latent, negative, prompt = np.random.default_rng(3).normal(0, 2, (3, 500)).astype(np.float32)
    body = """
    const [latent, negative, prompt] = args.map(floats);
    return base64(m.advanced(latent, { negative, prompt }, 4.3, -0.037));
    """
    found = gpu("halves", body, latent, negative, prompt)
    wanted = advanced(latent, negative, prompt, 4.3, -0.037)
    assert np.array_equal(decoded(found, 500), wanted)
