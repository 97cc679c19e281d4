// What is expected of the waiting jobs: the order in which they will begin, and when they are done.
//
// The turns are played forward by the rules of fairness.js, as if each image were one moment in which
// every worker begins one; the times follow from that order (ends.js).

import { canDo, endsOf, prefers } from './ends.js';
import { jobEnded } from './transitions.js';

/**
 * What is expected of every unfinished job.
 * @param {import('./records.js').Records} records
 * @returns {Map<string, import('./job-json.js').Forecast>} by job
 */
export function forecast(records) {
  const present = records.presentWorkers();
  const models = new Set(present.flatMap((worker) => worker.models));
  const unfinished = [...records.jobs.values()].filter((job) => !jobEnded(job));
  const turns = inTurn(records, unfinished, present);
  const positions = placesOf(turns);
  const ends = endsOf(records, present, unfinished, turns);
  return new Map(unfinished.map((job) => [job.id, {
    position: positions.get(job.id) ?? null,
    eta_seconds: ends.get(job.id) ?? null,
    waits_for_model: present.length > 0 && !models.has(job.settings.model),
  }]));
}

/** One job for each image that nobody has begun: those that somebody there can do, and after them
 * those that have to wait. */
function inTurn(records, unfinished, present) {
  const line = new Line(records, unfinished);
  const canBeDone = (job) => present.some((worker) => canDo(worker, job));
  const turns = [];
  for (let at = 0; present.length; at = (at + 1) % present.length) {
    const own = line.take((job) => prefers(present[at], job));
    const job = own ?? line.take(canBeDone);
    if (!job) break;
    turns.push(job);
  }
  for (let job = line.take(() => true); job; job = line.take(() => true)) turns.push(job);
  return turns;
}

function placesOf(turns) {
  const queued = new Set(turns.filter(({ state }) => state === 'queued').map(({ id }) => id));
  return new Map([...queued].map((id, before) => [id, before + 1]));
}

/** What nobody has begun. */
class Line {
  #turn;
  #clients = new Map(); // { turn, jobs: [{ job, images: how many may be begun, encodes }] }

  constructor(records, jobs) {
    this.#turn = records.turn;
    const encodings = new Set();
    for (const { kind, state, job } of records.chunks.values()) {
      if (kind === 'encode' && state === 'pending') encodings.add(job);
    }
    for (const job of jobs.toSorted((one, other) => one.createdAt - other.createdAt)) {
      const images = job.images.filter(
        ({ state, worker }) => state === 'queued' && worker === null,
      );
      const encodes = encodings.has(job.id);
      const { client } = job;
      if (!this.#clients.has(client)) {
        this.#clients.set(client, { name: client, turn: records.turns[client] ?? 0, jobs: [] });
      }
      this.#clients.get(client).jobs.push({ job, images: images.length, encodes });
    }
  }

  /** The job whose next image begins, by this turn of its client; the encoding is one with the
   * first image. */
  take(suits) {
    for (const client of [...this.#clients.values()].sort(byTurn)) {
      const next = client.jobs.find(({ job, images }) => images && suits(job));
      if (!next) continue;
      client.turn = ++this.#turn;
      next.images -= 1;
      return next.job;
    }
    return null;
  }
}

const byTurn = (one, other) => one.turn - other.turn || (one.name < other.name ? -1 : 1);
