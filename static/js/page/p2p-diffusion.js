// The room page: joins its parts. Everything works without this file, only not by itself.

import { Compute } from 'page/compute.js';
import { keepFocus, startFocus } from 'page/focus.js';
import { startForm } from 'page/form.js';
import { startLightbox } from 'page/lightbox.js';
import { forgetWhatWasSaid, LivePage, notice } from 'page/live.js';
import { startPresses, whenReleased } from 'page/press.js';
import { visit } from 'page/recent.js';
import { Room } from 'page/room.js';
import { RoomSocket } from 'page/socket.js';
import { announcement, nameOf, titleOf } from 'page/title.js';

const DRAWN_EVERY_MS = 3000; // also when nothing is said: ways to others change
const LOST_AFTER_MS = 1500; // most losses are made good sooner; the page need not jump for them

const { room: id, client: label, rooms, relays, mesh, ice } = document.body.dataset;
const serverless = relays !== undefined; // an exported page
const heading = document.querySelector('h1');
const powered = (element) => window.htmx?.process(element);

// This is not the private room that the link speaks of: the front page says so.
if (!serverless && /[#&]key=/.test(location.hash)) {
  location.replace('/#key=');
  await new Promise(() => {});
}

document.documentElement.classList.add('scripted');
visit(id, heading.textContent);
startPresses();
startFocus();
startForm(id);
const leaveIfGone = startLightbox(powered, async (...picture) => {
  const { showTimeline } = await import('page/timeline/timeline.js');
  await showTimeline(...picture, { label }, socket);
});
startSharing();
startChoosing();
notice('insecure', !window.isSecureContext);

// What the server says, as it says it ------------------------------------------------------------
const room = new Room();
const page = new LivePage({ label, rooms }, {
  added: powered, ways: () => ({ ...met, ...socket.ways(room.peer) }),
});
let met = {}; // ways to tabs that are met directly
document.addEventListener('mesh', ({ detail: { peers } }) => {
  met = Object.fromEntries(peers.map((peer) => [peer.id, peer]));
});
let seen = null; // pictures that were there before, so that only new ones are announced
let drawing = false;
let lostTimer = null;

const handlers = {
  revision: () => room.revision,
  message(message) {
    compute.message(message);
    if (!room.apply(message)) socket.send({ type: 'room.resync' });
    else if (message.type !== 'peer.beat') draw();
  },
  bytes: (piece) => compute.bytes(piece),
  open() {
    document.body.dataset.connected = '';
    compute.opened();
    naming?.then((name) => name.opened());
    clearTimeout(lostTimer);
    notice('offline', false);
  },
  closed() {
    compute.closed();
    delete document.body.dataset.connected;
    clearTimeout(lostTimer);
    lostTimer = setTimeout(() => notice('offline', true), LOST_AFTER_MS);
  },
};
const socket = serverless ? await roomLine() : new RoomSocket(serverAddress(), handlers);
const meets = mesh === undefined ? null : siteMesh;
const compute = new Compute(socket, { unasked: serverless, meets });
let naming = null; // people/own-name.js, once somebody has a name or wants one
startNaming();
socket.connect();
setInterval(() => document.hidden || draw(), DRAWN_EVERY_MS);
addEventListener('online', () => socket.hurry());
document.addEventListener('visibilitychange', () => document.hidden || socket.hurry());
addEventListener('pagehide', () => socket.stop());
addEventListener('pageshow', (event) => event.persisted && socket.connect());

function serverAddress() {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  return `${scheme}://${location.host}/ws/rooms/${id}/`;
}

async function roomLine() {
  const { RoomLine } = await import('page/serverless/room-line.js');
  return new RoomLine({ id, label, room }, handlers);
}

// Others are met directly when this tab computes.
async function siteMesh() {
  const { SiteMesh } = await import('page/mesh/site-mesh.js');
  const others = mesh.split(' ').filter(Boolean);
  const waits = () => room.waiting.length > 0;
  return new SiteMesh({ room: id, socket, waits, relays: others, ice: JSON.parse(ice) });
}

// Messages that come together are drawn together; a hidden tab draws too, for its title.
function draw() {
  if (drawing || !room.head) return;
  drawing = true;
  queueMicrotask(() => whenReleased(drawNow));
}

function drawNow() {
  drawing = false;
  page.show(room);
  compute.room(room.head, room.waiting.length);
  keepFocus();
  announce();
  leaveIfGone();
  showName(nameOf(room.head.title, id));
}

function showName(name) {
  document.title = titleOf(room.jobs, `${name} · P2P Diffusion`, room.head.paused);
  if (heading.textContent === name) return;
  heading.textContent = name;
  document.querySelector('.bar-title').textContent = name;
  visit(id, name);
}

function announce() {
  const now = room.pictures;
  if (seen) {
    // Made before all that was there: it followed to the page when another one was removed.
    const [first = ''] = [...seen.values()].sort();
    const fresh = [...now].filter(([name, at]) => !seen.has(name) && at >= first);
    const figures = fresh.map(([name]) => document.getElementById(`picture-${name.replace('/', '-')}`));
    for (const figure of figures) figure.classList.add('fresh');
    const text = announcement(
      figures.map((figure) => figure.querySelector('.picture-prompt').textContent),
    );
    if (text) document.getElementById('announce').textContent = text;
  }
  seen = now;
}

// What htmx brings ---------------------------------------------------------------------------------
document.addEventListener('htmx:after:swap', () => {
  if (room.head && page.isBehind(room)) page.show(room);
  page.dropDoubles();
  leaveIfGone();
});
document.addEventListener('htmx:before:request', forgetWhatWasSaid);
document.addEventListener('input', forgetWhatWasSaid);
for (const type of ['htmx:error', 'htmx:response:error']) {
  document.addEventListener(type, ({ detail }) => {
    const status = detail.ctx?.response?.status ?? 0;
    notice('missing', status === 404);
    notice('failed', status >= 500);
    notice('unanswered', status === 0);
  });
}
// A whole page is no partial: it is what Django says of an old form, for example.
document.addEventListener('htmx:before:swap', (event) => {
  if (!/^\s*<!doctype/i.test(event.detail.ctx.text ?? '')) return;
  event.preventDefault();
  notice('failed', event.detail.ctx.response.status !== 404);
});

// Small things -------------------------------------------------------------------------------------
function startSharing() {
  const share = document.querySelector('.share');
  document.addEventListener('click', ({ target }) => {
    if (!share.contains(target)) share.open = false;
  });
  share.addEventListener('keydown', ({ key }) => {
    if (key !== 'Escape') return;
    share.open = false;
    share.querySelector('summary').focus();
  });
  const link = document.getElementById('share-link');
  const copy = document.getElementById('copy');
  copy.hidden = false;
  copy.addEventListener('click', async () => {
    link.select();
    const done = navigator.clipboard
      ? await navigator.clipboard.writeText(link.value).then(() => true, () => false)
      : false;
    document.getElementById('copied').textContent = done
      ? 'Copied.'
      : 'The link is selected: copy it with Ctrl C.';
  });
}

function startNaming() {
  const load = () => {
    naming ??= import('page/people/own-name.js').then(({ OwnName }) => new OwnName(socket));
  };
  const fold = document.querySelector('.naming');
  if (fold) fold.hidden = false;
  fold?.addEventListener('toggle', load, { once: true });
  if (serverless || localStorage.getItem('p2pweb.name')) load();
}

function startChoosing() {
  const chosen = document.getElementById('chosen');
  document.addEventListener('change', (event) => {
    if (!event.target.matches('.choice')) return;
    const count = document.querySelectorAll('.choice:checked').length;
    chosen.textContent = count ? `${count} selected` : '';
  });
}
