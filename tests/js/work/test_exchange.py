"""Tensors from tab to tab, over real connections: right, or missing, and never late."""

import time
from typing import Any

import pytest
from playwright.sync_api import Error

from tests.js.room.conftest import relay, rtc_chromium, tabs
from tests.js.room.tabs import Tab, Tabs, all_meet
from tests.relay import BareRelay

__all__ = ["relay", "rtc_chromium", "tabs"]

# conduct: how this tab answers those who ask it for a tensor
START = """async ({ relay, conduct, withinMs }) => {
  const { P2PNetwork } = await import('room/p2p-network.js');
  const { Link } = await import('room/link.js');
  const { Exchange } = await import('work/exchange.js');
  const network = new P2PNetwork();
  const exchange = new Exchange(network, { withinMs });
  const digest = async (numbers) => [...new Uint8Array(await crypto.subtle.digest(
    'SHA-256', numbers))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const told = [];
  const asked = [];
  const answers = {
    lies: () => new Uint8Array(64).fill(9),
    lacks: () => null,
    hangs: () => new Promise(() => {}),
    fails: () => { throw new Error('broken'); },
    large: () => new Uint8Array(2 ** 26),
  };
  const log = [];
  Object.assign(window, { network, exchange, digest, told, asked, log });
  await network.join({
    room: 'kitchen', relays: [relay], iceServers: [],
    onChannel(peer, channel) {
      if (conduct === 'honest') {
        exchange.visited(channel);
      } else {
        new Link(channel, {
          provide(name) { asked.push(name); return answers[conduct](); },
          receive(message) { told.push(message.type); },
        });
      }
    },
  });
  return network.id;
}"""
TAKE = """async ([peer, offers]) => {
  const { tensors, missing, why } = await exchange.take(
    offers.map((offer) => ({ peer, ...offer })), AbortSignal.timeout(60000));
  const numbers = Object.fromEntries(Object.entries(tensors).map(
    ([name, { shape, data }]) => [name, [shape, [...data.slice(0, 4)]]]));
  return { numbers, missing, why, counts: exchange.counts };
}"""


def join(tabs: Tabs, relay: BareRelay, conduct: str, within_ms: int) -> Tab:
    tab = tabs.open()
    options = {"relay": relay.url, "conduct": conduct, "withinMs": within_ms}
    tab.id = tab.page.evaluate(START, options)
    return tab


@pytest.fixture
def two(tabs: Tabs, relay: BareRelay):
    """two(conduct): a tab that gives as it is told to, and one that takes."""

    def both(conduct: str = "honest", within_ms: int = 20_000) -> tuple[Tab, Tab]:
        giver, taker = (join(tabs, relay, each, within_ms) for each in (conduct, "honest"))
        all_meet(giver, taker)
        return giver, taker

    return both


def keep(tab: Tab, numbers: str) -> str:
    """The digest of a tensor that a tab has from now on."""
    return str(tab.run(f"const all = {numbers}; await exchange.keep(all); return digest(all);"))


