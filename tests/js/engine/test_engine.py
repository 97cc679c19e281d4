"""The engine as a page uses it: a Worker with a real WebGPU device makes what torch makes.

Three heads, an odd depth, two key heads; matrices in f32; every buffer begins as NaN. Pictures are
made in test_session.py: SwiftShader takes 20 s for the decoder's pipelines alone.
"""

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from diffusion.noise import initial_noise
from diffusion.plan.variants import read_variants
from tests.browser import webgpu_chromium
from tests.diffusion.plan.conftest import WGSL
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

__all__ = ["gpu", "gpu_page", "host", "packages", "webgpu_chromium"]

MODEL = "odd"
SIDES = 80, 64  # width, height
SHAPE = 16, 8, 10
PROMPT = "A red apple, left of a small dog &amp; more"
STAGE, LATENTS = 1e-4, 1e-3


@pytest.fixture(scope="module")
def opened(gpu: Call, host: PackageHost) -> dict[str, Any]:
    """`kept.engine`, and what it said when it was opened."""
    body = """
    const told = [];
    const [url] = args;
    kept.engine = await m.openEngine(url, {
      allowSoftware: true, poison: true, preload: ['encode', 'denoise'],
      longestSubmissionMs: Infinity, // as if it were a fast device
      onProgress: (progress) => told.push(progress),
    });
    const { about, modelId, variant, packageId, device } = kept.engine;
    return { about, modelId, variant, packageId, device, told, stats: await kept.engine.stats() };
    """
    opened: dict[str, Any] = gpu("engine", body, host.url + f"{MODEL}.f32/")
    return opened


@pytest.fixture(scope="module")
def engine(opened: dict[str, Any], gpu: Call) -> Call:
    """engine(body, *args): as gpu, with the opened engine as `engine`."""
    return lambda body, *args: gpu("engine", "const { engine } = kept;" + body, *args)


ENCODE = """
const encoded = await engine.encode(args[0]);
return Object.entries(encoded).map(([half, { features, tokens, unsure }]) =>
  [half, base64(features), tokens, unsure]);
"""

# Steps `start` to `stop` of the picture of a seed, with what was seen on the way
DENOISE = """
const [{ prompt, negativePrompt, seed, width, height, from, start = 0, ...wanted }] = args;
const { guidance } = wanted;
const noise = await engine.noise({ seed, width, height });
const conditioning = await engine.encode({ prompt, negativePrompt, guidance });
const seen = [];
const before = await engine.stats();
const latent = from ? floats(from) : noise.latent;
const done = await engine.denoise(
  { conditioning, latent, shape: noise.shape, start, ...wanted },
  { onStep: ({ step, latent, preview: { width, height, rgba } }) =>
    seen.push([step, base64(latent), width, height, rgba.length]) });
const after = await engine.stats();
return [base64(done), seen, after.submissions - before.submissions, base64(noise.latent)];
"""


def request(**changes: object) -> dict[str, object]:
    width, height = SIDES
    wanted = {"prompt": PROMPT, "negativePrompt": "blurry", "seed": 7, "width": width,
              "height": height, "steps": 8, "guidance": 4, "stop": 8}  # fmt: skip
    return wanted | changes


