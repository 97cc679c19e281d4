// The noise levels of the steps: flow matching with Euler steps.
//
// The same numbers, to the last bit, as queue/diffusion/schedule.py and as diffusers'
// FlowMatchEulerDiscreteScheduler.set_timesteps. The shift applies twice there: in float32 to the
// table of training levels, whose ends bound the steps, and in double precision to the steps.

const CLASS = 'FlowMatchEulerDiscreteScheduler';
// Options that would change the schedule and that no PRX model uses
const UNUSED = [
  'use_dynamic_shifting', 'invert_sigmas', 'shift_terminal', 'use_karras_sigmas',
  'use_exponential_sigmas', 'use_beta_sigmas', 'stochastic_sampling',
];
const { fround } = Math;

/**
 * @typedef {object} ScheduleConfig
 * @property {number} shift
 * @property {number} trainSteps
 *
 * @typedef {object} Schedule
 * @property {Float32Array} sigmas [steps + 1], falling from 1 to 0
 * @property {Float32Array} times [steps], what the model is told: the timestep / trainSteps
 * @property {Float32Array} strides [steps]: an Euler step k is latent += strides[k] * velocity
 */

/**
 * What a model's scheduler/scheduler_config.json asks for.
 * @param {object} config the parsed file
 * @returns {ScheduleConfig}
 * @throws {TypeError} for a schedule that PRX has not
 */
export function readScheduleConfig(config) {
  if (config._class_name !== CLASS) {
    throw new TypeError(`scheduler: ${config._class_name} is not ${CLASS}`);
  }
  for (const option of UNUSED) {
    if (config[option]) throw new TypeError(`scheduler: ${option} is not supported`);
  }
  const { shift = 1, num_train_timesteps: trainSteps = 1000 } = config;
  if (!(shift > 0)) throw new TypeError(`scheduler: shift must be positive, it is ${shift}`);
  if (!Number.isInteger(trainSteps) || trainSteps < 1) {
    throw new TypeError(`scheduler: num_train_timesteps must be at least 1, it is ${trainSteps}`);
  }
  return { shift, trainSteps };
}

/**
 * The levels of a run.
 * @param {ScheduleConfig} config
 * @param {number} steps at least 1
 * @returns {Schedule}
 * @throws {RangeError} for fewer than one step
 */
export function makeSchedule({ shift, trainSteps }, steps) {
  if (!Number.isInteger(steps) || steps < 1) {
    throw new RangeError(`steps must be a whole number from 1, not ${steps}`);
  }
  const highest = shiftedFloat32(1, shift) * trainSteps;
  const lowest = shiftedFloat32(fround(1 / trainSteps), shift) * trainSteps;
  const sigmas = new Float32Array(steps + 1);
  const times = new Float32Array(steps);
  const strides = new Float32Array(steps);
  for (let k = 0; k < steps; k++) {
    sigmas[k] = shifted(spaced(highest, lowest, steps, k) / trainSteps, shift);
    times[k] = fround(sigmas[k] * trainSteps) / trainSteps; // rounded twice, as in diffusers
  }
  for (let k = 0; k < steps; k++) strides[k] = sigmas[k + 1] - sigmas[k];
  return { sigmas, times, strides };
}

/** `numpy.linspace(start, stop, count)[index]`: the last one is exactly `stop`. */
function spaced(start, stop, count, index) {
  if (index > 0 && index === count - 1) return stop;
  return index === 0 ? start : index * ((stop - start) / (count - 1)) + start;
}

const shifted = (level, shift) => (shift * level) / (1 + (shift - 1) * level);

function shiftedFloat32(level, shift) {
  const factor = fround(shift);
  const below = fround(1 + fround(fround(factor - 1) * level));
  return fround(fround(factor * level) / below);
}
