"""A room without a server whose tabs come and go while faults happen to it: real tabs, relay,
connections, storage; torch's arithmetic (torch_engine.py)."""

import base64
import itertools
import json

import numpy as np
from playwright.sync_api import TimeoutError as TooLateError

from diffusion.settings import Settings
from tests.faults import torch_engine
from tests.faults.reference import GUIDANCE, PROMPT, SIDE, STEPS, TOLERANCE, Reference
from tests.js.pictures import made_by_torch, pixels
from tests.js.room.tabs import Tabs
from tests.js.work.sharing import Member, kill, member, settled
from tests.relay import BareRelay

STEP_MS = 40
# What happens to the next frame that the page sends over a channel of the room's queue: `spoil`
# changes it; `stalled` is the one channel of which frames are held while `held` is a list.
CHANNELS = """() => {
  const { send } = RTCDataChannel.prototype;
  Object.assign(window, { spoil: null, stall: null, spoiled: 0, stalled: null, held: [] });
  RTCDataChannel.prototype.send = function (frame) {
    const ours = this.label === 'queue' && frame instanceof ArrayBuffer;
    if (ours && window.stall && !window.stalled) window.stalled = this;
    if (this === window.stalled && window.stall) {
      window.held.push(frame.slice());
      return undefined;
    }
    if (ours && window.spoil) {
      frame = frame.slice();
      const bytes = new Uint8Array(frame);
      bytes[Math.floor(window.spoil() * bytes.length)] ^= 1 + Math.floor(window.spoil() * 255);
      window.spoil = null;
      window.spoiled += 1;
    }
    return send.call(this, frame);
  };
  window.goesOn = () => {
    const channel = window.stalled;
    window.stall = null;
    if (channel?.readyState === 'open') for (const frame of window.held) send.call(channel, frame);
    window.held = [];
    window.stalled = null;
  };
}"""
PICTURES = """async () => {
  const found = {};
  for (const { images } of room.jobs) for (const { seed, url } of images) {
    const bytes = url && await coordinator.blob(url);
    if (bytes) (found[seed] ??= []).push(btoa(String.fromCharCode(...bytes)));
  }
  return found;
}"""
STATE = """() => ({
  place: coordinator.place, peers: room.peers, troubles, log,
  jobs: room.jobs.map(({ id, state, images, ...more }) => ({ id, state, images, more })),
})"""


class Room:
    """`members`: who is here. `seeds`: of all pictures that were asked for. `whole`: nothing was
    left half done in it."""

    def __init__(self, tabs: Tabs, relay: BareRelay, engine: torch_engine.TorchEngine) -> None:
        self.tabs = tabs
        self.relay = relay
        self.engine = engine
        self.reference = Reference(engine.folder.path)
        self.members: list[Member] = []
        self.seeds: list[int] = []
        self.whole = True
        self._clients = itertools.count()
        self._undisturbed: dict[int, np.ndarray] = {}
        about = engine.folder
        self.model = {
            "latent_channels": about.latent_channels, "vae_scale": about.vae_scale,
            "text_dim": about.text_dim, "max_tokens": about.max_tokens,
            "default_width": SIDE, "default_height": SIDE,
        }  # fmt: skip
        tabs.answers[torch_engine.PATH] = engine.answer

    # Who is here --------------------------------------------------------------------------------
    def comes(self, client: str = "", page=None) -> Member:
        client = client or "0123456789abcdef"[next(self._clients) % 16]
        if page is None:
            page = self.tabs.open().page
        page.evaluate(CHANNELS)
        one = member(
            self.tabs, self.relay, client, page=page, engine=torch_engine.ENGINE,
            model=self.model, stepMs=STEP_MS,
        )  # fmt: skip
        one.client = client
        self.members.append(one)
        return one

    def of(self, count: int) -> None:
        """Until so many are here and share one queue."""
        while len(self.members) < count:
            self.comes()
        settled(*self.members, seconds=40)

    @property
    def holder(self) -> Member:
        return next(one for one in self.members if one.place() == "here")

    @property
    def guests(self) -> list[Member]:
        return [one for one in self.members if one.place() != "here"]

    def begins(self) -> None:
        """What a test before this one left half done is no matter of this one."""
        if not self.whole:
            for one in self.members:
                one.page.context.close()
            self.members.clear()
            self.seeds.clear()
            self.engine.decoded.clear()
        self.whole = False

    def ends(self) -> None:
        self.whole = True

    def killed(self, one: Member) -> None:
        self.members.remove(one)
        kill(one)
        one.page.context.close()

    def left(self, one: Member) -> None:
        self.members.remove(one)
        one.page.context.close()

    # Pictures -----------------------------------------------------------------------------------
    def asks(self, one: Member) -> int:
        """The seed."""
        seed = 100 + len(self.seeds)
        self.seeds.append(seed)
        one.submits({
            "prompt": PROMPT, "seed": seed, "steps": STEPS, "guidance": GUIDANCE,
            "width": SIDE, "height": SIDE,
        })  # fmt: skip
        return seed

    def until(self, one: Member, seed: int, moment: float) -> str:
        """Until so much of the picture is made: 0 is at once, near 1 while it is decoded."""
        step = int(moment * (STEPS + 2)) - 1
        find = f"room.jobs.flatMap(({{ images }}) => images).find((one) => one.seed === {seed})"
        if step >= 0:
            one.waits(f"{find}?.step >= {min(step, STEPS)}", 40)
        return f"step {max(0, step)} of {STEPS}"

    def holds(self, seconds: float = 60) -> None:
        """What always must: each picture once at everybody, as diffusers makes it."""
        settled(*self.members, seconds=40)
        all_there = (
            "room.jobs.flatMap(({ images }) => images).filter(({ url }) => url).length"
            f" >= {len(self.seeds)}"
        )
        for one in self.members:
            try:
                one.waits(all_there, seconds)
            except TooLateError as error:
                raise AssertionError(self.state()) from error
        for latent in self.engine.decoded:
            off = min(self.reference.distance(latent, seed) for seed in self.seeds)
            assert off <= TOLERANCE, f"a latent that is {off:.1e} from diffusers'"
        self.engine.decoded.clear()
        for one in self.members:
            found = one.page.evaluate(PICTURES)
            assert sorted(map(int, found)) == sorted(self.seeds)
            for seed, files in found.items():
                assert len(files) == 1, f"{len(files)} pictures of seed {seed}"
                png = base64.b64decode(files[0])
                # The same but for what rounds to the other side: threads may sum in another order
                off = np.abs(pixels(png).astype(int) - self.undisturbed(int(seed))).max()
                assert off <= 1, f"the picture of seed {seed} is {off} off"
            assert one.page.evaluate("troubles") == []
            states = "room.jobs.map(({ state }) => state).filter((state) => state !== 'done')"
            assert one.page.evaluate(states) == []

    def state(self) -> str:
        """What everybody shows, for whoever has to find out what went wrong."""
        return json.dumps([one.page.evaluate(STATE) for one in self.members], indent=1)

    def undisturbed(self, seed: int) -> np.ndarray:
        if seed not in self._undisturbed:
            wanted = Settings(PROMPT, "tiny", SIDE, SIDE, steps=STEPS, guidance=GUIDANCE, seed=seed)
            self._undisturbed[seed] = made_by_torch(self.engine.folder.path, wanted)
        return self._undisturbed[seed]
