"""A real Chromium for tests, and what it must never say: errors, what axe-core finds."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

AXE = Path(__file__).parent / "js/vendor/axe-core/axe.min.js"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which(
    "chromium-browser"
)  # fmt: skip
FAIR = Path(__file__).parent / "chromium-at-their-level.sh"
ARGUMENTS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

DISABLE = "--disable-features="
# Switched off. Of several such lists Chromium takes the last alone: this one has Playwright's too.
FEATURES_OFF = [
    # What pops up below the address bar are pages, a second of processor time in every new window.
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup",
    # Every page would have a process started for the next one, which most tests never open.
    "SpareRendererForSitePerProcess",
    "AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades",
    "LensOverlay", "MediaRouter", "NetworkTimeServiceQuerying", "OptimizationHints",
    "PaintHolding", "PreconnectToSearch", "TcpPortRandomizationWin",
    "ThirdPartyStoragePartitioning",
]  # fmt: skip

# A real WebGPU device computed by the processor: about 1 GFLOP/s, and seconds to make a pipeline
WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]

# Two cores that also compute pictures may take seconds to answer a page.
expect.set_options(timeout=10_000)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser a module. Playwright keeps an event loop in this thread as long as it is open,
    and a test of another module that is a coroutine could not run then."""
    yield from _browser()


@pytest.fixture(scope="module")
def webgpu_chromium() -> Iterator[Browser]:
    """One that offers a software adapter for WebGPU. A module takes this one or the other."""
    yield from _browser(*WEBGPU)


def launch(playwright: Playwright, *more: str) -> Browser:
    """It shares the processor fairly with what else runs; see chromium-at-their-level.sh."""
    assert CHROMIUM, "install chromium, or name it in CHROMIUM"
    may_go_first = os.geteuid() == 0 and shutil.which("setpriv")
    off = [argument.removeprefix(DISABLE) for argument in more if argument.startswith(DISABLE)]
    return playwright.chromium.launch(
        executable_path=FAIR if may_go_first else CHROMIUM,
        env={**os.environ, "CHROMIUM": CHROMIUM},
        args=[*ARGUMENTS, *more, DISABLE + ",".join([*FEATURES_OFF, *off])],
    )


def _browser(*more: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright, *more)
        yield browser
        browser.close()


def ask(page: Page, prompt: str, *, size: str = "", pictures: int = 0, **settings: object) -> None:
    """Fill a room's form as a person does, by its labels, and press Generate.

    size: "128x128"; settings: Steps, Guidance, Seed.
    """
    page.get_by_role("textbox", name="Prompt").fill(prompt)
    if size:
        page.get_by_label("Size", exact=True).select_option(size)
    if pictures:
        page.get_by_role("spinbutton", name="Pictures").fill(str(pictures))
    if settings and not page.get_by_label("Seed", exact=True).is_visible():
        page.locator("#more-settings summary").click()
    for label, value in settings.items():
        page.get_by_label(label, exact=True).fill(str(value))
    page.get_by_role("button", name="Generate").click()


def listen_for_errors(page: Page, errors: list[str], *, console: bool = False) -> None:
    """Adds to `errors` what goes wrong in scripts and what the content security policy stops;
    console: and every error that the browser logs, such as an address that is not there. Previews
    may be: they go with a cancelled job, while a page asks for one."""

    def logged(message: ConsoleMessage) -> None:
        gone = "404" in message.text and "/preview.webp" in message.location["url"]
        error = console and message.type == "error" and not gone
        if error or "Content Security Policy" in message.text:
            errors.append(message.text)

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", logged)


def violations(page: Page) -> list[tuple[str, list[object], str]]:
    """What axe-core says of the page, injected through the debugger: the policy stays as it is."""
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE.read_text()})
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        (entry["id"], [node["target"] for node in entry["nodes"]][:3], entry["help"])
        for entry in found
    ]
