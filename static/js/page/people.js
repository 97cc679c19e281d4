// Who is in a room and what they do, as the slots of rooms/peer.html and rooms/helper.html.
// Twin of rooms/people.py; see view.js.

import { newestFirst, person, roomUrl, tenths, workerName } from 'page/view.js';

const LAST_PICTURES = 20; // of which everybody's share is told
const LONGEST_PROMPT = 40;
const SLOW_SECONDS = 0.9; // a step: from then on seconds are told, and not steps

// Who has computed how many steps of the newest pictures: { steps, pictures, all }
export function sharesOf(jobs) {
  const newest = newestFirst(jobs)
    .flatMap(({ images }) => images.toReversed())
    .map(({ steps_by: steps }) => Object.entries(steps))
    .filter(({ length }) => length)
    .slice(0, LAST_PICTURES);
  const steps = new Map();
  let all = 0;
  for (const [worker, number] of newest.flat()) {
    steps.set(worker, (steps.get(worker) ?? 0) + number);
    all += number;
  }
  return { steps, pictures: newest.length, all };
}

function shareWords({ steps, pictures, all }, worker) {
  if (!steps.has(worker)) return null;
  const percent = Math.floor((100 * steps.get(worker)) / all + 0.5);
  const last = pictures === 1 ? 'picture' : `${pictures} pictures`;
  return `${percent} % of the steps of the last ${last}`;
}

// room: all about it but its jobs; ownPeer: the id of this very tab; way: to that peer, or of this tab
// to the server, { roundTripMs, mbitPerS } or null
export function peerSlots(peer, room, viewer, ownPeer, jobs, shares, way = null) {
  const mine = peer.client === viewer.label;
  const name = named(peer, viewer);
  const worker = room.workers.find(({ id }) => id === peer.worker);
  const away = awayWords(way, ownPeer === peer.id);
  const facts = factsOf(worker, shares, away);
  return {
    id: `peer-${peer.id}`,
    name: !mine || ownPeer === null || ownPeer === peer.id ? name : 'you, in another tab',
    doing: doingOf(peer, worker, room, viewer, jobs),
    facts,
    facts_hidden: facts ? null : true,
    client: peer.client,
    remove_url: `${roomUrl(viewer, room.room)}clients/${peer.client}/remove/`,
    remove_name: `Remove ${name} from this room`,
    remove_hidden: viewer.owner && !mine ? null : true,
  };
}

// A chosen name never stands alone: anybody may choose any.
function named(peer, viewer) {
  const who = person(peer.client, viewer);
  if (!peer.name) return who;
  return who === 'you' ? `you, as ${peer.name}` : `${peer.name} (${who})`;
}

// The workers that are no tabs: those are among the peers.
export const helpersOf = (room, jobs, shares) =>
  room.workers
    .filter(({ kind }) => kind !== 'tab')
    .map((worker) => helperSlots(worker, jobs, shares, room.paused));

export const helperSlots = (worker, jobs, shares, paused = false) => ({
  id: `helper-${worker.id}`,
  name: worker.name,
  doing: atWork(worker, jobs, paused),
  facts: factsOf(worker, shares, null),
  state: worker.state,
});

function doingOf(peer, worker, room, viewer, jobs) {
  if (peer.status === 'helping' && !worker?.at_work) {
    const helped = room.workers.find(({ id }) => id === peer.helps);
    const named = helped ? workerName({ ...helped, device: '' }, viewer) : 'another tab';
    return `helping ${named} with its picture`;
  }
  return worker ? atWork(worker, jobs, room.paused) : idle(peer);
}

const IDLE = {
  loading: 'loading the model',
  hidden: 'paused: its page is not in front',
  battery: 'paused: it runs on its battery',
  unable: 'watching: it cannot compute',
  away: 'computing for the exported pages of this room',
};

const idle = ({ status, owner }) =>
  IDLE[status] ?? (owner ? 'watching; made this room' : 'watching');

function atWork({ state, at_work: work }, jobs, paused) {
  if (!work) {
    const ready = paused ? 'waiting: the queue is paused' : 'waiting for work';
    return { loading: 'loading the model', ready, gone: 'gone' }[state];
  }
  const job = jobs.find(({ id }) => id === work.job);
  const what = job ? titleOf(job, work.index) : 'a picture';
  if (work.kind === 'encode') return `reading ${what}`;
  if (work.kind === 'check') return `checking ${what}`;
  if (work.kind === 'decode') return `finishing ${what}`;
  return `computing ${stepsWords(work.start, work.stop)} of ${what}`;
}

// As people count: from 1, and with the last one.
export const stepsWords = (start, stop) =>
  stop - start === 1 ? `step ${stop}` : `steps ${start + 1} to ${stop}`;

function titleOf({ prompt, num_images: several }, index) {
  const letters = [...prompt];
  const short = letters.length <= LONGEST_PROMPT
    ? prompt : `${letters.slice(0, LONGEST_PROMPT - 1).join('')}…`;
  return several > 1 && index !== null ? `“${short}”, picture ${index + 1}` : `“${short}”`;
}

function factsOf(worker, shares, away) {
  const known = worker
    ? [worker.device || 'device not known yet', speedWords(worker.seconds_a_step),
      lackWords(worker.lacks), shareWords(shares, worker.id), away]
    : [away];
  return known.filter(Boolean).join(' · ') || null;
}

// Others do what it has too little memory for.
function lackWords({ encode, ...pictures }) {
  const least = Math.min(...Object.values(pictures));
  if (least < Infinity) return `too little memory for ${Math.floor(Math.sqrt(least))} px`;
  return encode ? 'too little memory for prompts' : null;
}

// "1.3 s a step", or of fast ones "8 steps a second".
function speedWords(seconds) {
  if (!seconds) return null;
  return seconds > SLOW_SECONDS
    ? `${tenths(seconds)} s a step` : `${tenths(1 / seconds)} steps a second`;
}

function awayWords(way, own) {
  if ((way?.roundTripMs ?? null) === null) return null;
  const rounded = Math.floor(way.roundTripMs + 0.5);
  const fast = way.mbitPerS ? `, ${tenths(way.mbitPerS)} Mbit/s` : '';
  return own ? `${rounded} ms to the server` : `${rounded} ms away${fast}`;
}
