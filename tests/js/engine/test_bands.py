"""A picture in bands on two engines in one browser, each with a device and a Worker of its own: the
picture of one engine, and torch's. And on one device that cannot bind the whole."""

from typing import Any

import numpy as np
import pytest

from diffusion.bands import even_bands, joined
from diffusion.noise import initial_noise
from diffusion.plan.areas import BAND
from diffusion.plan.compiler import compile_folder
from diffusion.plan.sizes import memory, symbol_values
from tests.browser import webgpu_chromium
from tests.js.engine.gpu import Array, Call, Packages, decoded, gpu, gpu_page, host, packages
from tests.js.engine.package_host import PackageHost

__all__ = ["gpu", "gpu_page", "host", "packages", "webgpu_chromium"]

MODEL = "odd"
SHAPE = 16, 10, 6
SIDES = 80, 48
SEED = 7
F32, F16 = 0.01, 0.4  # levels of 255 on average: a last bit may round the other way

PRELUDE = """
const { f32, f16 } = kept;
const { latent, shape } = await f32.noise({ seed: 7, width: 48, height: 80 });
// Bands of so many rows on these engines, who give each other what they make
const together = (engines, rows) => {
  const bands = m.bandsOf(rows);
  const made = [];
  const waiting = [];
  const exchange = (band) => ({ norm, moments: [mine] }) => {
    const all = made[norm] ??= [];
    all[band] = mine;
    if (all.filter(Boolean).length === rows.length) {
      for (const resolve of waiting[norm] ?? []) resolve(m.joined(all, rows));
      return m.joined(all, rows);
    }
    return new Promise((resolve) => (waiting[norm] ??= []).push(resolve));
  };
  return Promise.all(engines.map((engine, number) => engine.decodeBands(
    { latent, shape, bands: [bands[number]] }, { exchange: exchange(number) })));
};
const base64Of = (pixels) => pixels.map(({ rgba }) => base64(rgba));
"""


@pytest.fixture(scope="module")
def pages(gpu: Call, host: PackageHost) -> Call:
    body = """
    const options = { allowSoftware: true, poison: true, preload: ['decode'],
      longestSubmissionMs: Infinity };
    kept.f32 = await m.openEngine(args[0], options);
    kept.f16 = await m.openEngine(args[1], options);
    """
    gpu("engine", body, host.url + f"{MODEL}.f32/", host.url + f"{MODEL}.f16/")
    return lambda body, *args: gpu("engine bands", PRELUDE + body, *args)


@pytest.fixture(scope="module")
def theirs(packages: Packages) -> Array:
    return packages.torch(MODEL).decode(initial_noise(SEED, SHAPE))


def picture(bands: list[str]) -> Array:
    """uint8 [H, W, 3]"""
    rows = [decoded(band, -1, SIDES[1], 4, dtype="u1") for band in bands]
    whole = np.concatenate(rows)
    assert whole.shape[0] == SIDES[0]
    assert (whole[..., 3] == 255).all()
    return whole[..., :3]


def off(ours: Array, theirs: Array) -> float:
    return float(np.abs(ours.astype(int) - theirs).mean())


@pytest.mark.parametrize(
    ("engines", "close"), [("[f32, f32]", F32), ("[f32, f16]", F16), ("[f16, f32]", F16)]
)
@pytest.mark.parametrize("rows", [[5, 5], [3, 7]])
def test_two_engines_make_one_picture(
    pages: Call, theirs: Array, engines: str, close: float, rows: list[int]
) -> None:
    # One engine does its calls one after the other, so the pair is two of them
    body = f"""
    const [first, second] = {engines};
    kept.other ??= await m.openEngine(args[1],
      {{ allowSoftware: true, poison: true, preload: ['decode'] }});
    const before = await first.stats();
    const pair = await together([first, second === first ? kept.other : second], args[0]);
    const after = await first.stats();
    return [base64Of(pair.flat()), after.bufferBytes - before.bufferBytes];
    """
    found, kept = pages(body, rows, host_url(pages))
    assert off(picture(found), theirs) < close
    assert kept == 0


