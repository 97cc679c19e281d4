// How a picture was made: fetched when somebody looks at it large, and filled into the templates that
// the server fills too. The slots are the twin of rooms/making.py.

import { stepsWords } from 'page/people.js';
import { clone, fill } from 'page/slots.js';
import { plural, tenths, workerName } from 'page/view.js';

const WHAT = { encode: 'Read the prompt', decode: 'Finished the picture' };
const CHECKED = { encode: 'The prompt', decode: 'The picture' };
const FOUND = { agreed: 'alike', disputed: 'another result', wrong: 'wrong' };
const WIDTH = 1000; // of the bars of all entries, in units of their viewBox
const NARROWEST = 8;
const COLOURS = 5;

/**
 * Put the timeline of a picture at the end of `box`, while the box shows it.
 * @param {HTMLElement} box @param {string} job @param {number} index
 * @param {{label: string}} viewer
 * @param {{ask?(message: object): Promise<object>}} line to the room; without `ask` there is a server
 */
export async function showTimeline(box, job, index, viewer, line) {
  const before = box.firstElementChild;
  const timeline = await fetchTimeline(job, index, line).catch(() => null);
  if (timeline && before === box.firstElementChild) { // the same picture is on show yet
    box.append(fill(clone('timeline'), timelineSlots(timeline, viewer)));
  }
}

async function fetchTimeline(job, index, line) {
  if (line.ask) return (await line.ask({ type: 'picture.timeline', job, index })).timeline;
  const answer = await fetch(`/api/jobs/${job}/images/${index}/timeline`);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

export function timelineSlots({ entries, checks }, viewer) {
  if (!entries.length) {
    const summary = 'Nothing is known of how it was made.';
    return { summary, entries: [], checks: [], checks_hidden: true };
  }
  const began = Math.min(...entries.map((one) => ms(one.began_at)));
  const ended = Math.max(...entries.map((one) => ms(one.ended_at ?? one.began_at)));
  const workers = [...new Set(entries.map(({ worker }) => worker.id))];
  const broken = entries.filter(({ outcome }) => ['failed', 'returned'].includes(outcome)).length;
  const said = [plural(workers.length, 'worker'), `${tenths((ended - began) / 1000)} s in all`];
  if (broken) said.push(plural(broken, 'interruption'));
  const checked = checks.reduce((all, one) => all + (one.at ? one.checks : 0), 0);
  if (checked) said.push(plural(checked, 'check'));
  let before = null; // who has computed the steps before
  const shown = entries.map((one) => {
    const colour = workers.indexOf(one.worker.id) % COLOURS;
    const slots = entrySlots(one, before, viewer, { began, ended }, colour);
    if (one.stop > one.start) before = one.worker;
    return slots;
  });
  return {
    summary: said.join(', '),
    entries: shown,
    checks: checks.map((one) => checkSlots(one, viewer)),
    checks_hidden: checks.length ? null : true,
  };
}

function entrySlots(one, before, viewer, { began, ended }, colour) {
  const start = ms(one.began_at);
  const stop = one.ended_at ? ms(one.ended_at) : Math.max(ended, start);
  const span = Math.max(1, ended - began);
  const width = Math.max(NARROWEST, Math.floor((WIDTH * (stop - start)) / span + 0.5));
  const x = Math.min(Math.floor((WIDTH * (start - began)) / span + 0.5), WIDTH - width);
  const said = saidOf(one, before, viewer);
  return {
    outcome: one.outcome,
    colour: String(colour),
    what: whatOf(one),
    who: workerName(one.worker, viewer),
    x: String(Math.max(0, x)),
    width: String(Math.min(WIDTH, width)),
    when: whenOf(one, start - began, stop - start),
    said,
    said_hidden: said ? null : true,
  };
}

function whatOf({ kind, start, stop, outcome }) {
  if (kind !== 'denoise') return WHAT[kind];
  if (stop === start) return outcome === 'running' ? 'No step yet' : 'No step';
  const words = stepsWords(start, stop);
  return words[0].toUpperCase() + words.slice(1);
}

function whenOf({ outcome, chunks, received, sent, worker }, after, long) {
  return [
    `after ${tenths(after / 1000)} s`,
    outcome === 'running' ? 'now' : `for ${tenths(long / 1000)} s`,
    chunks > 1 && `${chunks} chunks`,
    received && `${bytes(received)} received`,
    sent && `${bytes(sent)} sent`,
    worker.kernels && `kernels ${worker.kernels}`,
  ].filter(Boolean).join(' · ');
}

function saidOf({ attempt, worker, outcome, fault, partners }, before, viewer) {
  return [
    attempt && `Attempt ${attempt + 1}.`,
    before && before.id !== worker.id && `Took over from ${workerName(before, viewer)}.`,
    ...partners.map((partner) => withWhom(partner, viewer)),
    outcome === 'failed' && fault.detail,
    outcome === 'returned' && 'It gave the rest back unharmed.',
  ].filter(Boolean).join(' ') || null;
}

function withWhom({ worker, how, steps, received, sent }, viewer) {
  const who = workerName(worker, viewer);
  if (how === 'gave') return `${bytes(received)} came directly from ${who}.`;
  const part = how === 'half' ? `half of ${plural(steps, 'step')}` : 'a part of the picture';
  return `With ${who}: ${part}, ${bytes(received + sent)} exchanged.`;
}

function checkSlots(one, viewer) {
  const words = CHECKED[one.kind] ?? stepsWords(one.start, one.stop);
  return {
    verdict: one.verdict,
    what: `${words[0].toUpperCase()}${words.slice(1)} of ${workerName(one.worker, viewer)}`,
    found: foundOf(one, workerName(one.checker, viewer)),
  };
}

function foundOf({ verdict, distance, limit, done_again: again }, checker) {
  if (verdict === 'waiting') {
    return checker ? `${checker} computes it again.` : 'Waits for somebody to check it.';
  }
  if (verdict === 'unsaid') return 'Nobody could check it.';
  const said = [`Computed again by ${checker}: ${FOUND[verdict]}`];
  if (distance !== null) said.push(`${percent(distance)} apart, and ${percent(limit)} is allowed`);
  const after = { disputed: ' Somebody else decides.', agreed: '' };
  const made = again ? ' It was made again.' : ' The picture was finished before.';
  return `${said.join(', ')}.${after[verdict] ?? made}`;
}

function percent(ratio) {
  const value = 100 * ratio;
  if (value >= 1000) return 'far more than all of it';
  if (value < 0.0005) return 'less than 0.001 %';
  const digits = value >= 10 ? 1 : value >= 1 ? 10 : value >= 0.1 ? 100 : 1000;
  return `${Math.floor(value * digits + 0.5) / digits} %`;
}

function bytes(count) {
  const thousands = Math.floor(count / 1000 + 0.5);
  return thousands < 1000 ? `${thousands} kB` : `${tenths(count / 1e6)} MB`;
}

const ms = (time) => Date.parse(time);
