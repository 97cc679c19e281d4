"""The panel "This tab" of a page that computes with a real engine: ready, and what it has said."""

import re
from typing import Final

from playwright.sync_api import Page, expect

PATIENCE_MS: Final = 240_000  # the software GPU takes seconds for each pipeline

_LISTEN = """() => {
  window.said = new Set();
  const line = document.getElementById('compute-said');
  new MutationObserver(() => said.add(line.textContent)).observe(
    line, { childList: true, characterData: true, subtree: true });
}"""


def ready(page: Page, timeout_ms: float = PATIENCE_MS) -> None:
    """Waits until it has nothing to do but wait for work."""
    said = page.locator("#compute-said")
    expect(said).to_have_text(re.compile("^Ready on .*: waiting for work."), timeout=timeout_ms)


def listen(page: Page) -> None:
    """From now on, see `heard`."""
    page.evaluate(_LISTEN)


def heard(page: Page) -> list[str]:
    """Every sentence since then, each once."""
    sentences: list[str] = page.evaluate("[...said]")
    return sentences
