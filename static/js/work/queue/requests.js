// What may be asked of the queue.

export const SEED_LIMIT = 2 ** 32;
export const MOST_IMAGES = 1024;

/** @returns {number} of the image with this number, of a job with this seed */
export const seedOf = (seed, index) => (seed + index) % SEED_LIMIT;

/** What people ask of the queue and it cannot do. `code` is for programs. */
export class QueueRefusal extends Error {
  /** @param {string} code @param {string} message a sentence for people */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** @returns {boolean} */
export const isName = (value) => typeof value === 'string' && value !== '';
const isWhole = (value, least, most) => Number.isInteger(value) && value >= least && value <= most;

/** @throws {QueueRefusal} unless it holds */
export function refuseUnless(holds, code, message) {
  if (!holds) throw new QueueRefusal(code, message);
}

/**
 * What the queue itself needs to be so; models and tastes have narrower limits.
 * @param {object} request @returns {import('./records.js').Settings}
 * @throws {QueueRefusal} `bad-request`
 */
export function settingsOf({
  prompt, negative_prompt = '', model, width, height, steps, guidance, seed, num_images = 1,
}) {
  const large = Number.MAX_SAFE_INTEGER;
  const checks = [
    ['prompt', typeof prompt === 'string'],
    ['negative_prompt', typeof negative_prompt === 'string'],
    ['model', isName(model)],
    ['width', isWhole(width, 1, large)],
    ['height', isWhole(height, 1, large)],
    ['steps', isWhole(steps, 1, large)],
    ['guidance', Number.isFinite(guidance)],
    ['seed', isWhole(seed, 0, SEED_LIMIT - 1)],
    ['num_images', isWhole(num_images, 1, MOST_IMAGES)],
  ];
  for (const [name, good] of checks) {
    refuseUnless(good, 'bad-request', `The queue cannot take a job with such a ${name}.`);
  }
  return { prompt, negative_prompt, model, width, height, steps, guidance, seed, num_images };
}

/**
 * @param {import('./records.js').Settings} settings
 * @returns {import('./records.js').Image[]} whose seeds count on from that of the job
 */
export const newImages = ({ seed, num_images: length }) => Array.from({ length }, (_, index) => ({
  index, seed: seedOf(seed, index), state: 'queued', step: 0, preview: null,
  previewStep: null, worker: null, picture: null, startedAt: null, finishedAt: null, seconds: 0,
  checkpoints: [], endedBy: null, goneBack: 0, timeline: [], checked: [], doubt: null,
}));