def test_it_says_what_it_is_and_what_it_loads(opened, packages: Packages) -> None:
    package = packages.package(f"{MODEL}.f32")
    assert opened["about"]["title"] == MODEL
    assert opened["variant"] == "f32"
    assert {file.stem for file in package.glob("*.bin")}
    assert len(opened["modelId"]) == len(opened["packageId"]) == 64
    device = opened["device"]
    assert device["software"] is True
    assert device["variant"] == str(read_variants(WGSL).for_software())
    assert device["features"] == []
    assert "swiftshader" in device["description"]
    for kind in ("download", "load", "compile"):
        told = [progress for progress in opened["told"] if progress["kind"] == kind]
        assert told[-1]["done"] == told[-1]["total"] > 0
        assert all(progress["done"] <= progress["total"] for progress in told)
    assert opened["stats"]["weightBytes"] == opened["stats"]["bufferBytes"] > 10**6
    assert opened["stats"]["submissions"] == 0


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("", (0, 0)), ("a", (1, 1)), (PROMPT, (9, 60)), ("a red apple " * 300, (256, 256))],
    ids=["no token", "one token", "a prompt", "256 tokens"],
)
def test_texts_are_encoded_as_torch_encodes_them(engine, packages, prompt: str, tokens) -> None:
    [[half, features, count, unsure]] = engine(ENCODE, {"prompt": prompt, "guidance": 1})
    assert (half, unsure) == ("prompt", [])
    assert tokens[0] <= count <= tokens[1]
    theirs = packages.torch(MODEL).encode(prompt, "", 1)["prompt"]
    ours = decoded(features, *theirs.shape)
    assert count == len(theirs)
    if count:
        assert distance(ours, theirs) < STAGE


def test_with_guidance_the_negative_text_is_encoded_too(engine, packages) -> None:
    wanted = {"prompt": "a cat", "negativePrompt": PROMPT, "guidance": 1.5}
    found = {half: features for half, features, _, _ in engine(ENCODE, wanted)}
    theirs = packages.torch(MODEL).encode("a cat", PROMPT, 1.5)
    assert found.keys() == theirs.keys() == {"prompt", "negative"}
    for half, features in theirs.items():
        assert distance(decoded(found[half], *features.shape), features) < STAGE


def their_steps(packages: Packages, **changes: Any) -> list[Array]:
    """torch's latents after each step; the first one is the noise."""
    wanted: dict[str, Any] = request(**changes)
    backend = packages.torch(MODEL)
    conditioning = backend.encode(wanted["prompt"], wanted["negativePrompt"], wanted["guidance"])
    latents = [initial_noise(wanted["seed"], SHAPE)]
    backend.denoise(
        conditioning,
        latents[0],
        steps=wanted["steps"],
        guidance=wanted["guidance"],
        start=0,
        stop=wanted["stop"],
        on_step=lambda step, latent: latents.append(latent.copy()),
    )
    return latents


def test_latents_after_eight_steps_with_guidance_are_torchs(engine, packages) -> None:
    done, seen, submissions, noise = engine(DENOISE, request())
    theirs = their_steps(packages)
    assert np.abs(decoded(noise, *SHAPE) - theirs[0]).max() < 3e-6
    assert [step for step, *_ in seen] == list(range(1, 9))
    assert {(width, height, size) for *_, width, height, size in seen} == {(10, 8, 320)}
    ours = [decoded(noise, *SHAPE), *(decoded(latent, *SHAPE) for _, latent, *_ in seen)]
    first, theirs_first = ours[1] - ours[0], theirs[1] - theirs[0]  # one velocity
    assert distance(first, theirs_first) < STAGE
    assert distance(decoded(done, *SHAPE), theirs[-1]) < LATENTS
    assert distance(theirs[-1], theirs[0]) > 0.1
    assert submissions == 8 + 1  # a step is one; before, what is constant over the steps


def test_without_guidance_and_text_they_are_torchs_too(engine, packages) -> None:
    changes = {"prompt": "", "guidance": 1, "steps": 3, "stop": 2, "seed": 2**32 - 1}
    done, *_ = engine(DENOISE, request(**changes))
    assert distance(decoded(done, *SHAPE), their_steps(packages, **changes)[-1]) < LATENTS


def test_cutting_the_steps_gives_the_same_bits(engine) -> None:
    whole, seen, *_ = engine(DENOISE, request(steps=4, stop=3))
    rest, *_ = engine(DENOISE, request(steps=4, start=1, stop=3, **{"from": seen[0][1]}))
    assert rest == whole
    none, nothing, *_ = engine(DENOISE, request(steps=4, start=3, stop=3, **{"from": whole}))
    assert (none, nothing) == (whole, [])


