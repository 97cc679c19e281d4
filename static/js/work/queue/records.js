// What the queue remembers: plain records, as queue/genqueue/models.py has rows.
//
// Times are milliseconds since the epoch. Latents, conditionings, previews and pictures are blobs
// that lie elsewhere; records hold their names.

import { imageEnded, jobEnded } from './transitions.js';

export const CHECKPOINTS_KEPT = 2; // of an image

/**
 * @typedef {object} Settings what somebody asked for
 * @property {string} prompt @property {string} negative_prompt @property {string} model
 * @property {number} width @property {number} height @property {number} steps
 * @property {number} guidance @property {number} seed @property {number} num_images
 *
 * @typedef {object} Checkpoint
 * @property {number} step how many of the image's steps are in it
 * @property {string} latent name of a blob
 *
 * @typedef {object} Image
 * @property {number} index @property {number} seed
 * @property {'queued'|'running'|'done'|'failed'|'cancelled'} state
 * @property {number} step steps computed so far
 * @property {string|null} preview name of a blob: how it looked after previewStep steps
 * @property {number|null} previewStep
 * @property {string|null} worker who computes it, or last did; its next chunk is kept for that one
 * @property {string|null} picture name of a blob; of a running image one that waits for its checks
 * @property {null|'unchecked'|'lapsed'|'wrong'} doubt of a finished picture. unchecked: checks of it
 *   are open; lapsed: one came to nothing, so it stays unchecked; wrong: a check came too late
 * @property {number|null} startedAt @property {number|null} finishedAt
 * @property {number} seconds computing time of its finished chunks
 * @property {Checkpoint[]} checkpoints the newest two, newest first
 * @property {{kind: string, start: number, attempt: number}|null} endedBy the chunk with which it
 *   was done or failed
 * @property {number} goneBack how often something was lost, and made once more
 * @property {import('./timeline.js').Entry[]} timeline how it was made so far
 * @property {import('./timeline.js').Checked[]} checked what checks have found of it
 *
 * @typedef {object} Job
 * @property {string} id @property {string} client
 * @property {'queued'|'running'|'done'|'failed'|'cancelled'} state
 * @property {Settings} settings
 * @property {string|null} conditioning name of a blob
 * @property {number} createdAt later than that of every job before
 * @property {number|null} startedAt @property {number|null} finishedAt
 * @property {string|null} errorCode @property {string} errorDetail
 * @property {Image[]} images without those that were removed
 * @property {number[]} removed indexes of pictures that were removed
 * @property {number} revision of its last change
 *
 * @typedef {object} Chunk a live one: what is done, failed or cancelled is no chunk any more
 * @property {number} id made of what it is, so that every copy of the queue names it alike
 * @property {string} job @property {number|null} image its index
 * @property {'encode'|'denoise'|'decode'|'check'} kind
 * @property {string|null} check the id of what a `check` computes again; image is null then
 * @property {number} start @property {number} stop the claim narrows it
 * @property {'pending'|'leased'} state
 * @property {string|null} worker who has it, or last had it
 * @property {number} attempt leases taken back so far
 * @property {number} faults
 * @property {number|null} deadline while it is leased, like the next three
 * @property {number|null} leasedAt
 * @property {number|null} beganAt when its worker was free for it
 * @property {number|null} from the step that it was begun with
 * @property {number} createdAt when it became open
 * @property {number} number in the order in which chunks were made
 *
 * @typedef {object} Worker
 * @property {string} id @property {string} client @property {string} kind @property {string} name
 * @property {string} device @property {boolean} software @property {string} kernels
 * @property {string[]} models it leases no chunk of others
 * @property {string} variant its precision as likeness.js has it, above all how it stores weights
 * @property {number} valid results of it that others have computed alike
 * @property {'ready'|'gone'} state
 * @property {boolean} silent its lease ran out, and it has not been heard of since
 * @property {number} arrivedAt @property {number} heardAt
 * @property {Record<string, import('./cutting.js').Speed>} speeds
 * @property {Partial<Record<'encode'|'denoise'|'decode', number>>} [lacks] the smallest size for which
 *   it had too little memory, see memory.js; not in copies
 * @property {boolean} [ownFirst] what its client asked for comes before all else; of workers that
 *   are there, and not in copies
 */

/** Of one room. */
export class Records {
  room;
  /** Who holds this copy of the queue. */
  holder;
  /** Grows with every visible change. */
  revision = 0;
  paused = false;
  /** When each client was last served: the number of the turn. @type {Record<string, number>} */
  turns = Object.create(null); // a client may have any name
  turn = 0;
  number = 0;
  newestJobAt = 0;
  /** @type {Map<string, Job>} in the order in which they were added */
  jobs = new Map();
  /** @type {Map<number, Chunk>} */
  chunks = new Map();
  /** @type {Map<string, Worker>} */
  workers = new Map();
  /** Jobs that are no longer shown: the revision at which each went, and indexes of pictures that
   * were removed. @type {Map<string, {revision: number, removed: number[]}>} */
  gone = new Map();
  /** What waits to be drawn, to be checked, or not: see checks.js. @type {Map<string,
   * import('./checks.js').Check>} */
  checks = new Map();
  /** By client, the newest last. @type {Map<string, import('./verdicts.js').ShutOut>} */
  shutOut = new Map();
  /** Not of the room but of who holds it: whose tabs are trusted, and the dice. null: no checks.
   * @type {{trusted: string, random: () => number}|null} */
  checking = null;

  constructor(room, holder) {
    this.room = room;
    this.holder = holder;
  }

