// A batch on a few uneven workers in the words of tests/vectors/queue, with what each call gave:
// most of it is the end, where slow ones leave images and fast ones take them.

import { Player } from './player.js';
import { lots, shuffle } from './simulation.js';

/**
 * @param {number} seed
 * @param {{factors: number[], images: number, steps: number}} scene factors: seconds of a step
 * @returns {{calls: object[], moved: number}} moved: how often an image went to another worker
 */
export function batch(seed, { factors, images, steps }) {
  const player = new Player();
  const random = lots(seed);
  const calls = [];
  const perform = (at, call) => {
    const gives = player.perform({ at, ...call });
    calls.push({ at, ...call, gives });
    return gives;
  };
  const hands = factors.map((factor, number) => ({ worker: `w${number}`, factor, lease: null }));
  const claim = (at, hand) => {
    const as = `${calls.length}`;
    if (perform(at, { call: 'claim', worker: hand.worker, as }) === null) return false;
    const { kind, start, stop, job, image } = player.leases.get(as);
    const units = { encode: 0.3, denoise: stop - start, decode: 0.7 }[kind];
    const seconds = units * hand.factor * (0.95 + 0.1 * random());
    hand.lease = as;
    hand.end = Math.round((at + seconds) * 1000) / 1000;
    hand.image = `${job} ${image}`;
    return true;
  };
  let at = 0;
  for (const hand of hands) { // each does one alone, so that all are measured
    perform(at, { call: 'arrive', worker: hand.worker });
    perform(at, { call: 'submit', job: hand.worker, by: 'before', steps: 4 });
    while (claim(at, hand)) {
      at = hand.end;
      perform(at, { call: 'complete', lease: hand.lease });
    }
    perform(at, { call: 'leave', worker: hand.worker });
    hand.lease = null;
    at = Math.ceil(at) + 10;
  }
  for (const { worker } of hands) perform(at, { call: 'arrive', worker });
  perform(at, { call: 'submit', job: 'batch', by: 'alice', steps, images });
  const last = new Map();
  let moved = 0;
  for (;;) {
    for (let given = true; given;) {
      given = false;
      for (const hand of shuffle(hands.filter(({ lease }) => !lease), random)) {
        if (!claim(at, hand)) continue;
        given = true;
        moved += last.has(hand.image) && last.get(hand.image) !== hand ? 1 : 0;
        last.set(hand.image, hand);
      }
    }
    const busy = hands.filter(({ lease }) => lease);
    if (!busy.length) break;
    const [next] = busy.sort((one, other) => one.end - other.end);
    at = Math.max(at, next.end);
    for (const { lease } of busy) if (lease !== next.lease) perform(at, { call: 'renew', lease });
    perform(at, { call: 'complete', lease: next.lease });
    next.lease = null;
  }
  perform(at, { call: 'look', job: 'batch' });
  return { calls, moved };
}
