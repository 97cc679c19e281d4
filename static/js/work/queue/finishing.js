// The end of an image, and with its last image of a job. Twin of queue/genqueue/finishing.py.
//
// An image whose picture is there waits for the checks of what made it, as long as somebody is there
// to make them and not longer than PATIENCE_MS: so nothing wrong is shown as finished where that can
// be known, and nobody waits for a checker who never comes. What was not checked by then is marked,
// and may still be checked later.

import { imagesOf } from './checks.js';
import { Fairness } from './fairness.js';
import { imageEnded, jobEnded, move } from './transitions.js';

export const PATIENCE_MS = 120e3;

/** Its blobs are not needed any more. @param {import('./records.js').Image} image */
export const forgetWork = (image) => {
  Object.assign(image, { checkpoints: [], preview: null, previewStep: null });
};

/** The picture is there and waits for its checks. @param {import('./records.js').Image} image */
export const awaitsChecks = ({ state, picture }) => state === 'running' && picture !== null;

export class Finishing {
  #records;
  #checks;
  #now;

  /**
   * @param {import('./records.js').Records} records @param {import('./checks.js').Checks} checks
   * @param {() => number} now
   */
  constructor(records, checks, now) {
    this.#records = records;
    this.#checks = checks;
    this.#now = now;
  }

  /** End the images of a job that wait for nothing any more. @param {import('./records.js').Job} job */
  finishReady(job) {
    for (const image of job.images) {
      if (!awaitsChecks(image) || this.#mustWait(job, image)) continue;
      const doubt = this.#unchecked(job, image) ? 'unchecked' : null;
      move('image', image, 'running', 'done', { finishedAt: this.#now(), doubt });
      forgetWork(image);
      this.endAfterImages(job);
      this.#checks.forgetEnded(job);
      this.#records.announce(job);
    }
  }

  /** The same for all jobs: a checker may have left, or let everybody wait for too long. */
  finishAllReady() {
    for (const job of this.#records.jobs.values()) this.finishReady(job);
  }

  #mustWait(job, image) {
    const since = this.#now() - PATIENCE_MS;
    const fairness = new Fairness(this.#records, this.#now());
    return this.#undecided(job, image).some((check) => check.state === 'open'
      && check.createdAt > since && fairness.hasChecker(check));
  }

  /** Pictures that were finished unchecked, and all checks of which are over now. */
  resolveDoubts(job) {
    for (const image of job.images) {
      if (image.doubt === 'unchecked' && !this.#unchecked(job, image)) image.doubt = null;
    }
  }

  #unchecked(job, image) {
    return this.#undecided(job, image).length > 0;
  }

  #undecided(job, image) {
    return [...this.#records.checks.values()].filter((check) => check.job === job.id
      && ['open', 'lapsed'].includes(check.state) && imagesOf(check, [image]).length);
  }

  /** The last image of a running job ends it: done, or failed if any image failed.
   * @param {import('./records.js').Job} job */
  endAfterImages(job) {
    if (jobEnded(job) || !job.images.every(imageEnded)) return;
    const failed = job.images.some(({ state }) => state === 'failed');
    move('job', job, 'running', failed ? 'failed' : 'done', { finishedAt: this.#now() });
    job.conditioning = null;
  }
}
