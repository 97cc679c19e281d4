"""Two tabs that show nobody their address meet through a TURN server that others have written.

coturn is not installed for it: its package would start a server for everybody.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.genqueue.processes import READY_SECONDS, free_port, until
from tests.js.room.conftest import RTC_SPY
from tests.js.room.tabs import Tabs, all_meet
from tests.relay import BareRelay

pytestmark = pytest.mark.skipif(shutil.which("turnserver") is None, reason="needs coturn")

USER, PASSWORD = "kitchen", "a password"


class TurnServer:
    """coturn, which passes on between ports of this machine alone."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "turn.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--lt-cred-mech",
                 "--realm=p2pweb", f"--user={USER}:{PASSWORD}", "--allow-loopback-peers",
                 "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1",
                 f"--listening-port={self.port}", "--verbose", "--log-file=stdout",
                 f"--pidfile={folder / 'turn.pid'}", f"--userdb={folder / 'turn.db'}"],
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        until(lambda: "listener opened" in self.said(), READY_SECONDS, "listening of coturn")

    def said(self) -> str:
        assert self._process.poll() is None, self.log.read_text()
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def turn(tmp_path: Path) -> Iterator[TurnServer]:
    server = TurnServer(tmp_path)
    yield server
    server.stop()


def test_tabs_that_hide_their_address_meet_and_send_through_it(
    tabs: Tabs, relay: BareRelay, turn: TurnServer
) -> None:
    server = {"urls": f"turn:127.0.0.1:{turn.port}", "username": USER, "credential": PASSWORD}
    options = {"room": "attic", "relays": [relay.url], "iceServers": [server], "relayOnly": True}
    ann, bob = tabs.open(), tabs.open()
    for tab in (ann, bob):
        tab.page.add_init_script(RTC_SPY)
        tab.page.reload()
        tab.join(**options)
    all_meet(ann, bob)
    ann.run("network.broadcast({ type: 'work.hello', text: 'x'.repeat(8000) });")
    bob.waits("log.some(({ message }) => message?.text?.length === 8000)")
    assert ann.page.evaluate("configured.every((c) => c.iceTransportPolicy === 'relay')")
    assert turn.said().count("ALLOCATE processed, success") >= 2
