// What can be asked for, and from what was asked to settings that are right: twin of
// queue/diffusion/settings.py and queue/genqueue/choices.py, with the same codes and sentences.

import { cleanPrompt } from '../engine/cleaning.js';
import { strip } from '../engine/text/python.js';
import { Problem } from './problems.js';

const SEED_LIMIT = 2 ** 32; // torch's CPU generator uses the low 32 bits of a seed

/** What a room allows at most, whatever its models could do; the server's defaults. */
export const LIMITS = Object.freeze({
  promptCharacters: 2000,
  maxSteps: 100,
  maxGuidance: 20,
  maxImages: 16,
  maxSide: 2048,
});

const FIELDS = {
  prompt: 'a string',
  negative_prompt: 'a string',
  model: 'a string',
  width: 'a whole number',
  height: 'a whole number',
  steps: 'a whole number',
  guidance: 'a finite number',
  seed: 'a whole number',
  num_images: 'a whole number',
};
const IS = {
  'a string': (value) => typeof value === 'string',
  'a whole number': Number.isSafeInteger,
  'a finite number': Number.isFinite,
};

/**
 * @typedef {object} Settings
 * @property {string} prompt @property {string} negative_prompt @property {string} model
 * @property {number} width @property {number} height in pixels
 * @property {number} steps @property {number} guidance 1 means none
 * @property {number} seed @property {number} num_images
 */

/**
 * Complete and correct settings. What is null or left out is the model's default, or a random seed.
 * @param {object} asked
 * @param {import('./models.js').HostModel[]} models
 * @param {typeof LIMITS} [limits]
 * @returns {Settings}
 * @throws {Problem} the first that is wrong, with the others in `others`
 */
export function checkedSettings(asked, models, limits = LIMITS) {
  refuse(typeRefusals(asked));
  const name = asked.model ?? defaultModel(models);
  const model = models.find((one) => one.name === name);
  if (!model) {
    const names = models.map((one) => one.name).sort().join(', ');
    throw new Problem(
      'unknown-model', `There is no such model here. There are: ${names}.`, 'model');
  }
  const settings = {
    prompt: asked.prompt,
    negative_prompt: asked.negative_prompt ?? '',
    model: name,
    width: asked.width ?? model.default_width,
    height: asked.height ?? model.default_height,
    steps: asked.steps ?? model.default_steps,
    guidance: asked.guidance ?? model.default_guidance,
    seed: asked.seed ?? crypto.getRandomValues(new Uint32Array(1))[0],
    num_images: asked.num_images ?? 1,
  };
  refuse([
    ...textRefusals('prompt', settings.prompt, limits),
    ...textRefusals('negative_prompt', settings.negative_prompt, limits),
    ...sideRefusals(settings, model, limits),
    ...rangeRefusals('steps', settings.steps, 1, limits.maxSteps),
    ...rangeRefusals('guidance', settings.guidance, 1, limits.maxGuidance),
    ...rangeRefusals('num_images', settings.num_images, 1, limits.maxImages),
    ...rangeRefusals('seed', settings.seed, 0, SEED_LIMIT - 1),
  ]);
  return settings;
}

function refuse([first, ...others]) {
  if (!first) return;
  first.others = others;
  throw first;
}

function defaultModel(models) {
  if (!models.length) throw new Problem('no-model', 'This room has no model to draw with.');
  return (models.find((model) => model.default) ?? models[0]).name;
}

function typeRefusals(asked) {
  if (asked === null || typeof asked !== 'object' || Array.isArray(asked)) {
    return [new Problem('not-an-object', 'The request must be a JSON object.')];
  }
  const wrong = [];
  for (const [field, wanted] of Object.entries(FIELDS)) {
    const value = asked[field];
    if (field === 'prompt' && value === undefined) {
      wrong.push(new Problem('missing-field', 'prompt is required.', field));
    } else if (field === 'prompt' || (value !== undefined && value !== null)) {
      if (IS[wanted](value)) continue;
      wrong.push(new Problem('wrong-type',
        `${field} must be ${wanted}; strings and numbers are not converted.`, field));
    }
  }
  const unknown = Object.keys(asked).filter((field) => !Object.hasOwn(FIELDS, field));
  return [...wrong, ...unknown.map((field) =>
    new Problem('unknown-field', 'There is no such field.', field.slice(0, 100)))];
}

function textRefusals(field, text, { promptCharacters: most }) {
  const words = field.replace('_', ' ');
  const code = field.replace('_', '-');
  const length = [...text].length;
  if (length > most) {
    return [new Problem(`${code}-too-long`,
      `The ${words} has ${length} characters; at most ${most} are allowed.`, field)];
  }
  if (/[\0\p{Surrogate}]/u.test(text)) {
    return [new Problem(`${code}-not-text`,
      `The ${words} holds a character that is not text (NUL or half a surrogate pair).`, field)];
  }
  if (field !== 'prompt') return [];
  if (!strip(text)) return [new Problem('prompt-empty', 'The prompt is empty.', field)];
  if (cleanPrompt(text).text) return [];
  return [new Problem('prompt-cleaned-away',
    'Nothing is left of the prompt after the cleaning that PRX was trained with: it deletes'
    + ' Chinese, Japanese and Korean ideographs, web addresses, file names and long numbers.'
    + ' Please describe the picture in English words.', field)];
}

function sideRefusals(settings, { side_multiple: multiple, min_side: least, max_side }, { maxSide }) {
  const most = Math.min(max_side, Math.floor(maxSide / multiple) * multiple);
  return ['width', 'height'].flatMap((field) => {
    const side = settings[field];
    if (side % multiple) {
      return [new Problem('side-not-multiple',
        `The ${field} must be a multiple of ${multiple} pixels for this model; ${side} is not.`,
        field)];
    }
    if (side >= least && side <= most) return [];
    return [new Problem('side-out-of-range',
      `The ${field} must be between ${least} and ${most} pixels for this model; ${side} is not.`,
      field)];
  });
}

function rangeRefusals(field, value, least, most) {
  if (value >= least && value <= most) return [];
  const words = field === 'num_images' ? 'number of images' : field;
  return [new Problem(`${field.replace('_', '-')}-out-of-range`,
    `The ${words} must be between ${least} and ${most};`
    + ` ${field === 'guidance' ? shown(value) : value} is not.`, field)];
}

/** As Python's `.10g` writes it. */
function shown(value) {
  const rounded = Number(value.toPrecision(10));
  const size = Math.abs(rounded);
  if (size === 0 || (size >= 1e-4 && size < 1e10)) return `${rounded}`;
  return rounded.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
}
