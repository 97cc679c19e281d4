// What a page asks of a room without a server, where it would send a form or call the REST API:
// twin of rooms/actions.py and queue/genqueue/actions.py. Each has an answer of its own, with the
// codes and sentences of the API. docs/api-serverless.md describes the messages.

import { MessageError, Problem, unknownType } from './problems.js';
import { QueueRefusal } from './queue/room-queue.js';
import { checkedSettings, LIMITS } from './requests.js';
import { TITLE_CHARACTERS } from './room-state.js';

const LONGEST_ID = 64;
const MOST_JOBS_OF_A_ROOM = 100; // unfinished ones
const MOST_JOBS_OF_A_CLIENT = 20;
const ENDED = ['done', 'failed', 'cancelled'];
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const ORDERS = {
  'job.submit': submit,
  'job.cancel': cancel,
  'job.dismiss': dismiss,
  'job.retry': retry,
  'picture.delete': deletePicture,
  'picture.timeline': timeline,
  'room.title': title,
  'room.pause': pause,
  'room.older': older,
};

/**
 * @param {import('./room-host.js').RoomHost} host
 * @param {import('./host-page.js').HostPage} page who asks
 * @param {object} message with `id`, which the answer names as `to`
 * @throws {MessageError} for what is no order
 */
export async function answerOrder(host, page, message) {
  const { id: to, type } = message;
  if (type !== 'blob.get' && !Object.hasOwn(ORDERS, type)) throw unknownType();
  const isId = (typeof to === 'string' && to.length <= LONGEST_ID) || Number.isSafeInteger(to);
  if (!isId) {
    throw new MessageError('bad-message', `id must be a number or at most ${LONGEST_ID} characters.`);
  }
  try {
    if (type === 'blob.get') await sendBlob(host, page, message);
    else page.say({ type: 'answer', to, ...await ORDERS[type](host, page, message) });
  } catch (error) {
    const problem = error instanceof QueueRefusal ? new Problem(error.code, error.message) : error;
    if (!(problem instanceof Problem)) throw error;
    const errors = [problem, ...problem.others].map((one) => one.toJSON());
    page.say({ type: 'error', to, ...errors[0], errors });
  }
}

// Jobs --------------------------------------------------------------------------------------------
/** `job`: an id that the page has chosen, so that one that hears no answer may ask once more. */
async function submit(host, page, { request, job: id = crypto.randomUUID() }) {
  if (!UUID.test(id)) throw new Problem('invalid-value', 'job: Input is no UUID.', 'job');
  const known = host.queue.job(id);
  if (known && known.client !== page.label) throw noSuchJob();
  const job = known ?? add(host, page, checkedSettings(request, host.models, LIMITS), id);
  return { job, room_paused: host.paused, kept: await host.kept() };
}

function add(host, page, settings, id) {
  const unfinished = host.queue.jobs().filter(({ state }) => !ENDED.includes(state));
  refuseBeyond(unfinished.length, MOST_JOBS_OF_A_ROOM, 'room-full', 'This room has');
  const mine = unfinished.filter(({ client }) => client === page.label);
  refuseBeyond(mine.length, MOST_JOBS_OF_A_CLIENT, 'client-full', 'You have');
  const job = host.queue.submit(settings, { client: page.label, id });
  host.changed();
  return job;
}

function refuseBeyond(count, limit, code, whoHas) {
  if (count < limit) return;
  throw new Problem(code, `${whoHas} ${count} unfinished jobs; at most ${limit} are allowed.`);
}

/** Cancelling a cancelled job again changes nothing. */
async function cancel(host, page, { job: id }) {
  const job = ownJob(host, page, id);
  if (job.state === 'done' || job.state === 'failed') {
    throw new Problem('already-ended',
      `This job is ${job.state}: there is nothing left to cancel.`);
  }
  host.queue.cancel(id);
  host.changed();
  return { kept: await host.kept() };
}