def host_url(pages: Call) -> str:
    return str(pages("return document.location.href")) + f"{MODEL}.f32/"


def test_one_engine_makes_several_bands_of_which_it_computes_the_middle_once(
    pages: Call, theirs: Array
) -> None:
    body = """
    const rows = [2, 5, 3];
    const norms = [];
    const bands = await f32.decodeBands({ latent, shape, bands: m.bandsOf(rows) }, {
      exchange: ({ norm, moments }) => { norms.push(norm); return m.joined(moments, rows); } });
    const whole = await f32.decode({ latent, shape });
    return [base64Of(bands), base64(whole.rgba), norms, f32.bandChannels];
    """
    bands, whole, norms, channels = pages(body)
    assert off(picture(bands), picture([whole])) < F32
    assert off(picture(bands), theirs) < F32
    assert norms == list(range(len(norms)))
    assert len(norms) == len(channels) > 10
    assert set(channels) == {16, 32}


def test_moments_are_joined_as_in_python(pages: Call) -> None:
    random = np.random.default_rng(1)
    parts = [np.abs(random.standard_normal((2, 6))).astype(np.float32) for _ in range(3)]
    body = """return base64(m.joined(args[0].map(floats), args[1]));"""
    assert np.array_equal(decoded(pages(body, parts, [2, 5, 3]), 2, 6), joined(parts, [2, 5, 3]))
    assert pages("return m.evenBands(7, 3)") == [
        {"first": first, "rows": rows} for first, rows in even_bands(7, 3)
    ]


def test_whoever_is_left_alone_gives_up_and_the_next_call_works(pages: Call) -> None:
    body = """
    const bands = m.evenBands(10, 2);
    const given = await f32.decodeBands({ latent, shape, bands: [bands[0]] }, {
      exchange: ({ norm, moments: [mine] }) => (norm < 3 ? mine : null) });
    const thrown = await f32.decodeBands({ latent, shape, bands: [bands[1]] }, {
      exchange: () => { throw new Error('gone'); } });
    const controller = new AbortController();
    const cancelled = await f32.decodeBands({ latent, shape, bands: [bands[1]] }, {
      signal: controller.signal,
      exchange: () => { controller.abort(); return new Promise(() => {}); },
    }).catch(({ name }) => name);
    const { width } = await f32.decode({ latent, shape });
    return [given, thrown, cancelled, width];
    """
    assert pages(body) == [None, None, "AbortError", 48]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("bands: [{ first: 6, rows: 5 }]", "Those are no bands of 10 rows."),
        ("bands: []", "Those are no bands of 10 rows."),
        ("bands: [{ first: 0, rows: 0 }]", "Those are no bands of 10 rows."),
        ("bands: [{ first: -1, rows: 2 }]", "Those are no bands of 10 rows."),
        ("bands: [{ first: 0, rows: 5 }], give: (m) => m.fill(NaN)", "No mean and variance of"),
        ("bands: [{ first: 0, rows: 5 }], give: (m) => m.fill(-1)", "No mean and variance of"),
        ("bands: [{ first: 0, rows: 5 }], give: (m) => m.slice(1)", "No mean and variance of"),
    ],
)
def test_what_makes_no_sense_is_refused(pages: Call, call: str, said: str) -> None:
    body = f"""
    const {{ give, bands }} = {{ {call} }};
    const exchange = ({{ moments: [mine] }}) => give(mine);
    return f32.decodeBands({{ latent, shape, bands }}, {{ exchange }})
      .then(() => null, ({{ code, message }}) => [code, message]);
    """
    code, message = pages(body)
    assert code == "bad-request"
    assert message.startswith(said)


def test_shares_are_of_the_work_of_a_whole_decode(pages: Call) -> None:
    body = """
    const [whole] = await f32.bandShares({ shape, bands: m.evenBands(10, 1) });
    const tall = [16, 64, 64];
    return [whole, ...await f32.bandShares({ shape: tall, bands: m.evenBands(64, 2) }),
            ...await f32.bandShares({ shape: tall, bands: m.evenBands(64, 4) })];
    """
    whole, *shares = pages(body)
    assert whole == pytest.approx(1)
    assert shares[0] == shares[1]
    assert 0.5 < shares[0] < 0.65
    assert 0.25 < shares[2] < shares[3] < 0.5  # the second has two neighbours


