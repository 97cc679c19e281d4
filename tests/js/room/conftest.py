"""A browser whose tabs connect to each other, and relays."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import _browser
from tests.js.room.relays import CarelessRelay
from tests.js.room.tabs import Tabs
from tests.relay import BareRelay, bare_relay

__all__ = ["bare_relay"]

# Where no mDNS answers, the names by which browsers hide addresses of the own network lead nowhere
RTC = "--disable-features=WebRtcHideLocalIpsWithMdns"

# What every connection of a page was configured with: `configured`
RTC_SPY = """window.configured = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(settings) {
    super(settings);
    window.configured.push(settings);
  }
};"""


@pytest.fixture(scope="module")
def rtc_chromium() -> Iterator[Browser]:
    yield from _browser(RTC)


@pytest.fixture(scope="module")
def relay() -> Iterator[BareRelay]:
    """One that runs all the time."""
    relay = BareRelay()
    relay.start()
    yield relay
    relay.stop()


@pytest.fixture
def careless_relay() -> Iterator[CarelessRelay]:
    with CarelessRelay() as relay:
        yield relay


@pytest.fixture
def tabs(rtc_chromium: Browser) -> Iterator[Tabs]:
    """Fails when a script in any of them had an error or broke the policy."""
    with Tabs(rtc_chromium) as tabs:
        yield tabs
    assert tabs.errors == []
