// Random histories of a RoomQueue, and what must hold after every call.
//
// Clients ask, cancel and remove; workers come, compute, lie, fall silent and die; what they say is
// lost, late, doubled and out of order; the holder starts again from its last copy. At the end
// honest workers are there, and then every job ends.
//
// With checks one worker of some histories hands in lies. Honest results have a name that follows
// from what they were made of, so two who compute the same say the same; no two lies are alike.

import { CopyReader, CopySender } from '/static/js/work/copies.js';
import { checkedSnapshot } from '/static/js/work/queue/snapshot-check.js';

import { Player } from './player.js';
import { lots } from './simulation.js';

const CLIENTS = ['alice', 'bob', 'charlie', 'one']; // the last one has a worker, not checked
const WORKERS = ['one', 'two', 'three'];
const FAULTS = [
  'out-of-memory', 'computation-failed', 'worker-lost', 'file-lost', 'result-refused',
];
const ENDED = ['done', 'failed', 'cancelled'];
const HONEST = 'one'; // never lies; in half of the histories it is the holder's own

/**
 * @param {number} seed
 * @param {{calls?: number, restarts?: boolean, checks?: boolean}} [options] restarts: also what a
 *   database cannot do; checks: what is handed in is checked, and some of it is a lie
 * @returns {object[]} the calls with what each gave
 * @throws {Error} where something did not hold, with the calls up to there as `calls`
 */
export function history(seed, { calls = 80, restarts = true, checks = false } = {}) {
  const story = new Story(seed, restarts, { checks });
  try {
    for (let i = 0; i < calls; i++) story.goOn();
    story.end();
  } catch (error) {
    throw Object.assign(error, { message: `history ${seed}: ${error.message}`, calls: story.told });
  }
  return story.told;
}

/**
 * Two holders go on apart from the same copy, and become one, whichever takes the other in.
 * @param {number} seed
 * @throws {Error} where something did not hold
 */
export function splitHistory(seed, { calls = 40, checks = false } = {}) {
  const tell = (story) => {
    for (let i = 0; i < calls; i++) story.goOn();
    return story.copy();
  };
  const split = tell(new Story(seed, false, { checks }));
  const halves = ['m', 'z'].map((holder, number) => (
    tell(new Story(2 ** 20 + 2 * seed + number, false,
      { snapshot: split, holder, checks, cast: seed }))));
  const merged = halves.map((half, number) => {
    const story = new Story(seed, false, { snapshot: half, holder: half.holder, checks });
    story.merge(halves[1 - number]);
    const copy = story.copy();
    story.end();
    return copy;
  });
  // One that waits for its checks where it was made is finished where it came to.
  const [one, other] = merged.map((copy) => picturesOf(copy, ['done', 'running']));
  must(equal([...one].sort(), [...other].sort()), `history ${seed}: two merged copies differ`);
  for (const [name, picture] of halves.flatMap((half) => [...picturesOf(half)])) {
    const removed = halves.some((half) => isRemoved(half, name));
    must(removed || one.has(name), `history ${seed}: the picture ${picture} was lost`);
    must(!removed || !one.has(name), `history ${seed}: the picture ${picture} is there again`);
  }
}

const picturesOf = ({ jobs }, states = ['done']) => new Map(jobs.flatMap(({ id, images }) => images
  .filter(({ state, picture }) => states.includes(state) && picture !== null)
  .map(({ index, picture }) => [`${id} ${index}`, picture])));

function isRemoved({ jobs, gone }, name) {
  const [id, index] = name.split(' ');
  const job = jobs.find((one) => one.id === id) ?? new Map(gone).get(id);
  return job?.removed.includes(Number(index)) ?? false;
}

/** A history as it is made; its Watch throws where something does not hold. */
export class Story {
  told = [];
  #player;
  #checks;
  #trusted;
  #liar;
  #prefix = '';
  #watch;
  #random;
  #restarts;
  #harm;
  #at = 0;
  #numbers = { job: 0, lease: 0 };
  #here = new Set();
  #leases = []; // { name, worker, start, stop, kind }: all that were ever given
  #holds = new Map(); // what each worker takes itself to hold
  #post = []; // what workers have said, and the queue has not heard

