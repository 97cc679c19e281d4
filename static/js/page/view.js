// What the named slots of the partials hold, worked out from the JSON that everybody gets.
// Each function is the twin of one in rooms/slots.py; a test renders both and compares.

const WAITING = ['queued', 'running'];

export const shownInQueue = (job) =>
  WAITING.includes(job.state) ||
  (job.state === 'failed' && !job.images.every((image) => image.url));

// viewer: { label, owner, rooms }; rooms: what addresses of rooms begin with, '/rooms/' on a server.
// paused: whether the room is
export function jobSlots(job, viewer, paused = false) {
  const { state } = job;
  const base = `${roomUrl(viewer, job.room)}jobs/${job.id}`;
  const running = state === 'running';
  const mine = job.client === viewer.label;
  const done = sum(job.images, (image) => image.step);
  const steps = sum(job.images, (image) => image.steps);
  return {
    id: `job-${job.id}`,
    state,
    prompt: job.prompt,
    status: status(job, done, steps, paused),
    settings: settings(job),
    who: person(job.client, viewer),
    step: String(done),
    steps: String(steps || 1),
    progress_name: `Progress of “${job.prompt}”`,
    progress_hidden: running ? null : true,
    tiles_hidden: running ? null : true,
    tiles: running ? job.images.map((image) => tile(image, viewer, paused)) : [],
    cancel_url: `${base}/cancel/`,
    cancel_name: `Cancel “${job.prompt}”`,
    cancel_hidden: WAITING.includes(state) && (mine || viewer.owner) ? null : true,
    retry_url: `${base}/retry/`,
    retry_name: `Try again “${job.prompt}”`,
    dismiss_url: `${base}/dismiss/`,
    dismiss_name: `Dismiss “${job.prompt}”`,
    dismiss_hidden: state === 'failed' && (mine || viewer.owner) ? null : true,
  };
}

function tile(image, viewer, paused) {
  const source = image.url ?? image.preview_url;
  return {
    src: source,
    picture_hidden: source ? null : true,
    status: tileStatus(image, paused),
    worker: workerName(image.worker, viewer),
  };
}

function tileStatus(image, paused) {
  if (image.url) return 'Done';
  if (image.check) return image.check === 'running' ? 'Being checked' : 'Waiting for its check';
  if (image.step) return `Step ${image.step} of ${image.steps}`;
  return image.worker && !paused ? 'Starting' : 'Waiting';
}

function status(job, done, steps, paused) {
  const { state, position, eta_seconds: seconds, error } = job;
  if (state === 'failed') return `Failed: ${error ? error.detail : 'no reason was given.'}`;
  if (paused) return done ? `Paused at step ${done} of ${steps}` : 'Paused before its first step';
  if (job.waits_for_model) return `Waiting for a worker that has ${job.model}`;
  if (state === 'queued') {
    const place = (position ?? 1) === 1 ? 'Next in line' : `Number ${position} in line`;
    return seconds === null ? place : `${place}, ready in ${duration(seconds)}`;
  }
  if (!done) return 'Reading the prompt';
  if (done >= steps) return finishing(job.images.filter((image) => WAITING.includes(image.state)));
  const left = seconds === null ? '' : `, ${duration(seconds)} left`;
  return `Step ${done} of ${steps}${left}`;
}

function finishing(images) {
  if (!images.every(({ check }) => check)) return 'Finishing';
  return images.some(({ check }) => check === 'running')
    ? 'Being checked by somebody else before it is shown'
    : 'Waiting for somebody else to check it, for two minutes at most';
}

function settings(job) {
  return [
    `${job.width} × ${job.height}`,
    plural(job.steps, 'step'),
    `guidance ${job.guidance}`,
    `seed ${job.seed}`,
    ...(job.num_images > 1 ? [`${job.num_images} pictures`] : []),
  ].join(' · ');
}

export function pictureSlots(job, image, viewer) {
  const url = roomUrl(viewer, job.room);
  const base = `${url}pictures/${job.id}/${image.index}`;
  const mine = job.client === viewer.label;
  return {
    id: `picture-${job.id}-${image.index}`,
    url: image.url,
    prompt: job.prompt,
    width: String(job.width),
    height: String(job.height),
    file: `${fileStem(job.prompt)}-${image.seed}.png`,
    who: person(job.client, viewer),
    model: job.model,
    size: `${job.width} × ${job.height}`,
    steps: String(job.steps),
    guidance: String(job.guidance),
    seed: String(image.seed),
    without: job.negative_prompt || null,
    without_hidden: job.negative_prompt ? null : true,
    worker: workerName(image.worker, viewer) ?? 'unknown',
    seconds: image.seconds === null ? null : `${tenths(image.seconds)} s`,
    seconds_hidden: image.seconds === null ? true : null,
    doubt: image.doubt ? DOUBTS[image.doubt] : null,
    doubt_hidden: image.doubt ? null : true,
    choice: `${job.id}/${image.index}`,
    choice_name: `Select “${job.prompt}”, seed ${image.seed}`,
    more_name: `More about “${job.prompt}”, seed ${image.seed}`,
    again_url: `${base}/again/`,
    vary_url: `${base}/vary/`,
    edit_url: `${url}?like=${job.id}/${image.index}`,
    timeline_url: `${base}/timeline/`,
    delete_url: `${base}/delete/`,
    delete_hidden: mine || viewer.owner ? null : true,
  };
}

