"""The relay and nostr-tools, a client that nobody here wrote, in real pages of several origins."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import listen_for_errors
from tests.js.engine.package_host import PackageHost
from tests.relay import bare_relay

__all__ = ["bare_relay"]

NOSTR_TOOLS = Path(__file__).parent / "vendor/nostr-tools/nostr.bundle.js"
TOPIC = "2421710125621821915214316823814011318118319150226"
KIND = 22_083

# What a page keeps: a key of its own, what it has heard, what it was told.
JOIN = """async ([url, topic, kind]) => {
  window.heard = []; window.notices = []; window.key = NostrTools.generateSecretKey();
  window.relay = await NostrTools.Relay.connect(url);
  relay.onnotice = (text) => notices.push(text);
  await new Promise((resolve) => relay.subscribe(
    [{ kinds: [kind], '#x': [topic], since: Math.floor(Date.now() / 1000) }],
    { onevent: (event) => heard.push({ ...event }), oneose: resolve }));
}"""
PUBLISH = """async ([topic, kind, content, changes]) => {
  const event = NostrTools.finalizeEvent({ kind, content, tags: [['x', topic]],
    created_at: Math.floor(Date.now() / 1000) + (changes.seconds ?? 0) }, key);
  const { seconds, ...forged } = changes;
  try {
    return [true, await relay.publish({ ...event, ...forged }), event.id];
  } catch (error) { return [false, error.message, event.id]; }
}"""


@pytest.fixture
def elsewhere(chromium: Browser) -> Iterator[Page]:
    """A page of another origin than the site's, without its content security policy."""
    with PackageHost({}) as host:
        page = chromium.new_context(bypass_csp=True).new_page()
        page.goto(host.url)
        errors: list[str] = []
        listen_for_errors(page, errors)
        yield page
        page.context.close()
        assert errors == []


@pytest.fixture
def of_the_site(open_page, alice) -> Page:
    return open_page(alice, "/")


def join(page: Page, url: str) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": NOSTR_TOOLS.read_text()})
    page.evaluate(JOIN, [url, TOPIC, KIND])


def publish(page: Page, text: str, changes: dict | None = None) -> list:
    """Whether it was taken, what was said, its id. changes: of the event that was signed."""
    return page.evaluate(PUBLISH, [TOPIC, KIND, text, changes or {}])


def content(**more: object) -> str:
    return json.dumps({"peerId": "0aB1cD2eF3gH4iJ5kL6m", **more}, ensure_ascii=False)


def heard(page: Page, count: int) -> list[dict]:
    page.wait_for_function("count => heard.length >= count", arg=count)
    return page.evaluate("heard")


def both_hear_each_other(one: Page, other: Page) -> None:
    texts = [content(n=1), content(name='é漢😀 \u2028"\\\n')]
    for page, text in ((one, texts[0]), (other, texts[1])):
        taken, _reason, _id = publish(page, text)
        assert taken
    for page in (one, other):
        events = heard(page, 2)
        assert [event["content"] for event in events] == texts
        # nostr-tools has verified them already; once more, from what came over the wire
        assert page.evaluate(
            "() => JSON.parse(JSON.stringify(heard)).every(NostrTools.verifyEvent)"
        )
        assert len({event["pubkey"] for event in events}) == 2


def test_pages_of_the_site_and_of_another_origin_meet_at_the_sites_relay(
    of_the_site, elsewhere, site
):
    url = site.url.replace("http", "ws") + "/relay/"
    join(of_the_site, url)
    join(elsewhere, url)
    both_hear_each_other(of_the_site, elsewhere)


def test_pages_without_any_site_meet_at_a_bare_relay(elsewhere, chromium, bare_relay):
    join(elsewhere, bare_relay.url)
    other = elsewhere.context.new_page()
    other.goto(elsewhere.url.replace("127.0.0.1", "localhost"))
    join(other, bare_relay.url)
    both_hear_each_other(elsewhere, other)


def test_what_is_wrong_is_refused_with_its_reason_and_nobody_hears_it(elsewhere, bare_relay):
    join(elsewhere, bare_relay.url)
    right = content(n=1)
    for changes, text, reason in [
        ({"sig": "0" * 128}, right, "the signature is not"),
        ({"content": content(n=2)}, right, "id is not the SHA-256"),
        ({}, '{"peerId":"__proto__"}', "a peerId of 20 letters and digits"),
        ({"seconds": 3600}, right, r"created_at is 3\d{3} s ahead"),
    ]:
        taken, said, _id = publish(elsewhere, text, changes)
        assert not taken
        assert re.match(rf"duplicate: refused, .*{reason}", said)
    assert "is your clock right?" in elsewhere.evaluate("notices.at(-1)")
    publish(elsewhere, right)
    assert [event["content"] for event in heard(elsewhere, 1)] == [right]


def test_a_pages_script_may_read_what_the_relay_is(elsewhere, site):
    document = elsewhere.evaluate(
        "async ([url, headers]) => (await fetch(url, { headers })).json()",
        [f"{site.url}/relay/", {"Accept": "application/nostr+json"}],
    )
    assert document["supported_nips"] == [1, 11]
    assert document["limitation"]["created_at_upper_limit"] == 60
