// What tabs that compute say, read with care: the members of `work.hello`, `work.device` and
// `work.claim`.

import { latentKey } from './handing.js';
import { isVariant } from './likeness.js';
import { MessageError } from './problems.js';
import { MOST_PARTNERS } from './queue/partners.js';

const MOST_AT_HAND = 16;
const MOST_PACKAGES = 8;
const LONGEST_DEVICE = 120;
const STORES = 'stores: such as f32, f16, bf16';
const LONGEST_ID = 64;
const MOST_BYTES = 2 ** 50;
const LINE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$/u; // what people can read

/**
 * What a tab says of itself.
 * @param {object} message `work.hello`
 * @returns {{key: string, device: string, software: boolean, packages: string[], kernels: string,
 *   stores: string, ownFirst: boolean}}
 *   key: 32 hex digits that it keeps over reloads; device: for people; software: no GPU, the
 *   processor after all; packages: ids of the model packages that it has opened; kernels: which
 *   variants of kernels it runs; stores: how it stores weights, where that is not as its packages do;
 *   ownFirst: what its own person asks for comes before all else
 * @throws {MessageError} for what no tab of ours says
 */
export function readHello(message) {
  const { key, stores = '', own_first: first } = message;
  const packages = list(message, 'packages').map(String);
  if (!/^[0-9a-f]{32}$/.test(key)) throw wrong('key: 32 hex digits');
  const equipment = readEquipment(message, stores);
  if (!packages.length || packages.length > MOST_PACKAGES) {
    throw wrong(`packages: 1 to ${MOST_PACKAGES}`);
  }
  if (!packages.every((id) => /^[0-9a-f]{64}$/.test(id))) {
    throw wrong('packages: ids of 64 hex digits');
  }
  return { key, packages, ...equipment, ownFirst: first === true };
}

/**
 * What a worker computes with from now on.
 * @param {object} message `work.device`
 * @returns {{device: string, software: boolean, kernels: string, stores: string}} as of a hello
 * @throws {MessageError} for what no worker of ours says
 */
export function readDevice(message) {
  if (message.stores === '') throw wrong(STORES);
  return readEquipment(message, message.stores);
}

function readEquipment({ device, software, kernels = '' }, stores) {
  if (typeof device !== 'string' || device.length > LONGEST_DEVICE || !LINE.test(device)) {
    throw wrong(`device: one line of 1 to ${LONGEST_DEVICE} characters`);
  }
  if (typeof kernels !== 'string' || kernels.length > LONGEST_DEVICE || !LINE.test(`${kernels} `)) {
    throw wrong(`kernels: one line of at most ${LONGEST_DEVICE} characters`);
  }
  if (stores !== '' && !isVariant(stores)) throw wrong(STORES);
  return { device, software: software === true, kernels, stores };
}

const wrong = (detail) => new MessageError('bad-message', detail);

/**
 * Who has helped with a chunk, as the tab says that hands it in.
 * @param {object} message `work.complete` @param {import('./queue/leases.js').Lease} lease
 * @returns {import('./queue/partners.js').Partner[]}
 * @throws {MessageError}
 */
export function readPartners({ partners = [] }, { kind, start, stop }) {
  const wrong = (detail) => new MessageError('bad-message', `partners: ${detail}`);
  if (!Array.isArray(partners) || partners.length > MOST_PARTNERS) {
    throw wrong(`a list of at most ${MOST_PARTNERS}`);
  }
  if (partners.length && kind === 'encode') throw wrong('nobody helps to read a prompt');
  const most = { steps: stop - start, received: MOST_BYTES, sent: MOST_BYTES };
  const read = partners.map((one) => {
    if (typeof one?.worker !== 'string' || !one.worker || one.worker.length > LONGEST_ID) {
      throw wrong('worker is an id');
    }
    for (const [name, limit] of Object.entries(most)) {
      if (!Number.isSafeInteger(one[name]) || one[name] < 0 || one[name] > limit) {
        throw wrong(`${name} is a whole number of 0 to ${limit}`);
      }
    }
    const { worker, steps, received, sent } = one;
    return { worker, how: kind === 'denoise' ? 'half' : 'band', steps, received, sent };
  });
  if (new Set(read.map(({ worker }) => worker)).size < read.length) throw wrong('each worker once');
  if (read.reduce((all, { steps }) => all + steps, 0) > most.steps) {
    throw wrong(`of ${most.steps} steps together`);
  }
  return read;
}

/**
 * What an idle tab still has.
 * @param {object} message `work.claim`
 * @returns {import('./handing.js').AtHand}
 * @throws {MessageError}
 */
export function readAtHand(message) {
  const conditionings = list(message, 'conditionings');
  const latents = list(message, 'latents');
  const isJob = (job) => typeof job === 'string' && job.length <= 64;
  const isLatent = (entry) => Array.isArray(entry) && entry.length === 3 && isJob(entry[0])
    && Number.isSafeInteger(entry[1]) && Number.isSafeInteger(entry[2]);
  if (!conditionings.every(isJob) || !latents.every(isLatent)) {
    throw new MessageError('bad-message',
      'conditionings are ids of jobs, latents are [job, image, step].');
  }
  return {
    conditionings: new Set(conditionings),
    latents: new Set(latents.map((entry) => latentKey(...entry))),
  };
}

function list(message, name) {
  const value = message[name];
  if (!Array.isArray(value) || value.length > MOST_AT_HAND) {
    throw new MessageError('bad-message', `${name} must be a list of at most ${MOST_AT_HAND}.`);
  }
  return value;
}
