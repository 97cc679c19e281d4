// What this browser had kept of a room that was not finished: said after it was opened again, until
// the last of it has gone on, and what that takes. What was finished is seen and needs no word.

const MOST_LISTED = 3;

export class Kept {
  #waiting = new Map(); // "job/number" -> the steps that it had
  #said = document.querySelector('[data-notice="kept"]');

  /** @param {object[]} jobs of the room as this browser kept it, before anybody went on */
  constructor(jobs) {
    for (const [name, { step }] of unfinished(jobs)) this.#waiting.set(name, step);
  }

  /** @param {import('../room.js').Room} room as it is now */
  show({ jobs, head }) {
    const now = new Map(unfinished(jobs));
    for (const [name, step] of this.#waiting) {
      const image = now.get(name);
      if (!image || image.step > step || isAtWork(head, name)) this.#waiting.delete(name);
    }
    const steps = [...this.#waiting.keys()].map((name) => now.get(name).step);
    this.#said.hidden = steps.length === 0;
    if (steps.length) this.#say(sentence(steps, head));
  }

  #say(text) {
    if (this.#said.textContent !== text) this.#said.textContent = text;
  }
}

const unfinished = (jobs) => jobs.flatMap(({ id, images }) => images
  .filter(({ state }) => state === 'queued' || state === 'running')
  .map((image) => [`${id}/${image.index}`, image]));

/** Somebody computes it, or the encoding that all pictures of its job begin with. */
const isAtWork = ({ workers }, name) => workers.some(({ at_work: work }) => work
  && work.kind !== 'check' && name.startsWith(`${work.job}/`)
  && (work.index === null || name === `${work.job}/${work.index}`));

/**
 * @param {number[]} steps that each picture has @param {object} head of the room
 * @returns {string}
 */
export function sentence(steps, head) {
  const pictures = steps.length === 1
    ? '1 unfinished picture was' : `${steps.length} unfinished pictures were`;
  const begun = steps.filter((step) => step > 0);
  const fresh = steps.length - begun.length;
  const said = [
    ...(begun.length ? [`${begun.length === 1 ? 'goes' : 'go'} on from ${listed(begun)}`] : []),
    ...(fresh ? [`${fresh === 1 ? 'begins' : 'begin'} with the first step`] : []),
  ];
  const how = said.length === 1
    ? ` and ${said[0]}` : `: ${begun.length} ${said[0]}, ${fresh} ${said[1]}`;
  return `${pictures} kept in this browser${how}${takes(head)}.`;
}

function listed(steps) {
  const known = [...new Set(steps)].sort((one, other) => one - other);
  if (known.length === 1) return `step ${known[0]}`;
  if (known.length > MOST_LISTED) return `steps ${known[0]} to ${known.at(-1)}`;
  return `steps ${known.slice(0, -1).join(', ')} and ${known.at(-1)}`;
}

function takes({ paused, workers }) {
  if (paused) return ' when the queue is resumed';
  const states = workers.map(({ state }) => state);
  if (states.includes('ready')) return '';
  return states.includes('loading') ? ' when the model is loaded' : ' when somebody here computes';
}
