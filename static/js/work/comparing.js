// What a checker computed, held against what others had handed in: files in, a distance out.
// Twin of queue/genqueue/comparing.py.

import { ManifestError } from '../engine/manifest.js';
import { initialNoise } from '../engine/noise.js';
import { TensorError } from '../engine/safetensors.js';
import { expectedTensors } from './expected.js';
import { expectedResult, latentShape } from './handing.js';
import { distanceOfPictures, distanceOfSteps, distanceOfTexts, limit } from './likeness.js';
import { PictureError, pixelsOf } from './picture-pixels.js';

/**
 * What a check found.
 * @param {import('./queue/room-queue.js').Lease} lease of the check
 * @param {import('./queue/checks.js').Disputed} about of RoomQueue.disputed
 * @param {Record<string, {shape: number[], data: Float32Array|Uint8Array}>} computed the tensors that
 *   the checker has handed in
 * @param {import('./models.js').HostModel} model @param {import('./blobs.js').Blobs} blobs
 * @returns {Promise<{first: import('./queue/checks.js').Finding,
 *   second: import('./queue/checks.js').Finding|null}|null>} null where nobody can say: a file is
 *   lost or damaged, or whose it was said to store weights as nobody does
 */
export async function compare(lease, about, computed, model, blobs) {
  const read = async (name) => {
    const bytes = await blobs.get(name);
    if (!bytes) throw new LostError(`The file ${name} is not here any more.`);
    if (lease.kind !== 'decode') return expectedTensors(bytes, expectedResult(lease, model));
    return { picture: await pixelsOf(bytes, lease.settings.width, lease.settings.height) };
  };
  const finding = async (name, variant) => {
    const theirs = await read(name);
    const distance = await measured(lease, theirs, computed, read, model);
    return { distance, limit: limit(lease.kind, variant, about.checkerVariant) };
  };
  try {
    return {
      first: await finding(about.result, about.variant),
      second: about.second && await finding(about.second, about.secondVariant),
    };
  } catch (error) {
    const lost = [LostError, TensorError, PictureError, ManifestError].some(
      (kind) => error instanceof kind);
    if (lost) return null;
    throw error;
  }
}

async function measured(lease, theirs, ours, read, model) {
  if (lease.kind === 'encode') return distanceOfTexts(theirs, ours);
  if (lease.kind === 'decode') return distanceOfPictures(theirs.picture, ours.picture);
  const given = lease.latent === null
    ? initialNoise(lease.seed, latentShape(lease, model).reduce((product, side) => product * side))
    : (await read(lease.latent)).latent.data;
  return distanceOfSteps(given, theirs.latent.data, ours.latent.data);
}

class LostError extends Error {}
