// What the named slots of the partials hold, worked out from the JSON that everybody gets.
// Each function is the twin of one in rooms/slots.py; a test renders both and compares.

const WAITING = ['queued', 'running'];

export const shownInQueue = (job) =>
  WAITING.includes(job.state) ||
  (job.state === 'failed' && !job.images.every((image) => image.url));

// viewer: { label, owner }; paused: whether the room is
export function jobSlots(job, viewer, paused = false) {
  const { room, state } = job;
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
    tiles: running ? job.images.map((image) => tile(image, paused)) : [],
    cancel_url: `/rooms/${room}/jobs/${job.id}/cancel/`,
    cancel_name: `Cancel “${job.prompt}”`,
    cancel_hidden: WAITING.includes(state) && (mine || viewer.owner) ? null : true,
    retry_url: `/rooms/${room}/jobs/${job.id}/retry/`,
    retry_name: `Try again “${job.prompt}”`,
    dismiss_url: `/rooms/${room}/jobs/${job.id}/dismiss/`,
    dismiss_name: `Dismiss “${job.prompt}”`,
    dismiss_hidden: state === 'failed' && (mine || viewer.owner) ? null : true,
  };
}

function tile(image, paused) {
  const source = image.url ?? image.preview_url;
  return {
    src: source,
    picture_hidden: source ? null : true,
    status: tileStatus(image, paused),
    worker: workerName(image.worker),
  };
}

function tileStatus(image, paused) {
  if (image.url) return 'Done';
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
  if (done >= steps) return 'Finishing';
  const left = seconds === null ? '' : `, ${duration(seconds)} left`;
  return `Step ${done} of ${steps}${left}`;
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
  const base = `/rooms/${job.room}/pictures/${job.id}/${image.index}`;
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
    worker: workerName(image.worker) ?? 'unknown',
    seconds: image.seconds === null ? null : `${tenths(image.seconds)} s`,
    seconds_hidden: image.seconds === null ? true : null,
    choice: `${job.id}/${image.index}`,
    choice_name: `Select “${job.prompt}”, seed ${image.seed}`,
    more_name: `More about “${job.prompt}”, seed ${image.seed}`,
    again_url: `${base}/again/`,
    vary_url: `${base}/vary/`,
    edit_url: `/rooms/${job.room}/?like=${job.id}/${image.index}`,
    delete_url: `${base}/delete/`,
    delete_hidden: mine || viewer.owner ? null : true,
  };
}

export function peerSlots(peer, room, viewer, ownPeer) {
  const mine = peer.client === viewer.label;
  const name = person(peer.client, viewer);
  return {
    id: `peer-${peer.id}`,
    name: !mine || ownPeer === null || ownPeer === peer.id ? name : 'you, in another tab',
    doing: peer.owner ? 'made this room' : 'watching',
    client: peer.client,
    remove_url: `/rooms/${room}/clients/${peer.client}/remove/`,
    remove_name: `Remove ${name} from this room`,
    remove_hidden: viewer.owner && !mine ? null : true,
  };
}

const DOING = { loading: 'loading the model', ready: 'ready', gone: 'gone' };

export function helperSlots(worker, jobs, paused = false) {
  const busy = jobs.some((job) => job.images.some((image) => computes(worker, image)));
  return {
    id: `helper-${worker.id}`,
    name: worker.name,
    device: worker.device || 'device not known yet',
    doing: busy ? (paused ? 'paused' : 'computing') : DOING[worker.state],
    state: worker.state,
  };
}

const computes = (worker, image) => image.state === 'running' && image.worker?.id === worker.id;

// waiting: how many jobs are queued or running
export function noticeSlots(room, waiting) {
  const states = room.workers.map((worker) => worker.state);
  const atWork = states.includes('ready');
  const loading = !atWork && states.includes('loading');
  return {
    paused_hidden: room.paused ? null : true,
    loading_hidden: loading ? null : true,
    nobody_hidden: !atWork && !loading ? null : true,
    waiting: waiting === 1 ? '1 job waits' : `${waiting} jobs wait`,
    waiting_hidden: waiting ? null : true,
  };
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
  const newestFirst = [...jobs].sort(
    (a, b) => compare(b.created_at, a.created_at) || compare(b.id, a.id),
  );
  return newestFirst.flatMap((job) =>
    job.images.filter((image) => image.url).map((image) => pictureSlots(job, image, viewer)),
  );
}

// cursor: of the pictures made before all that are shown
export const olderSlots = (room, cursor) => ({
  older_url: `/rooms/${room}/pictures/${cursor ? `?before=${cursor}` : ''}`,
  older_hidden: cursor ? null : true,
});

export const person = (label, viewer) =>
  label === viewer.label ? 'you' : `guest ${label.slice(0, 6)}`;

function workerName(worker) {
  if (!worker) return null;
  return worker.device ? `${worker.name} · ${worker.device}` : worker.name;
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const sum = (list, value) => list.reduce((total, item) => total + value(item), 0);
const tenths = (seconds) => String(Math.floor(seconds * 10 + 0.5) / 10);
const plural = (count, noun) => (count === 1 ? `${count} ${noun}` : `${count} ${noun}s`);

export const duration = (seconds) =>
  seconds <= 90 ? `about ${Math.ceil(seconds)} s` : `about ${Math.ceil(seconds / 60)} min`;

export function fileStem(prompt) {
  const stem = prompt.toLowerCase().replace(/[^a-z0-9]+/g, '-').slice(0, 48);
  return stem.replace(/^-+|-+$/g, '') || 'picture';
}
