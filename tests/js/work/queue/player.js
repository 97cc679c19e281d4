// Plays the calls of a history on a RoomQueue and says what each gave, in the words of
// tests/vectors/queue/README.md. tests/genqueue/player.py does the same on the database.

import { precision } from '/static/js/work/likeness.js';
import { LeaseLost, QueueRefusal, RoomQueue } from '/static/js/work/queue/room-queue.js';

const BEGAN = Date.UTC(2026, 0, 1);
const HOLDER = 'the holder'; // the client whose tabs are trusted

export class Player {
  #now = BEGAN;
  leases = new Map();
  snapshots = new Map();
  #dice = 0;
  #checks;

  /** checks: what is handed in is checked. */
  constructor({ checks = false } = {}) {
    this.#checks = checks ? { trusted: HOLDER, random: () => this.#dice } : null;
    this.queue = new RoomQueue({
      room: 'kitchen', holder: 'm', now: () => this.#now, checks: this.#checks });
  }

  /** @param {object} call @returns {any} what it gave, as JSON */
  perform(call) {
    if (call.at !== undefined) this.#now = BEGAN + Math.round(call.at * 1000);
    try {
      return this.#perform(call);
    } catch (error) {
      if (error instanceof LeaseLost) return 'lost';
      if (error instanceof RangeError) return 'outside';
      if (error instanceof QueueRefusal) return error.code;
      throw error;
    }
  }

  #perform(call) {
    const { queue } = this;
    switch (call.call) {
      case 'arrive':
        queue.arrive({
          id: call.worker, client: call.trusted ? HOLDER : call.worker, name: call.worker,
          device: 'gpu',
          models: call.models ?? ['tiny'], ownFirst: call.own_first ?? false,
        });
        return 'ok';
      case 'equip':
        queue.equip(call.worker, {
          device: 'gpu', software: false, kernels: call.kernels,
          variant: precision(call.stores, call.kernels),
        });
        return 'ok';
      case 'leave':
        queue.leave(call.worker, { crashed: call.crashed ?? false });
        return 'ok';
      case 'submit':
        queue.submit({
          prompt: 'a rocket', model: call.model ?? 'tiny',
          width: call.side ?? 64, height: call.side ?? 64,
          steps: call.steps ?? 8, guidance: 4, seed: call.seed ?? 7, num_images: call.images ?? 1,
        }, { client: call.by, id: call.job });
        return 'ok';
      case 'cancel':
        return queue.cancel(call.job);
      case 'remove':
        return queue.remove(call.job, call.image);
      case 'dismiss':
        return queue.dismiss(call.job);
      case 'pause':
        queue.pause(call.paused);
        return 'ok';
      case 'claim':
        return this.#claim(call);
      case 'renew':
        queue.renew(this.#lease(call));
        return 'ok';
      case 'step':
        queue.checkpoint(this.#lease(call), call.step, {
          latent: call.latent ?? null,
          preview: call.preview ? `preview ${call.lease} ${call.step}` : null,
        });
        return 'ok';
      case 'complete':
        this.#complete(this.#lease(call), call);
        return 'ok';
      case 'dice':
        this.#dice = call.fall;
        return 'ok';
      case 'checks':
        return checksOf(queue.snapshot());
      case 'shut-out':
        return queue.shutOut().map(({ name }) => name);
      case 'fail':
        queue.fail(this.#lease(call), call.fault ?? 'computation-failed', '', call.lost ?? null);
        return 'ok';
      case 'release':
        queue.release(this.#lease(call));
        return 'ok';
      case 'sweep':
        return queue.sweep();
      case 'look':
        return lookOf(queue.job(call.job));
      case 'timeline':
        return timelineOf(queue.timeline(call.job, call.image));
      case 'steps-by':
        return queue.job(call.job).images.find(({ index }) => index === call.image).steps_by;
      case 'positions':
        return Object.fromEntries(queue.jobs().flatMap(
          ({ id, position }) => (position === null ? [] : [[id, position]]),
        ));
      // Of RoomQueue alone: a database is not copied
      case 'snapshot':
        this.snapshots.set(call.as, JSON.parse(JSON.stringify(queue.snapshot())));
        return 'ok';
      case 'restore':
        this.queue = RoomQueue.restore(this.snapshots.get(call.from), {
          now: () => this.#now, holder: call.holder, checks: this.#checks,
        });
        return 'ok';
      case 'merge':
        queue.merge(this.snapshots.get(call.from));
        return 'ok';
      case 'blobs':
        return [...queue.blobs()].sort();
      default:
        throw new Error(`no such call: ${call.call}`);
    }
  }

  #claim({ worker, as, own_first: first }) {
    if (first !== undefined) this.queue.putOwnFirst(worker, first);
    const lease = this.queue.claim(worker);
    if (!lease) return null;
    this.leases.set(as, lease);
    return leaseOf(lease);
  }

  /** Results are alike when they have one name. */
  #complete(lease, { lease: name, result = name, seconds = 0, partners = [] }) {
    if (lease.check === null) {
      const how = lease.kind === 'denoise' ? 'half' : 'band';
      this.queue.complete(
        lease, result, seconds, { partners: partners.map((one) => ({ ...one, how })) });
      return;
    }
    const about = this.queue.disputed(lease);
    const finding = (other) => ({ distance: other === result ? 0 : 1, limit: 0.5 });
    this.queue.judge(lease, result, seconds, about && {
      first: finding(about.result), second: about.second && finding(about.second),
    });
  }

  /** As it was given, or as somebody lies about it. */
  #lease({ lease, attempt, worker }) {
    const held = this.leases.get(lease);
    return { ...held, attempt: attempt ?? held.attempt, worker: worker ?? held.worker };
  }
}