/** Forget what failed of a failed job; its finished pictures stay. */
async function dismiss(host, page, { job: id }) {
  failedImages(ownJob(host, page, id));
  host.queue.dismiss(id);
  host.changed();
  return { kept: await host.kept() };
}

/** Ask once more for what failed of a failed job, with its seeds, and forget the failure. */
async function retry(host, page, { job: id }) {
  const job = ownJob(host, page, id);
  const images = failedImages(job);
  const [first, last] = [images[0], images.at(-1)];
  const { prompt, negative_prompt, model, width, height, steps, guidance } = job;
  const again = add(host, page, checkedSettings({
    prompt, negative_prompt, model, width, height, steps, guidance,
    seed: first.seed,
    num_images: 1 + last.index - first.index,
  }, host.models, LIMITS), crypto.randomUUID());
  host.queue.dismiss(id);
  host.changed();
  return { job: again, kept: await host.kept() };
}

/** At least one, by number. */
function failedImages(job) {
  const images = job.images.filter(({ state }) => state !== 'done');
  if (job.state !== 'failed' || !images.length) throw noSuchJob();
  return images;
}

// Pictures ----------------------------------------------------------------------------------------
/** The last picture of an ended job takes the job along. */
async function deletePicture(host, page, { job: id, index }) {
  const image = ownJob(host, page, id).images.find((one) => one.index === index);
  if (!image) {
    throw new Problem('no-such-picture', 'This job has no picture with this number.');
  }
  if (!ENDED.includes(image.state)) {
    throw new Problem('not-finished',
      'This picture is not finished: cancel its job instead.');
  }
  host.queue.remove(id, index);
  host.changed();
  return { kept: await host.kept() };
}

/** How it was made, for everybody in the room. */
async function timeline(host, page, { job, index }) {
  const known = host.queue.timeline(job, index);
  if (!known) throw new Problem('no-such-picture', 'This job has no picture with this number.');
  return { timeline: known };
}

async function sendBlob(host, page, { id: to, name }) {
  const bytes = await host.blob(name);
  if (!bytes) throw new Problem('no-such-blob', 'This file is not here, or not here any more.');
  if (!page.mayFetch(bytes.length)) {
    throw new Problem('too-much', 'Too much was asked for at once: ask again in a second.');
  }
  page.say({ type: 'blob', to, name, bytes: bytes.length }, bytes);
}

// The room ----------------------------------------------------------------------------------------
async function title(host, page, { title: text }) {
  ownRoom(host, page);
  if (typeof text !== 'string') {
    throw new Problem('wrong-type',
      'title must be a string; strings and numbers are not converted.', 'title');
  }
  const words = text.replaceAll('\0', '').split(/\s+/u).filter(Boolean).join(' ');
  host.setTitle([...words].slice(0, TITLE_CHARACTERS).join(''));
  return { kept: await host.kept() };
}

/** A paused room starts no chunk; those that run finish. */
async function pause(host, page, { paused }) {
  ownRoom(host, page);
  if (typeof paused !== 'boolean') {
    throw new Problem('wrong-type',
      'paused must be true or false; strings and numbers are not converted.', 'paused');
  }
  host.queue.pause(paused);
  host.changed();
  return { kept: await host.kept() };
}

/** Jobs with pictures made before a place: `older` of a state, or of another answer. */
async function older(host, page, { before }) {
  const place = typeof before === 'string' ? host.olderJobs(before) : null;
  if (!place) {
    throw new Problem('invalid-value',
      'before: only what another answer has as `older` is a place to go on from.', 'before');
  }
  return place;
}

// Whose it is: whoever made the job or owns the room, and for everybody else there is none ----------
function ownJob(host, page, id) {
  const job = typeof id === 'string' ? host.queue.job(id) : null;
  if (!job || (job.client !== page.label && host.owner !== page.label)) throw noSuchJob();
  return job;
}

const noSuchJob = () =>
  new Problem('no-such-job', 'There is no such job, or it is not yours to change.');

function ownRoom(host, page) {
  if (host.owner === page.label) return;
  throw new Problem('not-found', 'There is no such room, or it is not yours to change.');
}
