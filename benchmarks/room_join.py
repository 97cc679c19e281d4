"""How long tabs take to find each other, and what goes between them: real Chromium, the bare relay,
all on this machine.

    PYTHONPATH=.:queue python benchmarks/room_join.py [--peers 2 4 8 16] [--repeats 3] [--mib 8]

`joins`: one tab joins a room in which the others are already, until it knows all of them.
`together`: all join at the same moment, until each knows all others. `one to all`: one tab has a
blob, all others fetch it from it at the same time, each over a channel of its own and with its
SHA-256 checked; MB/s of all together. Medians. Every tab is a page of one browser; with more tabs
than processor cores they wait for each other more than for the network.
"""

import argparse
import os
import statistics
import time

import django
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import ARGUMENTS, CHROMIUM
from tests.js.room.tabs import Tabs
from tests.relay import BareRelay

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "p2pweb.settings")
RTC = "--disable-features=WebRtcHideLocalIpsWithMdns"

# The modules are loaded and Trystero is not waited for: what is measured is finding each other.
PREPARE = """async () => {
  const { P2PNetwork } = await import('room/p2p-network.js');
  await import('@trystero-p2p/nostr');
  window.network = new P2PNetwork();
  window.Link = (await import('room/link.js')).Link;
  window.blob = null;
}"""
# The one's blob, and its name
PROVIDE = """async (bytes) => {
  window.blob = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at += 65536) {
    crypto.getRandomValues(blob.subarray(at, Math.min(bytes, at + 65536)));
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', blob));
  return [network.id, [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('')];
}"""
REACH = """async ([id]) => {
  const peer = network.peers.find((one) => one.id === id);
  window.link = new Link(await peer.openChannel('bench'), {});
}"""
FETCH = """([, name]) => {
  window.began = Date.now();
  window.all = link.fetchBlob(name, { timeoutMs: 120_000 }).then(() => Date.now());
}"""
JOIN = """([room, relay, others]) => {
  window.all = new Promise((done) => {
    const seen = () => network.peers.length >= others && done(Date.now());
    const onChannel = (peer, channel) => new Link(channel, { provide: () => blob });
    network.join({ room, relays: [relay], iceServers: [], onPeer: seen, onChannel }).then(seen);
  });
  window.began = Date.now();
}"""
TOOK = "async () => [began, await all]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mib", type=int, default=8, help="size of the blob")
    options = parser.parse_args()
    django.setup()
    relay = BareRelay()
    relay.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, RTC])
        print(
            f"Chromium {browser.version}, {os.cpu_count()} processor cores, "
            f"load {os.getloadavg()[0]:.0f} at the beginning"
        )
        print("| peers | joins, s | together, s | one to all, MB/s |\n|---:|---:|---:|---:|")
        for peers in options.peers:
            runs = [measure(browser, relay, peers, n, options.mib) for n in range(options.repeats)]
            joins, together, speed = (statistics.median(one) for one in zip(*runs, strict=True))
            print(f"| {peers} | {joins:.2f} | {together:.2f} | {speed:.0f} |", flush=True)
        browser.close()
    relay.stop()


def measure(
    browser: Browser, relay: BareRelay, peers: int, number: int, mib: int
) -> tuple[float, float, float]:
    """Seconds for one to join the others and for all to join together; MB/s from one to all."""
    with Tabs(browser) as tabs:
        pages = [tabs.open().page for _ in range(peers)]
        for page in pages:
            page.evaluate(PREPARE)
        together = join(pages, relay, f"together-{peers}-{number}", peers - 1)
        speed = fetched(pages, mib)
        for page in pages:
            page.evaluate("network.leave()")
        time.sleep(2)
        room = f"joins-{peers}-{number}"
        join(pages[1:], relay, room, peers - 2)
        time.sleep(3)  # announcements of the beginning are over
        return join(pages[:1], relay, room, peers - 1), together, speed


def fetched(pages: list[Page], mib: int) -> float:
    """MB/s at which all but the first get the first one's blob, together."""
    size = mib * 2**20
    wanted = pages[0].evaluate(PROVIDE, size)
    for page in pages[1:]:
        page.evaluate(REACH, wanted)
    for page in pages[1:]:
        page.evaluate(FETCH, wanted)
    times = [page.evaluate(TOOK) for page in pages[1:]]
    seconds = (max(end for _, end in times) - min(began for began, _ in times)) / 1000
    return size * len(times) / seconds / 1e6


def join(pages: list[Page], relay: BareRelay, room: str, others: int) -> float:
    for page in pages:
        page.evaluate(JOIN, [room, relay.url, others])
    times = [page.evaluate(TOOK) for page in pages]
    return (max(end for _, end in times) - max(began for began, _ in times)) / 1000


if __name__ == "__main__":
    main()
