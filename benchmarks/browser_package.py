"""Loads a large package in a real Chromium: from the network, then from what the browser stored.

    PYTHONPATH=.:queue python benchmarks/browser_package.py [--shards 128] [--disk FOLDER]

The package has shards of 16 MiB of noise, which a server on this machine makes; 128 are 2.1 GB. The
browser is started anew before the second load, with its profile on the disk. Prints JSON for each
load: MB/s, requests for shards, and the most that the page's heap held, array buffers included.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from diffusion.packaging.manifest import dtypes_of
from diffusion.packaging.pack import pack_model
from tests.browser import ARGUMENTS, CHROMIUM
from tests.js.engine.package_host import ROOT, SHARD, PackageHost, noise_package

LOAD = """() => {
  globalThis.loading = (async () => {
    const { openPackage } = await import('/static/js/engine/package.js');
    const reader = await openPackage('large', { confirmDownload: () => true });
    const names = [...reader.manifest.tensors.keys()].filter((name) => name.includes('noise'));
    await reader.prepare(names);
    let bytes = 0;
    for (const name of names) {
      for await (const piece of reader.pieces(name)) bytes += piece.bytes.length;
    }
    await reader.written();
    globalThis.result = [bytes, reader.bytesMissing()];
  })().catch((error) => { globalThis.result = String(error); });
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=128)
    parser.add_argument("--disk", type=Path, help="a folder for the browser's profile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.disk) as scratch:
        package = Path(scratch) / "package"
        pack_model(ROOT / "models/prx-emoji", package, dtypes_of("f16"))
        with PackageHost({"large": noise_package(package, options.shards)}) as host:
            for source in ("network", "storage"):
                host.asked.clear()
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch_persistent_context(
                        f"{scratch}/profile", executable_path=CHROMIUM, args=ARGUMENTS
                    )
                    seconds, most = load(browser.new_page(), host.url, options.shards * SHARD)
                    browser.close()
                print(json.dumps({
                    "from": source,
                    "bytes": options.shards * SHARD,
                    "megabytes a second": round(options.shards * SHARD / 1e6 / seconds),
                    "requests": len(host.names()),
                    "most heap in MB": round(most / 1e6),
                }))  # fmt: skip


def load(page: Page, url: str, nbytes: int) -> tuple[float, float]:
    """Seconds, and the most bytes of heap and array buffers."""
    page.goto(url)
    session = page.context.new_cdp_session(page)
    start = time.monotonic()
    page.evaluate(LOAD)
    most = 0.0
    while (result := page.evaluate("globalThis.result ?? null")) is None:
        usage = session.send("Runtime.getHeapUsage")
        most = max(most, usage["usedSize"] + usage["backingStorageSize"])
        time.sleep(0.05)
    if result != [nbytes, 0]:
        raise RuntimeError(f"the load ended with {result}")
    return time.monotonic() - start, most


if __name__ == "__main__":
    main()