def test_a_cancelled_run_stops_between_steps_and_the_next_one_works(engine) -> None:
    body = """
    const { latent, shape } = await engine.noise({ seed: 1, width: 64, height: 64 });
    const conditioning = await engine.encode({ prompt: 'a cat', guidance: 1 });
    const cancel = new AbortController();
    const seen = [];
    const run = { conditioning, latent, shape, steps: 100, guidance: 1, start: 0, stop: 100 };
    const error = await engine.denoise(run, {
      signal: cancel.signal,
      onStep: ({ step }) => {
        seen.push(step);
        if (step === 2) cancel.abort(new Error('enough'));
      },
    }).catch((reason) => reason);
    const { submissions } = await engine.stats();
    await new Promise((resolve) => setTimeout(resolve, 300));
    const late = (await engine.stats()).submissions - submissions;
    const aborted = AbortSignal.abort(new Error('before'));
    const { message: never } = await engine.decode({ latent, shape }, { signal: aborted })
      .catch((reason) => reason);
    const again = await engine.denoise({ ...run, stop: 1 });
    return [error.message, seen, late, never, again.length];
    """
    message, seen, late, never, again = engine(body)
    assert (message, late, never, again) == ("enough", 0, "before", 1024)
    assert 2 <= len(seen) < 50


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("engine.noise({ seed: -1, width: 64, height: 64 })", "seed"),
        ("engine.noise({ seed: 1, width: 60, height: 64 })", "multiple of 8"),
        ("engine.encode({ prompt: 7, guidance: 1 })", "must be a text"),
        ("engine.encode({ prompt: 'a', guidance: 0.5 })", "Guidance is 1 to 20"),
        ("engine.decode({ latent: new Float32Array(5), shape: [16, 8, 8] })", "16 channels"),
        ("engine.decode({ latent: new Float32Array(0), shape: [16, 0, 8] })", "not a multiple"),
        ("engine.denoise({ ...run, steps: 101 })", "1 to 100 steps"),
        ("engine.denoise({ ...run, start: 2, stop: 1 })", "Steps 2 to 1"),
        ("engine.denoise({ ...run, stop: 9 })", "Steps 0 to 9"),
        ("engine.denoise({ ...run, guidance: 2 })", '"negative" is missing'),
        ("engine.denoise({ ...run, conditioning: { prompt: { ...text, tokens: 5 } } })", "other"),
        ("engine.denoise({ ...run, latent: new Float32Array(144), shape: [16, 3, 3] })", "not a"),
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_a_sentence(engine, call: str, said: str) -> None:
    body = f"""
    const text = {{ features: new Float32Array(48), tokens: 1 }};
    const run = {{ conditioning: {{ prompt: text }}, latent: new Float32Array(1024),
      shape: [16, 8, 8], steps: 8, guidance: 1, start: 0, stop: 1 }};
    return {call}.then(() => null, ({{ name, code, message }}) => [name, code, message]);
    """
    name, code, message = engine(body)
    assert said in message
    assert (name, code) in {("EngineError", "bad-request"), ("PlanError", "bad-plan")}


def test_memory_is_freed_on_request_and_comes_back_with_the_next_call(engine) -> None:
    body = """
    const before = await engine.stats();
    await engine.free();
    const freed = await engine.stats();
    await engine.encode({ prompt: 'a cat', guidance: 1 });
    const used = await engine.stats();
    return [before, freed, used].map(({ bufferBytes, weightBytes }) => [bufferBytes, weightBytes]);
    """
    [before, before_weights], freed, [used, used_weights] = engine(body)
    assert before == before_weights > 10**6
    assert freed == [0, 0]
    assert 0 < used == used_weights < before


def test_calls_end_when_it_is_closed(engine, gpu_page: Page) -> None:
    body = """
    const going = engine.encode({ prompt: 'a cat', guidance: 1 });
    engine.close();
    return (await Promise.allSettled([going, engine.stats()])).map(({ reason }) => reason.code);
    """
    assert engine(body) == ["closed", "closed"]
    gpu_page.wait_for_timeout(100)
    assert gpu_page.workers == []