  /** snapshot, holder: where it goes on from; cast: who lies and who is trusted. */
  constructor(seed, restarts, { snapshot, holder = '', checks = false, cast = seed } = {}) {
    this.#player = new Player({ checks });
    this.#checks = checks;
    this.#trusted = checks && cast % 2 ? HONEST : null;
    this.#liar = checks ? [null, 'two', 'three'][cast % 3] : null;
    if (snapshot) {
      this.#prefix = holder;
      this.#at = 1000;
      this.#player.snapshots.set('copy', snapshot);
      this.#player.perform({ at: this.#at, call: 'restore', from: 'copy', holder });
    }
    this.#random = lots(seed);
    this.#restarts = restarts;
    this.#harm = this.#random() < 0.3 ? 0.4 : 0.1; // how often a chunk cannot be computed
    this.#watch = new Watch(this.#player, { all: checks && !snapshot });
    this.#watch.liar = this.#liar;
    for (const worker of WORKERS) this.#arrive(worker);
    this.#ask();
  }

  copy() {
    return this.#player.queue.snapshot();
  }

  /** Takes the other half in. */
  merge(other) {
    this.#player.snapshots.set('other', other);
    this.#at = 2000;
    this.#do({ call: 'merge', from: 'other' });
  }

  goOn() {
    const lot = this.#random();
    if (lot < 0.06) this.#ask();
    else if (lot < 0.1) this.#regret();
    else if (lot < 0.14) this.#comeOrGo();
    else if (lot < 0.33) this.#claim(this.#one(WORKERS));
    else if (lot < 0.6) this.#speak();
    else if (lot < 0.92) this.#deliver();
    else if (lot < 0.95) this.#lie();
    else if (lot < 0.99 || !this.#restarts) this.#do({ call: 'sweep' });
    else this.#restart();
  }

  /** Honest workers, who have everything that is needed. */
  end() {
    this.#do({ call: 'pause', paused: false });
    const models = new Set(['tiny', 'rare']);
    let rounds = 400;
    for (const { settings } of this.#watch.unfinished) {
      models.add(settings.model);
      rounds += settings.steps;
    }
    for (const worker of WORKERS) {
      this.#arrive(worker, [...models]);
      this.#holds.delete(worker);
    }
    for (let round = 0; round < rounds && this.#watch.unfinished.length; round++) {
      this.#at += 2.1; // nobody is waited for any more
      if (round % 5 === 4) this.#do({ call: 'sweep' });
      for (const worker of WORKERS) {
        const lease = this.#claim(worker);
        if (!lease) continue;
        this.#do({ call: 'complete', lease: lease.name, ...this.#result(lease) });
        this.#holds.delete(worker);
      }
    }
    if (this.#watch.unfinished.length) throw new Error('a job has not come to an end');
    for (const job of this.#watch.known) this.#do({ call: 'look', job });
  }

  #do(call) {
    this.#at = Math.round((this.#at + 0.001 + this.#wait()) * 1000) / 1000;
    const told = { at: this.#at, ...call };
    this.told.push(told);
    const gave = this.#watch.perform(told);
    if (gave !== 'ok') told.gives = gave;
    return gave;
  }

  #wait() {
    const lot = this.#random();
    if (lot < 0.6) return 0;
    return lot < 0.98 ? this.#random() * 2 : this.#random() * 40;
  }

  #one(list) {
    return list[Math.floor(this.#random() * list.length)];
  }

  #number(least, most) {
    return least + Math.floor(this.#random() * (most - least + 1));
  }

  #ask() {
    const clients = this.#checks ? CLIENTS.slice(0, 3) : CLIENTS;
    this.#do({
      call: 'submit', job: `${this.#prefix}job${++this.#numbers.job}`, by: this.#one(clients),
      images: this.#number(1, 3), steps: this.#number(1, 6),
      model: this.#random() < 0.8 ? 'tiny' : 'rare',
    });
  }