def take(taker: Tab, giver: Tab, *offers: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = taker.page.evaluate(TAKE, [giver.id, list(offers)])
    return found


def offer(sha256: str, shape: list[int], name: str = "latent") -> dict[str, Any]:
    return {"name": name, "sha256": sha256, "shape": shape}


def test_what_one_has_the_other_takes(two) -> None:
    giver, taker = two()
    latent = keep(giver, "Float32Array.of(1, -2.5, 3, 4)")
    text = keep(giver, "new Float32Array(600000).fill(7)")
    found = take(taker, giver, offer(latent, [2, 2]), offer(text, [200, 3000], "prompt"))
    assert found["numbers"] == {"latent": [[2, 2], [1, -2.5, 3, 4]],
                                "prompt": [[200, 3000], [7, 7, 7, 7]]}  # fmt: skip
    assert found["missing"] == []
    given = giver.run("return exchange.counts;")
    assert found["counts"]["takenBytes"] == given["givenBytes"] == 16 + 4 * 600_000
    assert found["counts"]["taken"] == given["given"] == 2


def test_what_it_gives_is_bounded_and_the_oldest_goes_first(two) -> None:
    giver, taker = two()
    first = keep(giver, "Float32Array.of(1)")
    kept = [keep(giver, f"new Float32Array(2 ** 23).fill({value})") for value in (1, 2)]
    small = keep(giver, "Float32Array.of(2)")
    found = take(taker, giver, offer(first, [1], "first"), offer(small, [1], "small"))
    assert (found["missing"], found["numbers"]["small"]) == (["first"], [[1], [2]])
    assert take(taker, giver, offer(kept[0], [2**23]))["why"].startswith("not-found of ")


def test_wrong_bytes_are_not_taken_and_who_gave_them_is_told_and_asked_no_more(two) -> None:
    giver, taker = two("lies")
    wanted = offer("ab" * 32, [16])
    found = take(taker, giver, wanted, offer("cd" * 32, [16], "prompt"))
    assert (found["missing"], found["numbers"]) == (["latent", "prompt"], {})
    assert found["why"] == f"corrupt of {giver.id}, corrupt of {giver.id}"
    giver.waits("told.length === 2")
    assert giver.run("return told;") == ["exchange.wrong"] * 2
    assert take(taker, giver, wanted)["why"] == f"distrusted of {giver.id}"
    assert giver.run("return asked.length;") == 2


def test_an_honest_tab_hears_that_it_gave_something_wrong(two) -> None:
    giver, taker = two()
    digest = keep(giver, "(window.mine = Float32Array.of(1, 2))")
    giver.run("mine[0] = 9;")  # its memory is not what it was
    assert take(taker, giver, offer(digest, [2]))["missing"] == ["latent"]
    giver.waits("exchange.counts.wrong === 1")


def test_a_tensor_of_another_shape_is_not_taken(two) -> None:
    giver, taker = two()
    digest = keep(giver, "Float32Array.of(1, 2, 3)")
    found = take(taker, giver, offer(digest, [2, 2]))
    assert (found["numbers"], found["why"]) == ({}, f"other-shape of {giver.id}")


@pytest.mark.parametrize(
    ("conduct", "code"),
    [("lacks", "not-found"), ("fails", "failed"), ("hangs", "TimeoutError")],
)
def test_what_does_not_come_is_missing_within_the_time(two, conduct: str, code: str) -> None:
    giver, taker = two(conduct, within_ms=700)
    giver.page.evaluate("window.reportError = () => {}")  # it tells its own page
    began = time.monotonic()
    found = take(taker, giver, offer("ab" * 32, [16]))
    assert time.monotonic() - began < 5
    assert (found["missing"], found["why"]) == (["latent"], f"{code} of {giver.id}")
    assert found["counts"]["missed"] == 1
    assert "distrusted" not in take(taker, giver, offer("ab" * 32, [16]))["why"]


def test_a_tab_that_is_killed_in_the_middle_costs_no_more_than_the_time(two) -> None:
    giver, taker = two("large", within_ms=3000)
    taker.page.evaluate(f"""() => {{
      ({TAKE})([{giver.id!r}, [{{ name: 'latent', sha256: 'ab'.repeat(32),
        shape: [16] }}]]).then((found) => {{ window.found = found; }}); }}""")
    giver.waits("asked.length === 1")
    with pytest.raises(Error):
        giver.page.goto("chrome://crash")
    began = time.monotonic()
    taker.page.wait_for_function("() => window.found", timeout=10_000)
    assert time.monotonic() - began < 6
    assert taker.page.evaluate("found.missing") == ["latent"]
    assert taker.run("return exchange.counts.taken;") == 0


def test_who_is_not_here_is_not_waited_for_and_a_lost_lease_asks_nobody(two) -> None:
    giver, taker = two("hangs")
    found = taker.page.evaluate(TAKE, ["x" * 20, [offer("ab" * 32, [16])]])
    assert found["why"] == f"not-here of {'x' * 20}"
    reason = taker.run(
        """const controller = new AbortController();
        const taking = exchange.take([{ peer: args[0], name: 'latent', sha256: 'ab'.repeat(32),
          shape: [16] }], controller.signal);
        setTimeout(() => controller.abort(new Error('lost')), 100);
        return taking.catch((error) => error.message);""",
        giver.id,
    )
    assert reason == "lost"


def test_a_link_that_broke_is_opened_anew(two) -> None:
    giver, taker = two()
    digest = keep(giver, "Float32Array.of(1, 2)")
    assert take(taker, giver, offer(digest, [2]))["missing"] == []
    giver.run("exchange.close(); await exchange.keep(Float32Array.of(1, 2));")
    deadline = time.monotonic() + 10
    while take(taker, giver, offer(digest, [2]))["missing"]:
        assert time.monotonic() < deadline
