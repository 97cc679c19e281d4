// The room page: joins its parts. Everything works without this file, only not by itself.

import { keepFocus, startFocus } from 'page/focus.js';
import { startForm } from 'page/form.js';
import { startLightbox } from 'page/lightbox.js';
import { LivePage, notice } from 'page/live.js';
import { startPresses, whenReleased } from 'page/press.js';
import { visit } from 'page/recent.js';
import { Room } from 'page/room.js';
import { RoomSocket } from 'page/socket.js';
import { announcement, nameOf, titleOf } from 'page/title.js';

const LOST_AFTER_MS = 1500; // most losses are made good sooner; the page need not jump for them

const { room: id, client: label } = document.body.dataset;
const heading = document.querySelector('h1');
const powered = (element) => window.htmx?.process(element);

document.documentElement.classList.add('scripted');
visit(id, heading.textContent);
startPresses();
startFocus();
startForm(id);
const leaveIfGone = startLightbox(powered);
startSharing();
startChoosing();
notice('insecure', !window.isSecureContext);

// What the server says, as it says it ------------------------------------------------------------
const room = new Room();
const page = new LivePage({ label }, { added: powered });
let seen = null; // pictures that were there before, so that only new ones are announced
let drawing = false;
let lostTimer = null;

const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
const socket = new RoomSocket(`${scheme}://${location.host}/ws/rooms/${id}/`, {
  revision: () => room.revision,
  message(message) {
    if (!room.apply(message)) socket.send({ type: 'room.resync' });
    else if (message.type !== 'peer.beat') draw();
  },
  open() {
    document.body.dataset.connected = '';
    clearTimeout(lostTimer);
    notice('offline', false);
  },
  closed() {
    delete document.body.dataset.connected;
    clearTimeout(lostTimer);
    lostTimer = setTimeout(() => notice('offline', true), LOST_AFTER_MS);
  },
});
socket.connect();
addEventListener('online', () => socket.hurry());
document.addEventListener('visibilitychange', () => document.hidden || socket.hurry());
addEventListener('pagehide', () => socket.stop());
addEventListener('pageshow', (event) => event.persisted && socket.connect());

// Messages that come together are drawn together; a hidden tab draws too, for its title.
function draw() {
  if (drawing || !room.head) return;
  drawing = true;
  queueMicrotask(() => whenReleased(drawNow));
}

function drawNow() {
  drawing = false;
  page.show(room);
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
// What was said of the last request is over with the next one, or with other words in the form.
function forgetWhatWasSaid() {
  notice('failed', false);
  notice('missing', false);
  notice('unanswered', false);
  document.getElementById('said').replaceChildren();
  document.querySelector('#owner [role="status"]')?.replaceChildren();
}
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

function startChoosing() {
  const chosen = document.getElementById('chosen');
  document.addEventListener('change', (event) => {
    if (!event.target.matches('.choice')) return;
    const count = document.querySelectorAll('.choice:checked').length;
    chosen.textContent = count ? `${count} selected` : '';
  });
}
