// What the model is told of a step's place in the schedule: its time as sines and cosines.

const { fround } = Math;

/**
 * What the stage `modulation` takes as its waves, cosines first. Angles are float32, as in
 * diffusers; the same as `time_waves` in queue/diffusion/plan/transformer.py.
 * @param {Float32Array} times [steps] in 0..1, of a schedule
 * @param {{features: number, factor: number, max_period: number}} time of the plan's host
 * @returns {Float32Array} [steps, features]
 */
export function timeWaves(times, { features, factor, max_period: maxPeriod }) {
  const half = features / 2;
  const rate = fround(-Math.log(maxPeriod) / half);
  const waves = new Float32Array(times.length * features);
  for (let step = 0; step < times.length; step++) {
    for (let i = 0; i < half; i++) {
      const falling = fround(Math.exp(fround(i * rate)));
      const angle = fround(factor * fround(times[step] * falling));
      waves[step * features + i] = Math.cos(angle);
      waves[step * features + half + i] = Math.sin(angle);
    }
  }
  return waves;
}
