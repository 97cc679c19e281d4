"""Faults in a room without a server: one room, a picture for each fault.

Beside what always must hold (room.py) each says what else must.
"""

import random
import signal
import time

import pytest

from diffusion.model_folder import read_model_folder
from diffusion.random_model import write_random_model
from tests.faults.fault import Fault, each_time, injected, lots_of
from tests.faults.room import Room
from tests.faults.torch_engine import TorchEngine
from tests.js.room.conftest import bare_relay, rtc_chromium
from tests.js.room.tabs import Tabs
from tests.relay import BareRelay

__all__ = ["bare_relay", "rtc_chromium"]

STALL_SECONDS = 15  # without progress a transfer ends


@pytest.fixture(scope="module")
def room(rtc_chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("room") / "tiny"
    write_random_model(folder)
    relay = BareRelay()
    relay.start()
    with Tabs(rtc_chromium) as tabs:
        yield Room(tabs, relay, TorchEngine(read_model_folder(folder)))
    relay.stop()
    assert tabs.errors == []


def kill_a_guest(room: Room, lots: random.Random) -> None:
    room.killed(lots.choice(room.guests[1:]))


def kill_the_holder(room: Room, lots: random.Random) -> None:
    room.killed(room.holder)


def all_leave_and_one_comes_back(room: Room, lots: random.Random) -> None:
    """The holder's browser: only it is sure to have kept what nobody had a copy of yet."""
    holder = room.holder
    for one in room.guests:
        room.left(one)
    if lots.random() < 0.5:
        holder.page.evaluate("coordinator.stop()")
    holder.page.goto("about:blank")
    room.members.clear()
    holder.page.goto(room.tabs.url)
    room.comes(holder.client, page=holder.page)


def cut_the_relay(room: Room, lots: random.Random) -> None:
    room.relay.stop(lots.choice([signal.SIGKILL, signal.SIGTERM]))
    time.sleep(lots.random())
    room.relay.start()


def newcomers_find_the_room(room: Room) -> None:
    """Signalling is back, and who comes now is shown every picture."""
    room.left(room.guests[-1])
    room.comes()
    room.holds()


def corrupt_a_frame(room: Room, lots: random.Random) -> None:
    one = lots.choice(room.members)
    one.page.evaluate(
        "(numbers) => { window.spoil = () => numbers.pop(); }", [lots.random(), lots.random()]
    )
    one.waits("window.spoiled > 0", 20)
    one.page.evaluate("window.spoiled = 0")


def stall_a_channel(room: Room, lots: random.Random) -> None:
    """For a while, as a network does."""
    one = lots.choice(room.members)
    one.page.evaluate("window.stall = true")
    one.waits("window.held.length > 0", 20)
    time.sleep(0.3 + 2 * lots.random())
    one.page.evaluate("window.goesOn()")


def stall_a_channel_for_good(room: Room, lots: random.Random) -> None:
    """Nothing goes over it any more, and it does not close by itself either."""
    one = lots.choice(room.members)
    one.page.evaluate("window.stall = true")
    one.waits("window.stalled?.readyState === 'closed'", 2 * STALL_SECONDS)
    one.page.evaluate("window.goesOn()")


FAULTS = [
    Fault("tab killed", kill_a_guest, times=4),
    Fault("queue holder killed", kill_the_holder, times=3),
    Fault("last tab closed", all_leave_and_one_comes_back, times=3),
    Fault("relay cut", cut_the_relay, newcomers_find_the_room, times=3),
    Fault("frame corrupted", corrupt_a_frame, times=5),
    Fault("channel stalled", stall_a_channel, times=4),
    Fault("channel stalled for good", stall_a_channel_for_good),
]


@each_time(FAULTS)
def test_the_picture_is_there_and_diffusers_whatever_happens(room, fault, number, request):
    lots = lots_of(request)
    room.begins()
    room.of(3)
    asker = room.guests[0]
    seed = room.asks(asker)
    moment = room.until(asker, seed, lots.random())
    fault.make(room, lots)
    injected(request, fault.name, moment)
    room.holds()
    fault.after(room)
    room.ends()
