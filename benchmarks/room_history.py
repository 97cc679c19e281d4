"""What the history of a room without a server costs while its tabs work: copies to other tabs, and
what this browser writes.

    PYTHONPATH=.:queue python benchmarks/room_history.py [--pictures 100 1000 4000]

In a page of a real Chromium three workers make so many pictures, of 28 steps in ranges of seven,
four a job, all of them checked; nothing is computed. `whole`: characters of the room's state.
`first`: what a tab is sent that comes in. `next`: a later copy, while one more picture is made.
Milliseconds: `pack` at the holder, `read` at the other end, `save` to IndexedDB; medians.
"""

import argparse
import os

import django
from playwright.sync_api import sync_playwright

from tests.browser import ARGUMENTS, CHROMIUM

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "p2pweb.settings")

MEASURE = """async (pictures) => {
  const { RoomQueue } = await import('/static/js/work/queue/room-queue.js');
  const { snapshotAgain } = await import('/static/js/work/queue/snapshot-shape.js');
  const { readState, STATE_VERSION } = await import('/static/js/work/room-state.js');
  const { CopyReader, CopySender } = await import('/static/js/work/copies.js');
  const { Keeper } = await import('/static/js/work/keeper.js');
  let [now, blobs] = [1.7e12, 0];
  const blob = () => (++blobs).toString(16).padStart(64, '0');
  const queue = new RoomQueue({
    room: 'kitchen', holder: 'a', now: () => now, checks: { trusted: null, random: () => 0 } });
  const hands = ['one', 'two', 'three'];
  for (const id of hands) {
    queue.arrive({ id, client: id, name: `tab ${id}`, device: 'a GPU', models: ['prx'],
      kernels: 'matmul/8x8', variant: 'f16' });
  }
  const ask = (n, num_images) => queue.submit({
    prompt: 'a rocket on a blue background, seen from below, as in a book for children',
    negative_prompt: '', model: 'prx', width: 512, height: 512, steps: 28, guidance: 4, num_images,
  }, { client: 'alice', id: `job ${n}`, seed: 7 });
  const work = () => hands.filter((hand) => {
    const lease = queue.claim(hand);
    if (!lease) return false;
    now += 420 * Math.max(1, lease.stop - lease.start); // ranges of seven steps
    if (lease.check === null) queue.complete(lease, blob(), 1);
    else queue.judge(lease, blob(), 1, { first: { distance: 0, limit: 0.01 }, second: null });
    return true;
  }).length;
  const rest = () => { now += 2100; };
  const workOff = () => { for (let idle = 0; idle < 3;) idle = work() ? 0 : (rest(), idle + 1); };
  for (let n = 0; 4 * n < pictures; n++) {
    ask(n, 4);
    workOff();
    queue.sweep();
  }
  const state = () => ({ version: STATE_VERSION, about: { owner: null, title: '', revision: 0 },
    queue: queue.snapshot() });
  const median = (all) => all.toSorted((a, b) => a - b)[all.length >> 1];
  const times = { pack: [], read: [], save: [] };
  const timed = async (name, run) => {
    const began = performance.now();
    const result = await run();
    times[name].push(performance.now() - began);
    return result;
  };
  const sender = new CopySender({ oneHolder: true });
  const reader = new CopyReader();
  const shape = snapshotAgain();
  const keeper = await Keeper.open(`room of ${pictures}`);
  const sent = [];
  const copy = async () => {
    const messages = await timed('pack', () => {
      const { parts, state: packed } = sender.pack(state());
      return [...parts, packed].map((one) => JSON.stringify(one));
    });
    sent.push(messages.reduce((sum, { length }) => sum + length, 0));
    await timed('read', () => {
      const [packed, ...parts] = messages.map((one) => JSON.parse(one)).reverse();
      for (const part of parts.reverse()) reader.add(part);
      return readState(reader.whole(packed), 'kitchen', shape);
    });
    await timed('save', () => keeper.save(state(), new Set(), () => null));
  };
  await copy();
  const whole = JSON.stringify(state()).length;
  const firsts = Object.values(times).map((all) => all.pop());
  ask('last', 1);
  for (let rested = 0; rested < 3;) {
    if (work()) rested = 0; else { rest(); rested += 1; }
    await copy();
  }
  await keeper.close();
  const rounded = (all) => all.map((one) => Math.round(10 * one) / 10);
  return { whole, first: sent.shift(), next: median(sent), firsts: rounded(firsts),
    later: rounded(Object.values(times).map(median)) };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, nargs="+", default=[100, 1000, 4000])
    options = parser.parse_args()
    django.setup()
    from tests.js.engine.package_host import PackageHost

    print(f"{os.cpu_count()} processor cores, load {os.getloadavg()[0]:.0f}; characters, ms")
    print("| pictures | whole | first | next | pack | read | save | first: pack | read | save |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    with sync_playwright() as playwright, PackageHost({}) as host:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for pictures in options.pictures:
            page = browser.new_page()
            page.goto(host.url)
            one = page.evaluate(MEASURE, pictures)
            sizes = [f"{one[name]:,}" for name in ("whole", "first", "next")]
            row = [f"{pictures:,}", *sizes, *one["later"], *one["firsts"]]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