const DOUBTS = {
  unchecked: 'Nobody else has checked this picture.',
  wrong: 'A check found this picture wrong after it was finished.',
};

// waiting: how many jobs are queued or running
export function noticeSlots(room, waiting) {
  const ready = room.workers.some(({ state }) => state === 'ready');
  const loads = room.workers.filter(({ state }) => state === 'loading');
  const loading = !ready && loads.length > 0;
  const [newest] = room.shut_out;
  return {
    shut_out: newest ? `${newest.name} computes no more here: ${newest.reason}.` : null,
    shut_out_hidden: newest ? null : true,
    paused_hidden: room.paused ? null : true,
    loading: loading ? loadingText(loads) : null,
    loading_hidden: loading ? null : true,
    nobody_hidden: !ready && !loading ? null : true,
    waiting: waiting === 1 ? '1 job waits' : `${waiting} jobs wait`,
    waiting_hidden: waiting ? null : true,
  };
}

// workers: the only ones that there are. Of a helper the name is anybody's choice.
function loadingText(workers) {
  if (workers.some(({ kind }) => kind === 'celery')) {
    return 'The server’s worker is loading the model. This takes a few seconds after a start; jobs '
      + 'begin as soon as it is ready.';
  }
  const helper = workers.find(({ kind }) => kind === 'remote');
  const who = helper ? `The helper “${helper.name}”` : 'A tab';
  return `${who} is loading the model; jobs begin as soon as it is ready.`;
}

// Running jobs, then those that wait in the order of their turns, then failed ones.
export const queueOf = (jobs, viewer, paused = false) =>
  jobs
    .filter((job) => shownInQueue(job) && !askedAgain(job, jobs))
    .sort((a, b) => turn(a) - turn(b) || (a.position ?? 0) - (b.position ?? 0))
    .map((job) => jobSlots(job, viewer, paused));

// Whether who asked for this failed job has a later one that did not fail: it speaks now.
const askedAgain = (failed, jobs) =>
  failed.state === 'failed' &&
  jobs.some(
    (job) =>
      job.state !== 'failed' &&
      job.client === failed.client &&
      job.prompt === failed.prompt &&
      job.created_at > failed.created_at,
  );

const turn = (job) => ['running', 'queued', 'failed'].indexOf(job.state);

// Newest job first; the images of one job in their order.
export function galleryOf(jobs, viewer) {
  return newestFirst(jobs).flatMap((job) =>
    job.images.filter((image) => image.url).map((image) => pictureSlots(job, image, viewer)),
  );
}

export const newestFirst = (jobs) =>
  [...jobs].sort((a, b) => compare(b.created_at, a.created_at) || compare(b.id, a.id));

// cursor: of the pictures made before all that are shown
export const olderSlots = (room, cursor, viewer = {}) => ({
  older_url: `${roomUrl(viewer, room)}pictures/${cursor ? `?before=${cursor}` : ''}`,
  older_hidden: cursor ? null : true,
});

export const roomUrl = ({ rooms = '/rooms/' }, room) => `${rooms}${room}/`;

export const person = (label, viewer) =>
  label === viewer.label ? 'you' : `guest ${label.slice(0, 6)}`;

export function workerName(worker, viewer) {
  if (!worker) return null;
  let { name } = worker;
  if (worker.kind === 'tab') {
    const whose = person(worker.client, viewer);
    const chosen = name !== `tab of ${worker.client}`; // and may be anybody's choice
    if (whose === 'you') name = 'your tab';
    else name = chosen ? `${name} (${whose})` : `tab of ${whose}`;
  }
  return worker.device ? `${name} · ${worker.device}` : name;
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const sum = (list, value) => list.reduce((total, item) => total + value(item), 0);
export const tenths = (seconds) => String(Math.floor(seconds * 10 + 0.5) / 10);
export const plural = (count, noun) => (count === 1 ? `${count} ${noun}` : `${count} ${noun}s`);

export const duration = (seconds) =>
  seconds <= 90 ? `about ${Math.ceil(seconds)} s` : `about ${Math.ceil(seconds / 60)} min`;

export function fileStem(prompt) {
  const stem = prompt.toLowerCase().replace(/[^a-z0-9]+/g, '-').slice(0, 48);
  return stem.replace(/^-+|-+$/g, '') || 'picture';
}