  #regret() {
    const job = this.#one(this.#watch.known);
    if (!job) return;
    const call = this.#one(['cancel', 'remove', 'dismiss']);
    this.#do(call === 'remove' ? { call, job, image: this.#number(0, 3) } : { call, job });
  }

  #comeOrGo() {
    const worker = this.#one(WORKERS);
    this.#holds.delete(worker);
    if (!this.#here.has(worker) || this.#random() < 0.2) {
      this.#arrive(worker); // or comes again
    } else {
      this.#here.delete(worker);
      this.#do({ call: 'leave', worker, crashed: this.#random() < 0.5 });
    }
  }

  #arrive(worker, models = this.#random() < 0.6 ? ['tiny'] : ['tiny', 'rare']) {
    const trusted = worker === this.#trusted;
    const gave = this.#do({
      call: 'arrive', worker, models, own_first: this.#random() < 0.3, ...(trusted && { trusted }),
    });
    if (gave === 'ok') this.#here.add(worker);
  }

  /** What a worker hands in, where it matters what that is. */
  #result({ name, worker, lease }, step = lease.stop) {
    if (!this.#checks) return {};
    return { result: worker === this.#liar ? `lie of ${name} ${step}` : truthOf(lease, step) };
  }

  #claim(worker) {
    if (this.#holds.has(worker) || this.#watch.leaseOf(worker)) return null;
    const name = `${this.#prefix}lease${++this.#numbers.lease}`;
    const gave = this.#do({ call: 'claim', worker, as: name });
    if (gave === null) return null;
    const given = this.#player.leases.get(name);
    const { start, stop, kind, chunk, attempt } = given;
    const lease = { name, worker, start, stop, kind, chunk, attempt, step: start, lease: given };
    this.#leases.push(lease);
    this.#holds.set(worker, lease);
    return lease;
  }

  /** A worker says something of what it takes itself to hold. */
  #speak() {
    const [worker, lease] = this.#one([...this.#holds]) ?? [];
    if (!lease) return;
    const lot = this.#random();
    if (lot < 0.4 && lease.kind === 'denoise' && lease.step < lease.stop) {
      lease.step += 1;
      const call = { call: 'step', lease: lease.name, step: lease.step };
      const { result: latent = `${lease.name}@${lease.step}` } = this.#result(lease, lease.step);
      if (this.#random() < 0.5) call.latent = latent;
      if (this.#random() < 0.5) call.preview = true;
      this.#post.push(call);
    } else if (lot < 0.5) {
      this.#post.push({ call: 'renew', lease: lease.name });
    } else {
      this.#holds.delete(worker);
      const { name } = lease;
      const done = { call: 'complete', lease: name, ...this.#result(lease) };
      if (lot < 0.95 - this.#harm) this.#post.push(done);
      else if (lot < 0.95) this.#post.push({ call: 'fail', lease: name, fault: this.#one(FAULTS) });
      else this.#post.push({ call: 'release', lease: name });
    }
  }

  /** Something that was said arrives: in order or not, once, twice or never. */
  #deliver() {
    const first = this.#random() < 0.7;
    const place = first ? 0 : Math.floor(this.#random() * this.#post.length);
    const call = this.#post[place];
    if (!call) return;
    const lot = this.#random();
    if (lot < 0.9) this.#post.splice(place, 1);
    if (lot > 0.05) this.#do({ ...call });
  }

  #lie() {
    const lease = this.#one(this.#leases);
    if (!lease) return;
    const call = { call: this.#one(['renew', 'complete', 'fail', 'release']), lease: lease.name };
    if (call.call === 'complete') Object.assign(call, this.#result(lease));
    if (this.#random() < 0.5) call.attempt = this.#number(0, 5);
    else call.worker = this.#one(WORKERS);
    // By chance that may be the truth, said by whom it is true of: then he has said it.
    this.#do(call);
  }

  #restart() {
    this.#do({ call: 'snapshot', as: 'copy' });
    this.#do({ call: 'restore', from: 'copy', holder: 'm' });
    this.#here.clear();
    this.#holds.clear();
    for (const worker of WORKERS) if (this.#random() < 0.8) this.#arrive(worker);
  }
}

/** A name that follows from all that a result is made of. */
function truthOf({ kind, job, image, start, latent, conditioning }, step) {
  const from = [latent, kind === 'denoise' ? conditioning : null].filter((name) => name !== null);
  const made = [kind, job, image, start, step, ...from].join(' ');
  return `${from.some(isWrong) ? 'of a lie' : 'true'} ${lots(hashOf(made))().toString(36)}`;
}

const isWrong = (name) => /^(?:lie|of a lie) /.test(name);

function hashOf(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Sees to it that what must hold does, after every call. */
class Watch {
  #all;
  #player;
  #state;
  #given = new Set(); // leases, by chunk and attempt: none is given twice
  #attempts = new Map();
  #pictures = new Map(); // of finished images, by job and index
  #page = new Map(); // jobs as a page has them that was told of every change
  #copies = new CopyReader(); // of another tab that was sent every copy
  #copier = new CopySender({ oneHolder: true });
  #revision = 0;
  #calls = 0;

  /** all: whatever the pictures are made of was or will be checked. */
  constructor(player, { all }) {
    this.#all = all;
    this.#player = player;
    this.#state = player.queue.snapshot();
  }

  /** The one client that may be shut out. */
  liar = null;

  get known() {
    return this.#state.jobs.map(({ id }) => id);
  }

  get unfinished() {
    return this.#state.jobs.filter(({ state }) => !ENDED.includes(state));
  }

  leaseOf(worker) {
    return this.#state.chunks.find((chunk) => chunk.state === 'leased' && chunk.worker === worker);
  }

  perform(call) {
    const before = this.#state;
    if (call.call === 'merge') this.#pictures.clear(); // where both have one, one of them goes
    const held = 'lease' in call && this.#isHeld(call, before);
    const gave = this.#player.perform(call);
    const after = this.#player.queue.snapshot();
    checkedSnapshot(after); // whatever has happened, others take the copy
    this.#isCopied(after, call);
    this.#state = after;
    if ('lease' in call) {
      const who = held ? 'the holder' : 'nobody';
      must(held === (gave !== 'lost'), `${call.call} of ${who} gave ${gave}`);
    }
    const nothing = ['lost', 'outside', 'not-finished', 'known-job', false].includes(gave);
    if (nothing) must(equal(before, after), `a refused ${call.call} changed something`);
    if (call.call === 'claim' && gave !== null) this.#isNew(call);
    if (call.call === 'complete' && gave === 'ok') this.#isTaken(call, before, after);
    const { lease } = call;
    this.#agrees(after, call.call === 'complete' && this.#player.leases.get(lease).check !== null);
    this.#grows(after, call);
    this.#calls += 1;
    if (this.#calls % 4 === 0) this.#isShown();
    return gave;
  }

  /** Also without what the other tab has. */
  #isCopied(after, { call }) {
    if (call === 'restore') { // of another holder, over another link
      this.#copies = new CopyReader();
      this.#copier = new CopySender({ oneHolder: true });
    }
    const { parts, state } = this.#copier.pack({ queue: after });
    for (const part of parts) this.#copies.add(part);
    const copied = this.#copies.whole(state);
    must(equal(copied.queue, after), 'what another tab has is not the room');
  }

  #isHeld(call, { chunks }) {
    const lease = this.#player.leases.get(call.lease);
    const { chunk: id, attempt, worker } = { ...lease, ...pick(call, ['attempt', 'worker']) };
    const chunk = chunks.find((one) => one.id === id);
    return chunk?.state === 'leased' && chunk.attempt === attempt && chunk.worker === worker;
  }

  #isNew({ as, worker }) {
    const lease = this.#player.leases.get(as);
    const name = `${lease.chunk} ${lease.attempt}`;
    must(!this.#given.has(name) && lease.worker === worker, `the lease ${name} was given twice`);
    this.#given.add(name);
    const able = this.#state.workers.find(({ id }) => id === worker);
    must(able.state === 'ready' && able.models.includes(lease.settings.model), `${worker} cannot`);
  }

  #isTaken({ lease: name, result = name }, before, after) {
    const lease = this.#player.leases.get(name);
    if (lease.check !== null) {
      const maker = before.checks.find(({ id }) => id === lease.check).client;
      const checker = before.workers.find(({ id }) => id === lease.worker).client;
      must(maker !== checker, 'somebody has checked what is their own');
      return;
    }
    const image = (state) => state.jobs.find(({ id }) => id === lease.job)?.images
      .find(({ index }) => index === lease.image);
    if (lease.kind === 'decode') {
      must(image(before).picture === null && image(after).picture === result, 'two results');
    } else if (lease.kind === 'denoise') {
      must(image(after).step === image(after).checkpoints[0].step, 'a range without its end');
    }
  }

  #agrees({ jobs, chunks: all, workers, checks, shutOut }, judged) {
    const chunks = all.filter(({ kind }) => kind !== 'check');
    must(shutOut.every(({ client }) => client === this.liar), 'an honest client was shut out');
    must(checks.every(({ second, secondClient, client }) => second === null
      || secondClient !== client), 'two results of one client');
    const ids = new Set(chunks.map(({ id }) => id));
    must(ids.size === chunks.length, 'two chunks of one id');
    for (const chunk of chunks) {
      const leased = chunk.state === 'leased';
      const holder = workers.find(({ id }) => id === chunk.worker);
      must(leased === (chunk.deadline !== null), 'half a lease');
      must(!leased || holder?.state === 'ready', 'a chunk that is held by nobody');
    }
    for (const job of jobs) {
      const live = chunks.filter((chunk) => chunk.job === job.id);
      const encoding = live.filter(({ kind }) => kind === 'encode').length;
      const open = job.images.filter(({ state }) => !ENDED.includes(state));
      const ended = ENDED.includes(job.state);
      must(ended === (open.length === 0), `a job ${job.state} with ${open.length} open`);
      must(open.length > 0 || live.length === 0, 'chunks of an ended job');
      must(encoding <= 1, 'two encodings');
      if (job.state === 'queued') must(encoding === 1, 'a job that nobody can begin');
      for (const image of open) {
        const own = live.filter((chunk) => chunk.image === image.index).length;
        const wanted = image.picture === null ? 1 : 0; // else it waits for its checks
        must(own + encoding === wanted,
          `a lost image: ${own} chunks of its own, ${encoding} encodings`);
        must(image.checkpoints.length <= 2, 'too many checkpoints');
        must(image.state === 'running' || image.step === 0, 'steps before it runs');
      }
      for (const image of job.images) {
        const name = `${job.id} ${image.index}`;
        if (image.state !== 'done') continue;
        must(image.picture !== null, 'done and no picture');
        const known = this.#pictures.get(name) ?? image.picture;
        must(known === image.picture || judged, 'a picture was changed');
        this.#pictures.set(name, image.picture);
        const doubted = !this.#all || image.doubt !== null;
        must(doubted || !isWrong(image.picture), 'a wrong picture that nobody doubts');
      }
    }
  }

  #grows({ chunks }, { call }) {
    for (const { id, attempt } of chunks) {
      must((this.#attempts.get(id) ?? 0) <= attempt, `attempt went back in ${call}`);
      this.#attempts.set(id, attempt);
    }
  }

  /** Who is told of changes only, knows everything. */
  #isShown() {
    const { queue } = this.#player;
    must(queue.revision >= this.#revision, 'the revision went back');
    const { jobs, gone } = queue.changedSince(this.#revision);
    for (const job of jobs) this.#page.set(job.id, job);
    for (const id of gone) this.#page.delete(id);
    this.#revision = queue.revision;
    const shown = queue.jobs();
    must(shown.length === this.#page.size, `the page has ${this.#page.size} of ${shown.length}`);
    for (const job of shown) must(equal(job, this.#page.get(job.id)), `another ${job.id}`);
  }
}

function must(holds, what) {
  if (!holds) throw new Error(what);
}

const equal = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const pick = (from, names) => Object.fromEntries(
  names.filter((name) => name in from).map((name) => [name, from[name]]),
);
