"""A model with a deep compression decoder, packed as f16 from f32, and devices that fail.

The engine's modules without its Worker, so that a test can reach the device. Every buffer begins as
NaN. PRX-Emoji is made in tests/e2e/test_computing_tab.py: SwiftShader takes half as long for the
pipelines of this decoder.
"""

import json

import numpy as np
import pytest

from diffusion.noise import initial_noise
from diffusion.pipeline import generate
from diffusion.plan.schema import write_plan
from diffusion.plan.trial import trial_plan
from diffusion.preview import apply_map
from diffusion.settings import Settings
from tests.browser import webgpu_chromium
from tests.diffusion.plan.conftest import WGSL
from tests.js.engine.gpu import (
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
from tests.js.pictures import decibels

__all__ = ["gpu", "gpu_page", "host", "packages", "webgpu_chromium"]

F16_STAGE, F16_LATENTS, F16_DECIBELS = 5e-3, 2e-2, 38
MODEL = "deep"
PROMPT = "a red apple left of a small dog"
WIDTH, HEIGHT, STEPS = 160, 96, 8
SHAPE = 32, 3, 5
SOON = '"TILE_M":64,"TILE_N":64,"TILE_K":4'  # a tile that compiles soon
TRIED = ["baseline", "64x32x4"]

OPEN = """
const options = { wgslUrl: '/static/wgsl/', allowSoftware: true, poison: true };
options.longestSubmissionMs = Infinity; // as if it were a fast device
"""


@pytest.fixture(scope="module")
def session(gpu: Call, host: PackageHost) -> Call:
    """session(modules, body, *args): as gpu, with a session of the model in f16 as `session`."""
    body = OPEN + "kept.session = await m.openSession(args[0], options);"
    gpu("session", body, host.url + f"{MODEL}.f16/")
    return lambda modules, body, *args: gpu(modules, "const { session } = kept;" + body, *args)


MAKE = """
const [{ prompt, seed, width, height, steps, guidance }] = args;
const { latent, shape } = await session.noise({ seed, width, height });
const conditioning = await session.encode({ prompt, guidance });
const shown = [];
const done = await session.denoise(
  { conditioning, latent, shape, steps, guidance, start: 0, stop: steps },
  { onStep: ({ latent, preview }) => shown.push([base64(latent), base64(preview.rgba)]) });
const { rgba } = await session.decode({ latent: done, shape });
return [base64(conditioning.prompt.features), shown, base64(rgba), session.stats()];
"""


def test_what_f16_loses_is_little_from_the_text_to_the_picture(session, packages) -> None:
    backend = packages.torch(MODEL)
    wanted = Settings(PROMPT, MODEL, WIDTH, HEIGHT, steps=STEPS, guidance=4.0, seed=1)
    features, shown, rgba, stats = session("session", MAKE, {
        "prompt": PROMPT, "seed": 1, "width": WIDTH, "height": HEIGHT, "steps": STEPS,
        "guidance": 4,
    })  # fmt: skip
    latents = [initial_noise(1, SHAPE)]
    [theirs] = generate(backend, wanted, lambda progress: latents.append(progress.latent.copy()))
    encoded = backend.encode(PROMPT, "", 1)["prompt"]
    assert 0 < distance(decoded(features, *encoded.shape), encoded) < F16_STAGE
    ours = [decoded(latent, *SHAPE) for latent, _ in shown]
    assert distance(ours[0] - latents[0], latents[1] - latents[0]) < F16_STAGE
    assert distance(ours[-1], theirs.latent) < F16_LATENTS
    assert distance(theirs.latent, latents[0]) > 0.1
    picture = decoded(rgba, HEIGHT, WIDTH, 4, dtype="u1")[..., :3]
    assert decibels(picture, theirs.pixels) > F16_DECIBELS
    # after the last step a preview shows the latent itself
    preview = decoded(shown[-1][1], *SHAPE[1:], 4, dtype="u1")[..., :3]
    assert backend.folder.preview is not None
    assert decibels(preview, apply_map(theirs.latent, backend.folder.preview)) > F16_DECIBELS
    assert stats["submissions"] == 1 + 1 + STEPS + 1  # text, constants, steps, picture


def test_what_is_long_is_submitted_in_parts_and_is_the_same_to_the_last_bit(session) -> None:
    body = """
    const { device } = session;
    const { pace } = device;
    const encode = async () => {
      const before = device.submissions;
      const { prompt } = await session.encode({ prompt: args[0], guidance: 1 });
      return [base64(prompt.features), device.submissions - before];
    };
    const found = [await encode()];
    try {
      device.pace = new m.Pace(1); // it measures the first time
      found.push(await encode(), await encode());
      device.pace = new m.Pace(60_000);
      found.push(await encode(), await encode());
    } finally {
      device.pace = pace;
    }
    return found;
    """
    found = session("pace", body, PROMPT)
    assert {features for features, _ in found} == {found[0][0]}
    whole, measured, in_parts, measured_again, together = [count for _, count in found]
    assert whole == together == 1
    assert measured >= in_parts > 30  # equal where every dispatch takes longer than that
    assert measured_again > 10  # kinds of dispatches


def test_a_stage_takes_the_memory_that_was_planned(session, packages: Packages) -> None:
    body = """
    const { openRun } = await import('/static/js/engine/run.js');
    const { readPlan } = await import('/static/js/engine/plan.js');
    const { Weights } = await import('/static/js/engine/weights.js');
    const { Shaders, shadersAt } = await import('/static/js/engine/shaders.js');
    const { symbolValues, stageMemory } = await import('/static/js/engine/sizes.js');
    const { device, reader } = session;
    session.free();
    const plan = readPlan(await reader.file('plan.json'));
    const weights = new Weights(device, plan,
      { pieces: (name) => reader.pieces(name.replace('.', '/')) });
    const shaders = new Shaders(device, shadersAt('/static/wgsl/'));
    const context = { device, plan, weights, shaders };
    const sizes = { B: 2, T: 5, S: 4, H: 4, W: 6 };
    const planned = stageMemory(plan, 'denoise', symbolValues(plan, sizes));
    const run = await openRun(context, sizes, { denoise: null });
    const taken = [weights.bytes, run.bytes, device.bufferBytes];
    run.close();
    weights.release(['transformer.img_in']);
    const names = weights.loaded;
    weights.release();

    device.largestBinding = 100_000;
    const refused = await openRun(context, sizes, { denoise: null }).catch((error) => error);
    device.largestBinding = 2 ** 30;
    return [planned, taken, names, refused.code, refused.message, device.bufferBytes];
    """
    planned, [weights, run, together], kept, code, message, after = session("session", body)
    assert weights == planned["weights"]
    # besides the stage's tensors: sizes in strides of 256 bytes, and 16 bytes of nothing
    assert 0 < run - planned["pool"] - planned["shared"] < 64 * 256
    assert together == weights + run
    assert kept == ["transformer.img_in"]
    assert (code, after) == ("too-large", 0)
    assert "at most 1 MB in one piece" in message


def test_errors_of_the_device_become_errors(session) -> None:
    body = """
    const { device } = session;
    const failures = [];
    const expect = (work) => work.then(() => failures.push(null),
      ({ name, code, message }) => failures.push([name, code, message]));
    await expect(device.guarded('binding', () => device.gpu.createBindGroup(
      { layout: device.gpu.createBindGroupLayout({ entries: [] }), entries: [
        { binding: 0, resource: { buffer: device.createBuffer(16, 'x') } }] })));
    await expect(device.guarded('allocating', () => device.createBuffer(2 ** 40, 'too much')));
    device.gpu.createBuffer({ size: 16, usage: 0 }); // outside of any scope
    await device.gpu.queue.onSubmittedWorkDone();
    await expect((async () => device.check())());
    await expect(device.pipelines.get('broken', 'fn main( {', []));
    await expect(device.guarded('nothing', () => 1));
    return failures;
    """
    binding, allocating, stray, broken, nothing = session("session", body)
    for name, code, message in (binding, allocating, stray):
        assert (name, code) == ("EngineError", "device-error")
        assert message.startswith("The graphics processor refused its work")
    assert "while binding" in binding[2]
    assert broken[1] == "bad-shader"
    assert "broken" in broken[2]
    assert nothing is None


LOSE = """
const { latent, shape } = await session.noise({ seed: 5, width: 64, height: 64 });
const conditioning = await session.encode({ prompt: 'a red apple', guidance: 1 });
const run = { conditioning, latent, shape, steps: 3, guidance: 1, start: 0, stop: 2 };
const whole = await session.denoise(run);
const { device } = session;
const seen = [];
const done = await session.denoise(run, { onStep: ({ step }) => {
  seen.push(step);
  if (step === 1 && session.device === device) device.destroy();
} });
const second = session.device;
const { submissions } = session.stats();
second.destroy();
await second.whenLost;
const refuse = () => session.decode({ latent, shape }).catch((error) => error);
const [again, later] = [await refuse(), await refuse()];
return [base64(whole), base64(done), seen, second !== device, submissions, device.submissions,
  [again, later].map(({ code, message }) => [code, message]), session.device === second];
"""


def test_a_lost_device_is_rebuilt_once_and_then_left_alone(session) -> None:
    """The last test of this module: its device is gone afterwards."""
    whole, done, seen, rebuilt, submissions, earlier, refusals, same = session("session", LOSE)
    assert done == whole  # it went on from the last latent
    assert seen == [1, 2]
    assert rebuilt
    assert submissions > earlier
    for code, message in refusals:
        assert code == "device-lost"
        assert "left alone for" in message
    assert same


def test_a_device_is_tried_once_and_remembered(gpu: Call) -> None:
    plan = trial_plan(few=(70, 64), many=(1030, 64), inner=64, tokens=70, heads=1)
    text = write_plan(plan).replace('"TILE_M":128,"TILE_N":128,"TILE_K":16', SOON)
    table = json.loads((WGSL / "variants.json").read_text())
    kinds = table["classes"]
    table["classes"] = {"slim": kinds["slim"], "few": {**kinds["few"], "tried": TRIED}}
    body = """
    const [table, text] = args;
    const { openDevice } = await import('/static/js/engine/device.js');
    const { shadersAt } = await import('/static/js/engine/shaders.js');
    const found = [];
    for (const suffix of ['', '', '\\n']) {
      const device = await openDevice({ allowSoftware: true, variants: table });
      device.info.software = false; // as if it were a GPU
      const read = shadersAt('/static/wgsl/');
      const choice = await m.chooseVariants(device, table, async () => text,
        async (name) => new Uint8Array(await new Blob([await read(name), suffix]).arrayBuffer()));
      found.push([choice.names, device.submissions, device.info.variant, device.bufferBytes]);
      device.destroy();
    }
    return found;
    """
    first, again, changed = gpu("trial", body, table, text)
    names, submissions, variant, left = first
    assert names["slim"] == "baseline"
    assert names["few"] in TRIED
    assert variant == ("baseline" if names["few"] == "baseline" else f"few {names['few']}")
    assert submissions >= 6  # two variants, measured and timed
    assert left == 0
    assert again == [names, 0, variant, 0]
    assert changed[1] >= 6


def test_devices_that_may_not_be_used_are_refused_with_a_sentence(gpu: Call) -> None:
    body = """
    const nobody = { requestAdapter: async () => null };
    const open = (options) => m.openDevice(options).then(() => null, (error) => error);
    const found = await Promise.all([
      open({}), open({ gpu: null, secure: true }), open({ gpu: null, secure: false }),
      open({ gpu: nobody }),
    ]);
    return found.map(({ name, code, message }) => [name, code, message]);
    """
    found = gpu("device", body)
    assert [code for _, code, _ in found] == [
        "software-only", "no-webgpu", "insecure", "no-adapter",
    ]  # fmt: skip
    for name, _, message in found:
        assert name == "EngineError"
        assert message.endswith(".")
        assert len(message) > 40
    assert "swiftshader" in found[0][2]


def test_a_package_for_other_shaders_is_refused(gpu: Call, host: PackageHost) -> None:
    body = (
        OPEN
        + """
    const { Shaders, shadersAt } = await import('/static/js/engine/shaders.js');
    const device = await m.openDevice({ allowSoftware: true });
    const dispatch = { shader: 'rgba', imports: ['grid'], constants: new Map([['THREADS', 64]]),
      bindings: [] };
    const failures = [];
    for (const [url, hashes] of [
      ['/static/wgsl/', new Map([['rgba', 'a'.repeat(64)], ['shared/grid', 'b'.repeat(64)]])],
      ['/static/wgsl', new Map()],
      ['/static/nowhere/', null],
    ]) {
      const shaders = new Shaders(device, shadersAt(url), hashes);
      await shaders.pipelines([dispatch])
        .catch(({ code, message }) => failures.push([code, message]));
    }
    device.destroy();
    return failures;
    """
    )
    other, unknown, nowhere = gpu("device", body)
    assert other[0] == unknown[0] == nowhere[0] == "bad-shader"
    assert "not the one that the model was packed for" in other[1]
    assert "status 404" in nowhere[1]


def test_a_session_that_is_refused_downloads_nothing(gpu: Call, host: PackageHost) -> None:
    asked = len(host.asked)
    body = """
    return m.openSession(args[0], { wgslUrl: '/static/wgsl/' }).catch(({ code }) => code);
    """
    assert gpu("session", body, host.url + f"{MODEL}.f16/") == "software-only"
    assert len(host.asked) == asked


def test_numbers_are_compared_at_all() -> None:
    assert not distance(np.array([np.nan]), np.array([1.0])) < 1