  /** @param {Chunk} chunk @returns {Image} of one that has an image */
  imageOf(chunk) {
    return this.jobs.get(chunk.job).images.find(({ index }) => index === chunk.image);
  }

  /** @returns {Worker[]} first come first */
  presentWorkers() {
    return [...this.workers.values()].filter(({ state, silent }) => state === 'ready' && !silent);
  }

  /** Of its own work; checks are apart. @param {string} job @returns {Chunk[]} */
  chunksOf(job) {
    return [...this.chunks.values()].filter((chunk) => chunk.job === job && chunk.kind !== 'check');
  }

  /**
   * @param {{job: string, image?: number, kind: string, start?: number, stop?: number,
   *   check?: string}} what
   * @param {number} now
   */
  addChunk({ job, image = null, kind, start = 0, stop = 0, check = null }, now) {
    const { images } = this.jobs.get(job);
    const goneBack = Math.max(...images.filter(({ index }) => image === null || index === image)
      .map((one) => one.goneBack));
    const opinions = this.checks.get(check)?.opinions ?? 0;
    const what = check === null ? `${image ?? ''} ${kind} ${start} ${goneBack}`
      : `check ${check} ${opinions}`;
    let id = chunkId(`${job} ${what}`);
    while (this.chunks.has(id)) id += 1;
    this.chunks.set(id, {
      id, job, image, kind, check, start, stop, state: 'pending', worker: null, attempt: 0, faults: 0,
      deadline: null, leasedAt: null, beganAt: null, from: null, createdAt: now,
      number: ++this.number,
    });
  }

  /** The chunk with which an image goes on from its newest checkpoint, or begins.
   * @param {Job} job @param {Image} image @param {number} now */
  addNextChunk({ id, settings: { steps } }, { index, checkpoints }, now) {
    const start = checkpoints[0]?.step ?? 0;
    const next = start < steps ? { kind: 'denoise', start, stop: steps } : { kind: 'decode' };
    this.addChunk({ job: id, image: index, ...next }, now);
  }

  /** @returns {Set<string>} names of all blobs that are still needed */
  blobs() {
    const names = this.pictures();
    for (const { conditioning, images } of this.jobs.values()) {
      if (conditioning !== null) names.add(conditioning);
      for (const { checkpoints, preview } of images) {
        for (const { latent } of checkpoints) names.add(latent);
        if (preview !== null) names.add(preview);
      }
    }
    for (const { state, given, conditioning, result, second } of this.checks.values()) {
      if (!['held', 'open'].includes(state)) continue;
      for (const name of [given, conditioning, result, second]) if (name !== null) names.add(name);
    }
    return names;
  }

  /** @returns {Set<string>} names of the blobs of finished pictures */
  pictures() {
    const names = new Set();
    for (const { images } of this.jobs.values()) {
      for (const { picture } of images) if (picture !== null) names.add(picture);
    }
    return names;
  }

  /** Something that people see has changed: this job, or who is there. @param {Job} [job] */
  announce(job) {
    this.revision += 1;
    if (!job) return;
    job.revision = this.revision;
    if (!isShown(job)) this.#goes(job);
  }

  /** @param {Job} job forget it, and remember that it went */
  forget(job) {
    this.jobs.delete(job.id);
    for (const check of [...this.checks.values()]) if (check.job === job.id) this.forgetCheck(check);
    this.revision += 1;
    this.#goes(job);
  }

  /** With the chunk that waits for it. @param {import('./checks.js').Check} check */
  forgetCheck({ id }) {
    this.checks.delete(id);
    for (const chunk of this.chunks.values()) if (chunk.check === id) this.chunks.delete(chunk.id);
  }

  /** Of workers that are gone and that no image names keep the newest. @param {number} most */
  forgetWorkers(most) {
    const gone = [...this.workers.values()].filter(({ state }) => state === 'gone');
    if (gone.length <= most) return;
    const named = new Set();
    for (const { images } of this.jobs.values()) {
      for (const { worker, timeline, checked } of images) {
        named.add(worker);
        for (const entry of timeline) {
          named.add(entry.worker);
          for (const one of entry.partners) named.add(one.worker);
        }
        for (const one of checked) named.add(one.worker).add(one.checker);
      }
    }
    for (const { worker } of this.chunks.values()) named.add(worker);
    for (const { worker, secondWorker } of this.checks.values()) named.add(worker).add(secondWorker);
    const unnamed = gone.filter(({ id }) => !named.has(id));
    unnamed.sort((one, other) => other.heardAt - one.heardAt);
    for (const { id } of unnamed.slice(most)) this.workers.delete(id);
  }

  #goes({ id, removed }) {
    const revision = this.gone.get(id)?.revision ?? this.revision;
    this.gone.set(id, { revision, removed: [...removed] });
  }
}

/** Waiting and running jobs, and those that ended with pictures or failed. @param {Job} job */
export const isShown = (job) => (
  !jobEnded(job) || job.state === 'failed' || job.images.some(({ state }) => state === 'done')
);

/** @param {Job} job @returns {Image[]} */
export const unfinishedImages = (job) => job.images.filter((image) => !imageEnded(image));

// 52 bits of two FNV-1a hashes: a whole number that JSON and doubles hold.
function chunkId(text) {
  let [high, low] = [0x811c9dc5, 0x9747b28c];
  for (let i = 0; i < text.length; i++) {
    high = Math.imul(high ^ text.charCodeAt(i), 0x01000193);
    low = Math.imul(low ^ text.charCodeAt(i), 0x01000193);
  }
  return (high >>> 12) * 2 ** 32 + (low >>> 0);
}
