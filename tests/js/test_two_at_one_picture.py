"""Tabs of an exported site that compute the halves of one picture's steps, or the picture in bands:
real engines on a software GPU, real data channels, a bare relay, no server."""

import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from django.test import override_settings
from playwright.sync_api import Browser, Error, Page, expect

from diffusion.backends.torch_backend import TorchBackend
from diffusion.model_folder import ModelFolder, read_model_folder
from diffusion.noise import initial_noise
from diffusion.random_model import write_random_model
from diffusion.settings import Settings
from tests.browser import WEBGPU, _browser, ask, listen_for_errors
from tests.js.engine.gpu import Array, decoded, distance
from tests.js.exported import exported
from tests.js.panel import PATIENCE_MS, heard, listen, ready
from tests.js.pictures import decibels, made_by_torch, pixels
from tests.js.room.conftest import RTC, relay
from tests.js.test_exported_room import saved

__all__ = ["relay"]

PROMPT, NEGATIVE, SEED, STEPS, GUIDANCE = "a rocket", "blurry", 7, 8, 4
SHAPE = 16, 8, 8
F16 = 2e-2  # what one tab is allowed beside torch, see engine/test_session.py
F16_LEVELS = 0.5  # of 255 on average: what f16 pictures are allowed, see engine/test_bands.py
SAME_LEVELS = 1e-3
SAME = 1e-4  # the same weights in batches of one and of two


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ModelFolder:
    folder = tmp_path_factory.mktemp("sharing") / "tiny"
    write_random_model(folder, dtype=torch.float32)  # so that f16 rounds
    return read_model_folder(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from _browser(*WEBGPU, RTC)


@pytest.fixture(scope="module")
def host(model, relay, tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    site = override_settings(MODEL_ROOTS=[model.path.parent], DATA_DIR=root / "data")
    # Tabs that check each other have no time to share before they have proven themselves
    options = ["--relay", relay.url, "--variant", "f16", "--variant", "f32", "--no-checks"]
    with site, exported(root / "host", *options) as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, host) -> Iterator[Callable[[str], Page]]:
    errors: list[str] = []
    pages: list[Page] = []

    def open_(path: str) -> Page:
        page = browser.new_context().new_page()
        page.set_default_timeout(PATIENCE_MS)
        listen_for_errors(page, errors)
        page.goto(f"{host.url}{path}")
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.context.close()
    assert errors == []


# A tab that is connected with the others of its room, with an engine
JOIN = """async ([variant, relay, setting, calls]) => {
  const at = (path) => new URL(path, location.href).href;
  const { openEngine } = await import(at('static/js/engine/engine.js'));
  const { P2PNetwork } = await import('room/p2p-network.js');
  const { Recruiting } = await import('work/recruiting.js');
  const engine = await openEngine(at(`packages/tiny/${variant}/`),
    { allowSoftware: true, preload: calls });
  const served = new Map();
  const network = new P2PNetwork();
  const told = [], helped = [];
  Object.assign(window, { engine, network, told, helped });
  await network.join({ room: 'pairs', relays: [relay], iceServers: [],
    onChannel: (peer, channel) => served.get(channel.label)?.(channel) });
  window.recruiting = new Recruiting({
    engine, setting, isFree: () => true,
    mesh: { peers: () => network.peers.filter(({ id }) => !window.only || window.only.includes(id)),
            serve: (label, take) => served.set(label, take) },
    onStrategy: (strategy) => told.push(strategy),
    onHelping: (helping) => { if (helping) helped.push(helping.step ?? helping.band.rows); },
  });
  return network.id;
}"""

# What it makes with the help of one other tab, or without
DENOISE = """async ([wanted, other]) => {
  window.only = other;
  told.length = 0;
  const conditioning = await engine.encode(wanted);
  const { latent, shape } = await engine.noise(wanted);
  window.steps = [];
  const request = { conditioning, latent, shape, steps: wanted.steps, guidance: wanted.guidance,
                    start: 0, stop: wanted.steps };
  const options = { signal: new AbortController().signal, onStep: ({ step }) => steps.push(step) };
  const done = await (other ? recruiting : engine).denoise(request, options);
  const bytes = new Uint8Array(done.buffer, done.byteOffset, done.byteLength);
  const { strategy, ended } = told.at(-1) ?? {};
  return [btoa(String.fromCharCode(...bytes)), steps, strategy, ended];
}"""
WANTED = {"prompt": PROMPT, "negativePrompt": NEGATIVE, "seed": SEED, "width": 64, "height": 64,
          "steps": STEPS, "guidance": GUIDANCE}  # fmt: skip


def denoised(page: Page, other: str | None) -> tuple[Array, list[int], str, str]:
    text, steps, strategy, ended = page.evaluate(DENOISE, [WANTED, other])
    return decoded(text, *SHAPE), steps, strategy, ended


def test_the_latents_of_two_tabs_are_those_of_one_and_of_torch(
    open_page, relay, model: ModelFolder
) -> None:
    backend = TorchBackend(model)
    noise = initial_noise(SEED, SHAPE)
    theirs = backend.denoise(
        backend.encode(PROMPT, NEGATIVE, GUIDANCE),
        noise, steps=STEPS, guidance=GUIDANCE, start=0, stop=STEPS,
    )  # fmt: skip
    assert distance(theirs, noise) > 0.1
    ann, bob, cid = (open_page("room.html#pairs") for _ in range(3))
    variants = {ann: "f16", bob: "f16", cid: "f32"}
    calls = ["encode", "denoise"]
    ids = {
        page: page.evaluate(JOIN, [variants[page], relay.url, "halves", calls]) for page in variants
    }
    for page in ids:
        page.wait_for_function("() => network.peers.length === 2")
    alone, *_ = denoised(ann, None)
    assert 0 < distance(alone, theirs) < F16

    # f16 and f16: what the holder makes alone
    made, steps, strategy, ended = denoised(ann, ids[bob])
    assert (strategy, ended, steps) == ("halves", None, list(range(1, STEPS + 1)))
    assert distance(made, alone) < SAME
    assert bob.evaluate("helped.at(-1)") >= STEPS - 1  # the last one is the holder's to finish

    # f32 and f16, over a link of its own
    mixed, _, strategy, _ = denoised(cid, ids[bob])
    assert strategy == "halves"
    assert 0 < distance(mixed, theirs) < F16

    # A recruit that crashes in the middle costs nothing but its help
    begin = f"([args]) => ({{ made: ({DENOISE})(args) }})"
    going = ann.evaluate_handle(begin, [[WANTED, ids[cid]]])
    cid.wait_for_function("() => helped.length >= 2", polling=5)
    with pytest.raises(Error, match="ERR_ABORTED"):
        cid.goto("chrome://crash")
    text, steps, strategy, ended = going.evaluate("({ made }) => made")
    assert distance(decoded(text, *SHAPE), theirs) < F16
    assert steps == list(range(1, STEPS + 1))
    assert (strategy, ended) in {("alone", "gone"), ("alone", "late")}


# A picture that it makes with others, and one that it makes alone
DECODE = """async ([sides, others]) => {
  window.only = others;
  told.length = 0;
  const { latent, shape } = await engine.noise({ seed: 7, ...sides });
  const { signal } = new AbortController();
  const base64 = ({ rgba }) => {
    let text = '';
    for (let at = 0; at < rgba.length; at += 2 ** 15) {
      text += String.fromCharCode(...rgba.subarray(at, at + 2 ** 15));
    }
    return btoa(text);
  };
  const alone = others ? null : base64(await engine.decode({ latent, shape }));
  const together = others ? base64(await recruiting.decode({ latent, shape }, { signal })) : null;
  return [alone ?? together, told.at(-1) ?? null];
}"""
SIDES = {"width": 64, "height": 80}


def rgb(text: str) -> Array:
    """int, [H, W, 3]"""
    return decoded(text, SIDES["height"], SIDES["width"], 4, dtype="u1")[..., :3].astype(int)


def test_the_picture_of_several_tabs_is_that_of_one_and_of_torch(
    open_page, relay, model: ModelFolder
) -> None:
    theirs = TorchBackend(model).decode(initial_noise(SEED, (16, 10, 8)))
    ann, bob, cid = (open_page("room.html#bands") for _ in range(3))
    variants = {ann: "f16", bob: "f16", cid: "f32"}
    ids = {
        page: page.evaluate(JOIN, [variants[page], relay.url, "bands", ["decode"]])
        for page in variants
    }
    for page in ids:
        page.wait_for_function("() => network.peers.length === 2")
    text, _ = ann.evaluate(DECODE, [SIDES, None])
    alone = rgb(text)
    assert np.abs(alone - theirs).mean() < F16_LEVELS
    assert alone.std() > 5

    # By two: checked, and then not any more
    for times in (1, 2):
        text, strategy = ann.evaluate(DECODE, [SIDES, [ids[bob]]])
        assert (strategy["strategy"], strategy["ended"]) == ("bands", None), strategy
        assert strategy["rows"] == [5, 5]
        assert np.abs(rgb(text) - theirs).mean() < F16_LEVELS
        assert np.abs(rgb(text) - alone).mean() < F16_LEVELS
        assert bob.evaluate("helped") == [5] * times

    # By three, one of them with other weights
    text, strategy = ann.evaluate(DECODE, [SIDES, [ids[bob], ids[cid]]])
    assert (strategy["strategy"], strategy["ended"]) == ("bands", None), strategy
    assert sorted(strategy["rows"]) == [3, 3, 4]
    assert np.abs(rgb(text) - theirs).mean() < F16_LEVELS

    # A recruit that crashes in the middle costs nothing but its help
    cid.evaluate("() => { engine.decodeBands = () => new Promise(() => {}); }")
    begin = f"([args]) => ({{ made: ({DECODE})(args) }})"
    going = ann.evaluate_handle(begin, [[SIDES, [ids[cid]]]])
    cid.wait_for_function("() => helped.length >= 2", polling=5)
    with pytest.raises(Error, match="ERR_ABORTED"):
        cid.goto("chrome://crash")
    text, strategy = going.evaluate("({ made }) => made")
    assert np.abs(rgb(text) - alone).mean() < SAME_LEVELS
    assert strategy["strategy"] == "alone"
    assert strategy["ended"] in {"gone", "late"}


STEP = r"Computing step \d+ of 4 for “a rocket”\. "
HELPS = "Helping another tab "
SAYS = {
    "halves": (STEP + "Computed by two", HELPS + r"with its picture: step \d+ of 4\."),
    "bands": (r"Finishing “a rocket”\. Decoded by two", HELPS + r"to finish its picture\."),
}
TIMELINE = {
    "halves": re.compile(r"With .*: half of \d steps?, \d+ kB exchanged\."),
    "bands": re.compile(r"With .*: a part of the picture, \d+ kB exchanged\."),
}


@pytest.mark.parametrize("strategy", SAYS)
def test_the_room_says_that_two_tabs_compute_one_picture(
    open_page, model, tmp_path, strategy: str
) -> None:
    room = f"room.html?allow-software-gpu=1&strategy={strategy}#kitchen-{strategy}"
    ann, bob = (open_page(room) for _ in range(2))
    for page in (ann, bob):
        page.get_by_role("button", name="Meet the others").click()
        ready(page)
        listen(page)
    for page in (ann, bob):
        expect(page.get_by_role("list", name="Peers").locator("> li")).to_have_count(2)
    ask(ann, PROMPT, size="64x64", Steps=4, Guidance=GUIDANCE, Seed=SEED)
    expect(ann.get_by_role("figure")).to_have_count(1, timeout=PATIENCE_MS)
    wanted = Settings(PROMPT, "tiny", 64, 64, steps=4, guidance=float(GUIDANCE), seed=SEED)
    assert decibels(pixels(saved(ann)), made_by_torch(model.path, wanted)) >= 38
    said = [heard(page) for page in (ann, bob)]
    holder, recruit = SAYS[strategy]
    helping = [text for texts in said for text in texts if text.startswith("Helping")]
    assert any(re.match(holder, text) for texts in said for text in texts), said
    assert helping, said
    for text in helping:
        assert re.fullmatch(recruit, text)
    ann.locator(".picture-link").click()  # its timeline names who has helped
    helped = ann.locator("#lightbox .event", has_text=TIMELINE[strategy])
    expect(helped).not_to_have_count(0)
