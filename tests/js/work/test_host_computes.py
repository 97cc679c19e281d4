"""One tab alone holds the queue and computes, with the real engine on the software GPU. No server
computes, and reloaded in the middle it goes on from its checkpoint."""

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from diffusion.model_folder import read_model_folder
from diffusion.packaging.manifest import dtypes_of
from diffusion.pictures import settings_from_png
from diffusion.random_model import write_random_model
from genqueue.packages import pack
from tests.browser import listen_for_errors, webgpu_chromium
from tests.js.engine.package_host import PackageHost
from tests.js.pictures import decibels, made_by_torch, pixels
from tests.studio import settings_of

__all__ = ["webgpu_chromium"]

PATIENCE_MS = 180_000  # the software GPU takes seconds for each pipeline
STEPS = 12
ASKED = settings_of(steps=STEPS)

# `opens(preload)`: the room as this browser has it, and this tab as a worker in it
SCENE = """
const load = (name) => import(`/static/js/${name}.js`);
const [{ RoomHost }, { loopWire }, { modelOfManifest }, { readManifest }, { ownClientId },
  { TabWorker }, { openEngine }, { sha256Of }] = await Promise.all(['work/room-host',
  'work/loop-wire', 'work/models', 'engine/manifest', 'work/keeper', 'work/tab-worker',
  'engine/engine', 'engine/package/sha256'].map(load));
const opens = async (preload) => {
  const data = new Uint8Array(await (await fetch('/tiny/manifest.json')).arrayBuffer());
  const client = await ownClientId();
  const host = await RoomHost.open({ room: 'kitchen', client,
    models: [modelOfManifest('tiny', readManifest(data), [await sha256Of(data)])] });
  const leases = [];
  let worker = null;
  const end = host.attach(loopWire({
    receive(message) {
      if (message.type === 'work.lease') leases.push([message.kind, message.start]);
      if (message.to) window.answered(message);
      worker?.receive(message);
    },
    receiveBytes: (bytes) => worker?.receiveBytes(bytes),
  }), { peer: 'here', client, here: true });
  const asks = (message) => new Promise((resolve) => {
    window.answered = resolve;
    end.receive({ ...message, id: 1 });
  });
  const computes = async () => {
    const engine = await openEngine('/tiny/manifest.json', { allowSoftware: true, preload });
    worker = new TabWorker(engine, { wire: loopWire(end), key: '1'.repeat(32), onState: () => {} });
    worker.connected();
  };
  Object.assign(window, { host, leases, asks });
  return { host, asks, computes };
};
"""


@pytest.fixture(scope="module")
def chromium(webgpu_chromium):
    return webgpu_chromium


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "tiny"
    write_random_model(folder)
    return folder


@pytest.fixture
def page(chromium: Browser, model: Path, tmp_path: Path) -> Iterator[Page]:
    out = tmp_path / "tiny.f16"
    pack(read_model_folder(model), out, dtypes_of("f16"), lambda what, done, total: None)
    errors: list[str] = []
    with PackageHost({"tiny": out}) as host:
        page = chromium.new_page()
        page.set_default_timeout(PATIENCE_MS)
        listen_for_errors(page, errors)
        page.goto(host.url)
        yield page
        page.close()
    assert errors == []


def until(look: Callable[[], object], page: Page) -> object:
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not (found := look()):
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)  # the browser goes on meanwhile
    return found


def opened(page: Page, body: str, *args):
    return page.evaluate(f"async (args) => {{ {SCENE} {body} }}", list(args))


def test_a_tab_alone_makes_torchs_picture_though_it_is_reloaded_in_the_middle(page, model):
    request = {**ASKED.as_dict(), "model": "tiny"}
    answer = opened(
        page,
        """const { asks, computes } = await opens(['encode', 'denoise']);
        const answer = await asks({ type: 'job.submit', request: args[0] });
        await computes();
        return answer;""",
        request,
    )
    job = answer["job"]["id"]
    assert answer["kept"] is True
    kept = "async () => (await import('/static/js/work/keeper.js')).keptRoom('kitchen')"
    step = (
        "async () => {"
        f" const {{ state }} = await ({kept})();"
        " const [{ images: [{ checkpoints: [newest] }] }] = state.queue.jobs;"
        " return newest?.step >= 2 ? newest.step : 0; }"
    )
    saved = until(lambda: page.evaluate(step), page)
    assert page.evaluate("leases[0]") == ["encode", 0]

    page.reload()
    found = opened(
        page,
        """const { host, computes } = await opens(['denoise', 'decode']);
        const [job] = host.queue.jobs();
        await computes();
        return job;""",
    )
    assert (found["id"], found["state"], found["images"][0]["state"]) == (job, "running", "running")
    assert saved <= found["images"][0]["step"] < STEPS
    until(lambda: page.evaluate("host.queue.jobs()[0].state === 'done'"), page)
    kinds, starts = zip(*page.evaluate("leases"), strict=True)
    assert (kinds[0], kinds[-1]) == ("denoise", "decode")
    assert saved <= starts[0] < STEPS
    assert page.evaluate("host.kept()")

    page.reload()  # and a third time, only to look
    png = opened(
        page,
        """const { host } = await opens([]);
        const [{ images: [{ url }] }] = host.queue.jobs();
        const bytes = await host.blobs.get(url);
        return btoa([...bytes].map((byte) => String.fromCharCode(byte)).join(''));""",
    )
    picture = base64.b64decode(png)
    assert settings_from_png(picture) == ASKED.as_dict()
    assert decibels(pixels(picture), made_by_torch(model, ASKED)) >= 38
