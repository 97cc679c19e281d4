"""How fast transfers are, against the bare data channel that they go over.

    PYTHONPATH=.:queue python benchmarks/transfer_speed.py [--rounds 5] [--sizes 1 16 64]

In one Chromium, between two connections of one page, by turns: the channel alone (messages of
224 KiB of which at most 1 MiB wait in the buffer), a blob by its name (`Link.fetchBlob`, from the
question to the checked bytes), and bytes over the wire as a worker sends a result
(`WorkLine.say`, until the other end has put them together). Prints MB/s of each, median and best,
and their ratio to the channel alone; and the processor time of the whole browser for each megabyte,
which other programs on the machine change less.
"""

import argparse
import os
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, sync_playwright

from tests.browser import ARGUMENTS, CHROMIUM
from tests.js.engine.package_host import PackageHost

SETUP = """async () => {
  const { Link } = await import('/static/js/room/link.js');
  const { WorkLine } = await import('/static/js/work/work-line.js');
  const ends = [new RTCPeerConnection(), new RTCPeerConnection()];
  ends.forEach((end, n) => {
    end.onicecandidate = ({ candidate }) => candidate && ends[1 - n].addIceCandidate(candidate);
  });
  const pair = (id) => ends.map((end) => {
    const channel = end.createDataChannel('x', { negotiated: true, id });
    channel.binaryType = 'arraybuffer';
    return channel;
  });
  const [raw, linked] = [pair(10), pair(12)];
  const open = [...raw, ...linked].map((channel) => new Promise((r) => { channel.onopen = r; }));
  await ends[0].setLocalDescription();
  await ends[1].setRemoteDescription(ends[0].localDescription);
  await ends[1].setLocalDescription();
  await ends[0].setRemoteDescription(ends[1].localDescription);
  await Promise.all(open);

  let provided = null;
  let done = null;
  const lines = [];
  const links = linked.map((channel, n) => new Link(channel, {
    receive: (message) => lines[n].hear(message),
    receiveBytes: (bytes) => { if (lines[n].hearBytes(bytes)) done(); },
    provide: () => provided,
  }));
  links.forEach((link) => lines.push(new WorkLine(link)));

  const ways = {
    raw: (bytes) => new Promise((resolve) => {
      const [MESSAGE, MOST] = [224 * 1024, 2 ** 20];
      let [sent, got] = [0, 0];
      raw[1].onmessage = ({ data }) => {
        got += data.byteLength;
        if (got === bytes.length) resolve();
      };
      const pump = () => {
        while (sent < bytes.length && raw[0].bufferedAmount < MOST) {
          raw[0].send(bytes.subarray(sent, sent + MESSAGE));
          sent += MESSAGE;
        }
      };
      raw[0].bufferedAmountLowThreshold = MOST / 2;
      raw[0].onbufferedamountlow = pump;
      pump();
    }),
    blob: (bytes, name) => {
      provided = bytes;
      return links[1].fetchBlob(name, { timeoutMs: 60000 });
    },
    wire: (bytes) => new Promise((resolve) => {
      done = resolve;
      lines[0].say({ type: 'x' }, bytes);
    }),
  };
  let next = null;
  globalThis.prepare = async (way, mebibytes) => {
    const bytes = new Uint8Array(mebibytes * 2 ** 20);
    for (let at = 0; at < bytes.length; at += 65536) {
      crypto.getRandomValues(bytes.subarray(at, at + 65536));
    }
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    const name = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
    next = () => ways[way](bytes, name);
    next.bytes = bytes.length;
  };
  globalThis.transfer = async () => {
    const began = performance.now();
    await next();
    return next.bytes / 1000 / (performance.now() - began);
  };
}"""
WAYS = ("raw", "blob", "wire")
Measured = dict[str, list[tuple[float, float]]]  # by way: MB/s, and milliseconds of processor a MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 16, 64], help="MiB")
    options = parser.parse_args()
    with PackageHost({}) as host, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        page.goto(host.url)
        page.evaluate(SETUP)
        measure(page, "raw", 16)  # the connection's window opens
        for size in options.sizes:
            # Short ones are over before the clock has seen much of the processor: more of them.
            report(size, by_turns(page, size, options.rounds * max(1, 16 // size)))
        browser.close()


def by_turns(page: Page, size: int, rounds: int) -> Measured:
    measured: Measured = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS[number % 3 :] + WAYS[: number % 3]:
            measured[way].append(measure(page, way, size))
    return measured


def measure(page: Page, way: str, size: int) -> tuple[float, float]:
    page.evaluate("([way, size]) => prepare(way, size)", [way, size])
    before = processor_seconds()
    speed: float = page.evaluate("transfer()")
    return speed, (processor_seconds() - before) * 1000 / (size * 1.048576)


def processor_seconds() -> float:
    """Of all processes below this one, which are those of the browser."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[int(stat.parent.name)] = int(fields[1])
        ticks[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(ticks[pid] for pid in below if pid != os.getpid()) / os.sysconf("SC_CLK_TCK")


def report(size: int, measured: Measured) -> None:
    speeds = {way: [speed for speed, _ in pairs] for way, pairs in measured.items()}
    costs = {way: sum(cost for _, cost in pairs) / len(pairs) for way, pairs in measured.items()}
    for way in WAYS:
        ratios = [mine / bare for mine, bare in zip(speeds[way], speeds["raw"], strict=True)]
        print(
            f"{size:3} MiB  {way:4}  {median(speeds[way]):6.1f} MB/s median,"
            f" {max(speeds[way]):6.1f} best, {costs[way]:5.1f} ms of processor a MB;"
            f"  of the channel alone: {median(speeds[way]) / median(speeds['raw']):.0%} by medians,"
            f" {median(ratios):.0%} round by round, {max(speeds[way]) / max(speeds['raw']):.0%} by"
            f" the best, {costs['raw'] / costs[way]:.0%} by processor time"
        )


if __name__ == "__main__":
    main()
