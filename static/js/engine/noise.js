// The noise a picture starts from: torch's own numbers for a seed, within 3e-6.
//
// MT19937 and Box-Muller as in ATen (core/MT19937RNGEngine.h, core/TransformationHelper.h,
// native/cpu/DistributionTemplates.h), for contiguous float32 on the CPU. torch has two kernels: the
// one for AVX2 turns by 2 pi rounded to float32, the other by 2 pi, and both round the angle. Here
// it is turned by the mean of the two and not rounded, which is near both.

const WORDS = 624;
const SHIFTED = 397;
const BLOCK = 16; // torch fills 16 numbers at a time from 8 pairs
const { fround } = Math;
const TURN = (2 * Math.PI + fround(2 * Math.PI)) / 2;

/** Seeds are 0..2^32-1: torch's CPU generator uses the low 32 bits. */
export const SEED_LIMIT = 2 ** 32;

/**
 * The seed of image `index` (from 0) of a job: they count on from `seed`, modulo 2^32.
 * @param {number} seed @param {number} index
 * @returns {number}
 */
export const imageSeed = (seed, index) => (seed + index) % SEED_LIMIT;

/**
 * `torch.randn(count, generator=torch.Generator("cpu").manual_seed(seed))`.
 * @param {number} seed 0..2^32-1
 * @param {number} count how many numbers: the product of the latent's sides
 * @returns {Float32Array} [count]
 * @throws {RangeError} for a seed or a count that is none
 */
export const initialNoise = (seed, count) => new TorchGenerator(seed).randn(count);

/** `torch.Generator("cpu")` as far as randn uses it: several draws follow on each other. */
export class TorchGenerator {
  #state = new Uint32Array(WORDS);
  #used = WORDS;
  /** The second number of a pair, kept by short draws for the next short one. */
  #spare = null;

  /**
   * @param {number} seed 0..2^32-1
   * @throws {RangeError} for anything else
   */
  constructor(seed) {
    if (!Number.isInteger(seed) || seed < 0 || seed >= SEED_LIMIT) {
      throw new RangeError(`a seed is a whole number from 0 to 2^32 - 1, not ${seed}`);
    }
    const state = this.#state;
    state[0] = seed;
    for (let j = 1; j < WORDS; j++) {
      const last = state[j - 1] ^ (state[j - 1] >>> 30);
      state[j] = Math.imul(1812433253, last) + j;
    }
  }

  /**
   * The next `count` normal numbers, as torch.randn draws a contiguous float32 tensor.
   * @param {number} count
   * @returns {Float32Array} [count]
   * @throws {RangeError} for a count that is no whole number from 0
   */
  randn(count) {
    if (!Number.isSafeInteger(count) || count < 0) {
      throw new RangeError(`a count is a whole number from 0, not ${count}`);
    }
    const values = new Float32Array(count);
    if (count < BLOCK) return values.map(() => this.#one());
    this.#fillUniform(values);
    for (let start = 0; start + BLOCK <= count; start += BLOCK) toNormal(values, start);
    if (count % BLOCK) { // the last 16 places are drawn anew, over what was there
      const last = values.subarray(count - BLOCK);
      this.#fillUniform(last);
      toNormal(last, 0);
    }
    return values;
  }

  /** float32 of 24 random bits, in [0, 1). */
  #fillUniform(values) {
    for (let i = 0; i < values.length; i++) values[i] = (this.#word() & 0xffffff) / 2 ** 24;
  }

  /** One normal number in double precision: the way of draws below 16. */
  #one() {
    if (this.#spare !== null) {
      const value = this.#spare;
      this.#spare = null;
      return value;
    }
    const angle = 2 * Math.PI * this.#double();
    const radius = Math.sqrt(-2 * Math.log1p(-this.#double()));
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** 53 random bits in [0, 1); of the two words drawn the first is the high one. */
  #double() {
    const high = this.#word() & 0x1fffff;
    return (high * 2 ** 32 + this.#word()) / 2 ** 53;
  }

  /** The next 32 random bits. */
  #word() {
    if (this.#used === WORDS) this.#twist();
    let y = this.#state[this.#used++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #twist() {
    const state = this.#state;
    for (let j = 0; j < WORDS; j++) {
      const bits = (state[j] & 0x80000000) | (state[(j + 1) % WORDS] & 0x7fffffff);
      state[j] = state[(j + SHIFTED) % WORDS] ^ (bits >>> 1) ^ (bits & 1 ? 0x9908b0df : 0);
    }
    this.#used = 0;
  }
}

/** 16 uniform numbers from `start` become normal, in place; j and j + 8 make a pair. */
function toNormal(values, start) {
  for (let j = start; j < start + BLOCK / 2; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[j]));
    const angle = TURN * values[j + BLOCK / 2];
    values[j] = radius * Math.cos(angle);
    values[j + BLOCK / 2] = radius * Math.sin(angle);
  }
}
