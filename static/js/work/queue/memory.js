// For what a worker had too little memory. Nobody can say it beforehand: WebGPU tells no page how much
// a graphics processor has, nor how much of it others take. So the first time tells: that is no
// fault of the chunk while somebody is there who may do better, and such chunks are left to them.

const ENCODE_PIXELS = 1; // reading a prompt takes as much whatever the picture's size

/**
 * @param {'encode'|'denoise'|'decode'} kind @param {import('./records.js').Settings} settings
 * @returns {number} how large that is for the memory
 */
const sizeOf = (kind, { width, height }) => (kind === 'encode' ? ENCODE_PIXELS : width * height);

/**
 * @param {import('./records.js').Worker} worker @param {'encode'|'denoise'|'decode'} kind
 * @param {import('./records.js').Settings} settings
 * @returns {boolean} false: it had too little for this, or for less
 */
export const hasRoom = ({ lacks = {} }, kind, settings) =>
  sizeOf(kind, settings) < (lacks[kind] ?? Infinity);

/**
 * It had too little memory.
 * @param {import('./records.js').Worker} worker @param {'encode'|'denoise'|'decode'} kind
 * @param {import('./records.js').Settings} settings
 * @returns {boolean} whether that is news
 */
export function noteLack(worker, kind, settings) {
  if (!hasRoom(worker, kind, settings)) return false;
  worker.lacks = { ...worker.lacks, [kind]: sizeOf(kind, settings) };
  return true;
}
