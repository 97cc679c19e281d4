// Plays workers of given speeds on a RoomQueue in simulated time.
//
// Who asks first when several are idle at one moment is drawn by lot, as in life. Messages take no
// time. Whoever was left something asks again when that is over.

import { RoomQueue } from '/static/js/work/queue/room-queue.js';

/** A small generator of random numbers with a seed (mulberry32). @returns {() => number} 0..1 */
export function lots(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param {any[]} list in place @param {() => number} random */
export function shuffle(list, random) {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

/**
 * How long a batch takes, and the least that it could: all work at the speed of all workers, or the
 * chain of one image on the fastest.
 * @param {object} scene
 * @param {number[]} scene.factors how slow each worker is
 * @param {{encode: number, step: number, decode: number}} scene.seconds of a worker of factor 1
 * @param {number} scene.images @param {number} scene.steps
 * @param {boolean} [scene.measured] all speeds are known from before
 * @param {number} [scene.noise] how much single chunks differ, 0.1 is 10 %
 * @param {number} [scene.seed] @param {number} [scene.imagesAJob]
 * @returns {{makespan: number, bound: number, ratio: number, moved: number, done: boolean}} in s;
 *   moved: how often an image went from one worker to another
 */
export function play({
  factors, seconds, images, steps, measured = true, noise = 0, seed = 0, imagesAJob = 16,
}) {
  const random = lots(seed);
  let now = 1e12;
  let jobs = 0;
  const queue = new RoomQueue({ room: 'kitchen', now: () => now, newId: () => `job${jobs++}` });
  const took = (lease, factor) => {
    const range = lease.stop - lease.start;
    const one = lease.kind === 'denoise' ? seconds.step * range : seconds[lease.kind];
    return one * factor * (1 + noise * (2 * random() - 1));
  };
  const request = {
    prompt: 'a rocket', model: 'tiny', width: 64, height: 64, steps, guidance: 4, seed: 1,
  };
  const workers = factors.map((factor, number) => (
    { id: `worker${number}`, factor, lease: null, end: 0 }));
  const arrive = (worker) => queue.arrive({
    id: worker.id, client: 'somebody', name: worker.id, device: 'gpu', models: ['tiny'],
  });
  if (measured) {
    for (const worker of workers) { // one picture each, alone in the room
      arrive(worker);
      queue.submit({ ...request, num_images: 1 }, { client: 'before' });
      for (let lease; (lease = queue.claim(worker.id));) {
        now += 1000 * took(lease, worker.factor);
        queue.complete(lease, 'blob', 0);
      }
      queue.leave(worker.id);
    }
  }
  for (const worker of workers) arrive(worker);
  now = 1e12 + 1e9;
  const began = now;
  for (let left = images; left > 0; left -= imagesAJob) {
    queue.submit({ ...request, num_images: Math.min(left, imagesAJob) }, { client: 'alice' });
  }
  let moved = 0;
  const last = new Map();
  for (;;) {
    for (let given = true; given;) {
      given = false;
      for (const worker of shuffle(workers.filter(({ lease }) => !lease), random)) {
        worker.lease = queue.claim(worker.id);
        if (!worker.lease) continue;
        given = true;
        const image = `${worker.lease.job} ${worker.lease.image}`;
        if (worker.lease.image !== null) {
          moved += last.has(image) && last.get(image) !== worker.id ? 1 : 0;
          last.set(image, worker.id);
        }
        worker.end = now + 1000 * took(worker.lease, worker.factor);
      }
    }
    const busy = workers.filter(({ lease }) => lease);
    const idle = workers.filter(({ lease }) => !lease);
    const again = idle.map(({ id }) => queue.claimAgainAt(id) ?? Infinity);
    const next = Math.min(...busy.map(({ end }) => end), ...again);
    if (next === Infinity) break;
    now = next;
    for (const worker of busy) {
      if (worker.end > now) {
        worker.lease = queue.renew(worker.lease);
      } else {
        queue.complete(worker.lease, 'blob', 0);
        worker.lease = null;
      }
    }
  }
  const chain = seconds.encode + steps * seconds.step + seconds.decode;
  const speed = factors.reduce((sum, factor) => sum + 1 / factor, 0);
  const jobsInAll = Math.ceil(images / imagesAJob);
  const work = images * (chain - seconds.encode) + jobsInAll * seconds.encode;
  const bound = Math.max(work / speed, chain * Math.min(...factors));
  const makespan = (now - began) / 1000;
  const all = queue.jobs().filter(({ client }) => client === 'alice');
  const done = all.every(({ state }) => state === 'done');
  return { makespan, bound, ratio: makespan / bound, moved, done };
}