function leaseOf({ kind, job, image, start, stop, attempt, conditioning, latent, check }) {
  const range = kind === 'denoise' ? ` ${start}..${stop}` : '';
  const picture = image === null ? job : `${job}/${image}`;
  const again = check === null ? '' : 'check ';
  const parts = [`${again}${kind} ${picture}${range}, attempt ${attempt}`];
  if (kind === 'denoise') parts.push(`with ${conditioning}`);
  if (latent !== null) parts.push(`from ${latent}`);
  return parts.join(', ');
}

const timelineOf = ({ entries, checks }) => [...leasesOf(entries), ...checks.map(foundOf)];

const foundOf = ({ kind, start, stop, worker, verdict, checker, distance, limit, done_again: again,
  at, checks }) => [
  `check of ${kind}${kind === 'denoise' ? ` ${start}..${stop}` : ''} by ${worker.id}: ${verdict}`,
  checker && `by ${checker.id}`, distance !== null && `${distance} of ${limit}`,
  again && 'done again', at && `after ${(Date.parse(at) - BEGAN) / 1000} s`,
  checks > 1 && `${checks} checks`,
].filter(Boolean).join(', ');

const partnerOf = ({ worker, how, steps, received, sent }) => (
  `${how} by ${worker.id}${steps ? ` of ${steps} steps` : ''} ${received}/${sent} bytes`);

const leasesOf = (entries) => entries.map(
  ({ kind, outcome, start, stop, worker, attempt, chunks, fault, began_at: began, partners }) => {
    const range = kind === 'denoise' ? ` ${start}..${stop}` : '';
    return [
      `${kind}${range} ${outcome} by ${worker.id}`, `after ${(Date.parse(began) - BEGAN) / 1000} s`,
      chunks > 1 && `${chunks} chunks`, attempt && `attempt ${attempt}`, fault?.code,
      ...partners.map(partnerOf),
    ].filter(Boolean).join(', ');
  });

/** Of what is still to be known. */
const checksOf = ({ checks }) => checks.filter(({ state }) => state !== 'lapsed').map(
  ({ kind, start, stop, state, worker, variant }) => (
    `${kind}${kind === 'denoise' ? ` ${start}..${stop}` : ''} by ${worker} ${state}`
    + `${variant && `, ${variant}`}`)).sort();

function lookOf(job) {
  if (job === null) return null;
  const images = job.images.map(({ index, state, step, steps, worker, url, preview_url, doubt }) => [
    `${index}: ${state} ${step}/${steps}`, worker && `at ${worker.id}`, url && `is ${url}`,
    preview_url && 'with a preview', doubt,
  ].filter(Boolean).join(', '));
  return { state: job.state, error: job.error?.code ?? null, images };
}

/**
 * @param {{call: string, gives?: any}[]} calls
 * @param {{checks?: boolean}} [options] whether what is handed in is checked
 * @returns {{number: number, call: object, gave: any}|null} the first that gave something else
 */
export function play(calls, { checks = false } = {}) {
  const player = new Player({ checks });
  for (const [number, call] of calls.entries()) {
    const gave = player.perform(call);
    if (!same(gave, 'gives' in call ? call.gives : 'ok')) return { number, call, gave };
  }
  return null;
}

const same = (one, other) => JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
const sorted = (value) => (value && typeof value === 'object' && !Array.isArray(value)
  ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value);
