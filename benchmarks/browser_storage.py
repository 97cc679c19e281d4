"""Where a browser keeps the shards of a model best: Cache API or the origin private file system.

    python benchmarks/browser_storage.py [--shards 16] [--profile FOLDER]

In a Worker of a real Chromium with a profile on disk, shards of 16 MiB of noise are written one by
one, each write awaited, and read again after the browser was started anew. Prints the speed of each
in MB/s, with the SHA-256 that has to be computed anyway for comparison.
"""

import argparse
import functools
import http.server
import shutil
import tempfile
import threading
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

WORKER = """
const BYTES = 16 * 2 ** 20;
const shard = new Uint8Array(BYTES);
for (let at = 0; at < BYTES; at += 65536) crypto.getRandomValues(shard.subarray(at, at + 65536));
const folder = () => navigator.storage.getDirectory();
const address = (n) => `https://shards.invalid/${n}`;

const ways = {
  cache: {
    async write(n) {
      const cache = await caches.open('benchmark');
      await cache.put(address(n), new Response(shard));
    },
    async read(n) {
      const found = await (await caches.open('benchmark')).match(address(n));
      return new Uint8Array(await found.arrayBuffer());
    },
  },
  'OPFS, access handle': {
    async write(n) {
      const file = await (await folder()).getFileHandle(`sync${n}`, { create: true });
      const handle = await file.createSyncAccessHandle();
      handle.write(shard, { at: 0 });
      handle.flush();
      handle.close();
    },
    async read(n) {
      const file = await (await folder()).getFileHandle(`sync${n}`);
      const handle = await file.createSyncAccessHandle();
      const data = new Uint8Array(handle.getSize());
      handle.read(data, { at: 0 });
      handle.close();
      return data;
    },
  },
  'OPFS, stream': {
    async write(n) {
      const file = await (await folder()).getFileHandle(`async${n}`, { create: true });
      const stream = await file.createWritable();
      await stream.write(shard);
      await stream.close();
    },
    async read(n) {
      const file = await (await folder()).getFileHandle(`async${n}`);
      return new Uint8Array(await (await file.getFile()).arrayBuffer());
    },
  },
  'SHA-256': {
    async write() {},
    async read() {
      await crypto.subtle.digest('SHA-256', shard);
      return shard;
    },
  },
};

self.onmessage = async ({ data: [what, way, shards] }) => {
  const seconds = [];
  for (let n = 0; n < shards; n++) {
    const start = performance.now();
    const data = await ways[way][what](n);
    seconds.push((performance.now() - start) / 1000);
    if (data && data.length !== BYTES) throw new Error(`${data.length} bytes`);
  }
  self.postMessage(seconds);
};
"""

RUN = """(task) => new Promise((resolve, reject) => {
  const worker = new Worker('/worker.js');
  worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
  worker.onerror = (event) => reject(new Error(event.message));
  worker.postMessage(task);
})"""

WAYS = ("cache", "OPFS, access handle", "OPFS, stream", "SHA-256")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--profile", type=Path, help="a folder on the disk to measure")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.profile) as root:
        site, profile = Path(root, "site"), Path(root, "profile")
        site.mkdir()
        (site / "index.html").write_text("<!doctype html>")
        (site / "worker.js").write_text(WORKER)
        handler = functools.partial(Quiet, directory=str(site))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        for what in ("write", "read"):
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch_persistent_context(
                    str(profile), executable_path=CHROMIUM, args=["--no-sandbox"]
                )
                page = browser.new_page()
                page.goto(url)
                for way in WAYS:
                    report(page, what, way, arguments.shards)
                browser.close()


def report(page: Page, what: str, way: str, shards: int) -> None:
    seconds = page.evaluate(RUN, [what, way, shards])
    if what == "read" or way != "SHA-256":
        middle, total = 16.777 / median(seconds), 16.777 * shards / sum(seconds)
        print(f"{what:5}  {way:20} {middle:6.0f} MB/s median, {total:6.0f} MB/s in all")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    main()