def test_a_device_that_cannot_bind_the_whole_decodes_it_in_bands(
    gpu: Call, host: PackageHost, packages: Packages
) -> None:
    compiled = compile_folder(packages.folder(MODEL), "f16")
    sizes: dict[str, Any] = {"H": 24, "W": 24}

    def binding(stage: str, **more: int) -> int:
        return memory(compiled.plan, stage, symbol_values(compiled.plan, sizes | more)).binding

    limit = max(binding(BAND, A=first, O=rows) for first, rows in even_bands(24, 3))
    assert limit < min(binding(BAND, A=0, O=12), binding("decode"))
    body = """
    const options = { wgslUrl: '/static/wgsl/', allowSoftware: true, poison: true, preload: [] };
    const session = await m.openSession(args[0], options);
    const { latent, shape } = await session.noise({ seed: 7, width: 192, height: 192 });
    const whole = await session.decode({ latent, shape });
    const bound = [];
    const { device } = session;
    device.largestBinding = args[1];
    const createBuffer = device.createBuffer.bind(device);
    device.createBuffer = (size, ...more) => {
      bound.push(size);
      return createBuffer(size, ...more);
    };
    const { bufferBytes: before } = session.stats();
    const found = await session.decode({ latent, shape });
    const { bufferBytes: after } = session.stats();
    device.largestBinding = args[1] >> 3;
    const code = await session.decode({ latent, shape }).catch((error) => error.code);
    session.close();
    return [base64(whole.rgba), base64(found.rgba), found.height, Math.max(...bound),
            after - before, code];
    """
    whole, found, height, bound, kept, code = gpu(
        "session", body, host.url + f"{MODEL}.f16/", limit
    )
    pictures = [decoded(pixels, 192, 192, 4, dtype="u1")[..., :3] for pixels in (whole, found)]
    assert off(*pictures) < F16
    assert height == 192
    assert bound <= limit
    assert kept == 0
    assert code == "too-large"


def test_a_lost_device_costs_no_exchange_twice(gpu: Call, host: PackageHost) -> None:
    """The others are further on: what was exchanged is remembered."""
    body = """
    const options = { wgslUrl: '/static/wgsl/', allowSoftware: true, poison: true, preload: [] };
    const session = await m.openSession(args[0], options);
    const { latent, shape } = await session.noise({ seed: 7, width: 48, height: 80 });
    const [rows, seen] = [[5, 5], []];
    const { device } = session;
    const bands = await session.decodeBands({ latent, shape, bands: m.bandsOf(rows) }, {
      exchange: ({ norm, moments }) => {
        seen.push(norm);
        if (norm === 4 && session.device === device) device.destroy();
        return m.joined(moments, rows);
      } });
    const whole = await session.decode({ latent, shape });
    const rebuilt = session.device !== device;
    session.close();
    return [bands.map(({ rgba }) => base64(rgba)), base64(whole.rgba), seen, rebuilt];
    """
    bands, whole, seen, rebuilt = gpu("session bands", body, host.url + f"{MODEL}.f32/")
    assert rebuilt
    assert seen == list(range(len(seen)))
    assert len(seen) > 10
    assert off(picture(bands), picture([whole])) < F32


def test_a_model_with_another_decoder_has_no_bands(gpu: Call, host: PackageHost) -> None:
    body = """
    const options = { wgslUrl: '/static/wgsl/', allowSoftware: true, poison: true, preload: [] };
    const session = await m.openSession(args[0], options);
    const { latent, shape } = await session.noise({ seed: 7, width: 64, height: 64 });
    const { bandChannels } = session.model;
    const code = await session.decodeBands({ latent, shape, bands: [{ first: 0, rows: 1 }] },
      { exchange: () => null }).catch((error) => error.code);
    session.close();
    return [bandChannels, code];
    """
    assert gpu("session", body, host.url + "deep.f16/") == [[], "bad-request"]
