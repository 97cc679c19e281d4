"""What it costs a step that its halves are on two tabs, beside the halves themselves.

    PYTHONPATH=.:queue python benchmarks/exchange_speed.py [--steps 40] [--sides 256 512 1024]

In one Chromium, between two connections of one page: both ends give each other velocities of
pictures of these sides (16 channels, 8 pixels a cell) and do the Euler step, with
`work/halves-exchange.js` and `engine/halves.js`: writing and reading safetensors, SHA-256, checks,
the data channel. One page's thread does the work of both tabs, so two tabs take less. Prints
milliseconds a step, the median.
"""

import argparse

from playwright.sync_api import sync_playwright

from tests.browser import ARGUMENTS, CHROMIUM
from tests.js.engine.package_host import PackageHost

MEASURE = """async ([side, steps]) => {
  const { Link } = await import('/static/js/room/link.js');
  const { HalvesExchange } = await import('/static/js/work/halves-exchange.js');
  const { readNumbers } = await import('/static/js/work/halves-wire.js');
  const { advanced } = await import('/static/js/engine/halves.js');
  const shape = [16, side / 8, side / 8];
  const count = shape.reduce((all, axis) => all * axis);
  const ends = [new RTCPeerConnection(), new RTCPeerConnection()];
  ends.forEach((end, n) => {
    end.onicecandidate = ({ candidate }) => candidate && ends[1 - n].addIceCandidate(candidate);
  });
  const channels = ends.map((end) => {
    const channel = end.createDataChannel('halves', { negotiated: true, id: 12 });
    channel.binaryType = 'arraybuffer';
    return channel;
  });
  const open = channels.map((channel) => new Promise((done) => { channel.onopen = done; }));
  await ends[0].setLocalDescription();
  await ends[1].setRemoteDescription(ends[0].localDescription);
  await ends[1].setLocalDescription();
  await ends[0].setRemoteDescription(ends[1].localDescription);
  await Promise.all(open);
  const exchanges = [];
  const links = channels.map((channel, n) => new Link(channel, {
    receiveBytes: (bytes) => exchanges[n].take(readNumbers(bytes, shape)),
  }));
  links.forEach((link) => exchanges.push(new HalvesExchange(link, { run: 1, shape, start: 0 })));
  const numbers = () => Float32Array.from({ length: count }, () => Math.random() - 0.5);
  const velocities = [numbers(), numbers()];
  const tab = async (n) => {
    let latent = numbers();
    const took = [];
    for (let step = 0; step < steps; step += 1) {
      const began = performance.now();
      const given = await exchanges[n].give(step, velocities[n], 20_000);
      const [negative, prompt] = n ? [given, velocities[n]] : [velocities[n], given];
      latent = advanced(latent, { negative, prompt }, 5, -0.03);
      took.push(performance.now() - began);
    }
    return took.sort((a, b) => a - b)[Math.floor(steps / 2)];
  };
  const [here] = await Promise.all([tab(0), tab(1)]);
  ends.forEach((end) => end.close());
  return [here, 4 * count];
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024])
    options = parser.parse_args()
    with sync_playwright() as playwright, PackageHost({}) as host:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*ARGUMENTS, "--disable-features=WebRtcHideLocalIpsWithMdns"],
        )
        page = browser.new_page()
        page.goto(host.url)
        for side in options.sides:
            milliseconds, nbytes = page.evaluate(MEASURE, [side, options.steps])
            print(f"{side} px: {nbytes:,} bytes each way, {milliseconds:.1f} ms a step")
        browser.close()


if __name__ == "__main__":
    main()
