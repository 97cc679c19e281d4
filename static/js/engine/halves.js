// The two halves of guidance apart: each is a velocity of the same latent, one of them from elsewhere.
//
// The step itself is done here and not on the device: who exchange velocities get the same latents to
// the last bit, whatever their devices round otherwise, and nothing more is submitted.
// Twin of queue/diffusion/halves.py.

const { fround } = Math;

/** @typedef {'negative'|'prompt'} Half in the order of a batch */
export const HALVES = ['negative', 'prompt'];

/** @param {Half} half @returns {Half} */
export const otherHalf = (half) => HALVES.find((other) => other !== half);

/**
 * One Euler step along the guided velocity, as euler.wgsl and the torch backend do it, every
 * operation rounded to f32.
 * @param {Float32Array} latent it is not changed
 * @param {Record<Half, Float32Array>} velocities of as many numbers
 * @param {number} guidance @param {number} stride of the schedule, negative
 * @returns {Float32Array}
 */
export function advanced(latent, { negative, prompt }, guidance, stride) {
  const [scale, length] = [guidance, stride].map(fround);
  return latent.map((value, index) => {
    const apart = fround(prompt[index] - negative[index]);
    const towards = fround(negative[index] + fround(scale * apart));
    return value + fround(length * towards);
  });
}

/**
 * Steps of which one half is computed here.
 * @param {object} run
 * @param {Half} run.half
 * @param {(latent: Float32Array, step: number) => Promise<Float32Array>} run.velocity this half's
 * @param {(latent: Float32Array, step: number) => Promise<Float32Array>} run.otherVelocity the other
 *   one's, for steps that are checked
 * @param {Float32Array} run.strides @param {Float32Array} run.latent before step `start`
 * @param {number} run.guidance @param {number} run.start @param {number} run.stop
 * @param {number[]} run.checks steps for which the other half is computed here as well
 * @param {Exchange} exchange
 * @param {AbortSignal} [signal] looked at between steps
 * @param {(step: number, latent: Float32Array) => void} onStep how many are done
 * @returns {Promise<{latent: Float32Array, step: number}>} step: how many are done; fewer than `stop`
 *   where `exchange` gave null
 *
 * @typedef {(mine: {step: number, velocity: Float32Array, expected: Float32Array|null})
 *   => Promise<Float32Array|null>} Exchange
 *   takes this half's velocity of a step and gives the other one's, or null when nobody computes it
 *   any more. expected: the other one's as it was computed here, of a step that is checked
 */
export async function exchangedSteps(run, exchange, signal, onStep) {
  const { half, strides, guidance, start, stop, checks } = run;
  let { latent } = run;
  for (let step = start; step < stop; step++) {
    signal?.throwIfAborted();
    const velocity = await run.velocity(latent, step);
    const expected = checks.includes(step) ? await run.otherVelocity(latent, step) : null;
    const given = await exchange({ step, velocity, expected });
    signal?.throwIfAborted();
    if (!given) return { latent, step };
    const both = { [half]: velocity, [otherHalf(half)]: given };
    latent = advanced(latent, both, guidance, strides[step]);
    onStep(step + 1, latent);
  }
  return { latent, step: stop };
}
