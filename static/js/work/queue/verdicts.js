// What follows from a check: a result counts, or is done again and its maker shut out. Twin of
// queue/genqueue/verdicts.py, pursuit.py and shutting_out.py.
//
// A trusted checker's result decides. One that is not trusted can only agree: where both differ a
// third, or a trusted one, says who is right, and until then nobody is blamed.

import { imagesOf, isAlike, isTrusted } from './checks.js';
import { CHECKPOINTS_KEPT } from './records.js';
import { FARTHEST, noteCheck } from './timeline.js';
import { jobEnded, move } from './transitions.js';

export const MOST_SHUT_OUT = 1000;

/**
 * @typedef {object} ShutOut whose result was found wrong, and who computes no more in this room
 * @property {string} client @property {string} name of the worker, as people saw it
 * @property {'encode'|'denoise'|'decode'} kind what was wrong
 * @property {number} start @property {number} stop
 * @property {number} distance @property {number} limit @property {number} at ms
 */

export class Verdicts {
  #records;
  #checks;
  #finishing;
  #now;

  /**
   * @param {import('./records.js').Records} records @param {import('./checks.js').Checks} checks
   * @param {import('./finishing.js').Finishing} finishing @param {() => number} now
   */
  constructor(records, checks, finishing, now) {
    this.#records = records;
    this.#checks = checks;
    this.#finishing = finishing;
    this.#now = now;
  }

  /**
   * A checker has handed in `computed`, the name of a blob.
   * @param {import('./checks.js').Check} check open @param {import('./records.js').Worker} checker
   * @param {string} computed @param {import('./checks.js').Finding} first
   * @param {import('./checks.js').Finding|null} second of the second result, if there is one
   * @returns {string[]} clients that are to be pursued
   */
  decide(check, checker, computed, first, second) {
    const liar = second !== null && !isAlike(second);
    const culprits = [];
    const note = (verdict) => this.#note(check, checker, verdict, first);
    if (isAlike(first)) {
      const maker = this.#records.workers.get(check.worker);
      this.#checks.settle(check);
      if (maker) maker.valid += 1;
      note('agreed');
    } else if (isTrusted(this.#records, checker) || (second && !liar)) {
      this.#foundWrong(check, computed);
      note('wrong');
      culprits.push(this.#shutOut(check, check.client, check.worker, first));
    } else {
      this.#leaveToOthers(check, checker, computed);
      note('disputed');
      return [];
    }
    if (liar) culprits.push(this.#shutOut(check, check.secondClient, check.secondWorker, second));
    this.#finishing.resolveDoubts(this.#records.jobs.get(check.job));
    return culprits;
  }

  #note(check, { id: checker }, verdict, finding) {
    const job = this.#records.jobs.get(check.job);
    noteCheck(check, imagesOf(check, job.images), verdict, this.#now(), { checker, finding });
    this.#records.announce(job);
  }

  #leaveToOthers(check, { id, client, variant }, computed) {
    check.opinions += 1;
    if (check.second === null) {
      Object.assign(check, {
        second: computed, secondWorker: id, secondClient: client, secondVariant: variant,
      });
    }
    this.#checks.ask(check);
  }

  /** computed: what it should have been. */
  #foundWrong(check, computed) {
    const job = this.#records.jobs.get(check.job);
    if (check.kind === 'encode') {
      this.#encodeAgain(job, computed);
    } else {
      const image = job.images.find(({ index }) => index === check.image);
      if (check.kind === 'decode') replacePicture(image, computed);
      else if (image.state === 'running') this.#putBack(job, image, check.client, check);
      else if (image.state === 'done') image.doubt = 'wrong';
    }
    this.#checks.settle(check);
    this.#records.announce(job);
  }

  /** All that was made of the wrong text is made again of the right one. */
  #encodeAgain(job, conditioning) {
    if (!jobEnded(job) && job.conditioning !== null) job.conditioning = conditioning;
    for (const image of job.images) {
      image.goneBack += 1;
      if (image.state === 'done') image.doubt = 'wrong';
      else if (image.state === 'running') this.#goTo(job, image, 0, null);
    }
  }

  // Doing it again --------------------------------------------------------------------------------
  /** A running image goes back to before the first steps that this client has handed in for it and
   * that nobody has found right: to the latent there, or to the noise where that is not kept.
   * wrong: one of these, which the caller settles. */
  #putBack(job, image, client, wrong = null) {
    const theirs = [...this.#records.checks.values()].filter((check) => check.job === job.id
      && check.image === image.index && check.client === client && check.kind === 'denoise');
    if (!theirs.length) return;
    const [first] = theirs.toSorted((one, other) => one.start - other.start);
    const kept = ['held', 'open'].includes(first.state);
    this.#goTo(job, image, kept ? first.start : 0, kept ? first.given : null, wrong);
  }

  /** Everything of the image after this step is undone. latent: there; null of step 0. spare: the
   * check that is being settled, and not to be dropped with the others. */
  #goTo(job, image, step, latent, spare = null) {
    const before = image.checkpoints.filter((one) => one.step < step);
    const checkpoints = step ? [{ step, latent }, ...before].slice(0, CHECKPOINTS_KEPT) : [];
    Object.assign(image, {
      step, checkpoints, preview: null, previewStep: null, picture: null, worker: null, endedBy: null,
      goneBack: image.goneBack + 1,
    });
    this.#checks.drop(job, (check) => check.image === image.index && check !== spare
      && (check.stop > step || check.state === 'held' || check.kind !== 'denoise'));
    // Else the texts were lost, and are made once more before anything goes on
    if (job.conditioning !== null) this.#makePending(job, image, step);
    this.#records.announce(job);
  }

  #makePending(job, image, step) {
    const { chunks } = this.#records;
    const live = this.#records.chunksOf(job.id).find((chunk) => chunk.image === image.index);
    const { steps } = job.settings;
    const all = step === steps; // what was wrong is a range of no steps
    if (live?.kind === 'denoise' && !all) {
      if (live.state === 'leased') {
        move('chunk', live, 'leased', 'pending', {
          attempt: live.attempt + 1, deadline: null, leasedAt: null, beganAt: null, from: null,
        });
      }
      Object.assign(live, { start: Math.min(live.start, step), stop: steps });
      return;
    }
    if (live) {
      move('chunk', live, live.state, 'cancelled');
      chunks.delete(live.id);
    }
    this.#records.addNextChunk(job, image, this.#now());
  }

  /** Nobody can compute it again: its files are lost, or every checker failed at it.
   * @param {import('./checks.js').Check} check open */
  cannotSay(check) {
    this.#checks.lapse(check);
    this.#finishing.finishReady(this.#records.jobs.get(check.job));
  }

  // Who was wrong ---------------------------------------------------------------------------------
  #shutOut({ kind, start, stop }, client, worker, { distance, limit }) {
    const { shutOut, workers } = this.#records;
    const name = workers.get(worker)?.name ?? `worker of ${client}`;
    shutOut.delete(client); // the newest is the last one
    shutOut.set(client, {
      client, name, kind, start, stop, distance: Math.min(distance, FARTHEST), limit, at: this.#now(),
    });
    if (shutOut.size > MOST_SHUT_OUT) shutOut.delete(shutOut.keys().next().value);
    this.#records.announce();
    return client;
  }

  /** Have done again what nobody has found right of a client's work on pictures that are not
   * finished; its workers have gone. @param {string} client */
  pursue(client) {
    const theirs = [...this.#records.checks.values()].filter((check) => check.client === client);
    for (const id of new Set(theirs.map(({ job }) => job))) {
      const job = this.#records.jobs.get(id);
      if (jobEnded(job)) continue;
      for (const image of job.images) {
        if (image.state === 'running') this.#putBack(job, image, client);
      }
      for (const check of theirs) {
        const spared = check.job === id && check.kind === 'encode' && check.state === 'spared';
        if (spared && this.#records.checks.has(check.id)) this.#checks.reopen(check);
      }
      this.#finishing.finishReady(job);
    }
  }
}

/** By the right one, also where it is finished. Another copy of the room has the wrong one. */
function replacePicture(image, computed) {
  if (image.picture === null) return; // it has gone back since, and is made again
  image.picture = computed;
  if (image.endedBy) image.endedBy.attempt += 1;
}

/** @param {ShutOut} one @returns {string} why, for people */
export function reasonOf({ kind, start, stop, distance, limit }) {
  const what = { encode: 'the encoded prompt', decode: 'the decoded picture' }[kind]
    ?? `steps ${start + 1} to ${stop}`;
  return `${what} differed from what others computed: by ${percent(distance)}, and `
    + `${percent(limit)} is allowed`;
}

const percent = (ratio) => (
  ratio < 10 ? `${Number((100 * ratio).toPrecision(2))} %` : 'far more than all of it');
