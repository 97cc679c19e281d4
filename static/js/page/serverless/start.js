// The exported room page: says who looks at which room, where a server would have written it into
// the page, and then starts the same page.

import { ownClient } from 'page/serverless/client.js';
import { startSharingHere } from 'page/serverless/share.js';
import { hashOf, placeIn } from 'page/serverless/place.js';
import { keyOf, visit } from 'page/recent.js';
import { nameOf } from 'page/title.js';
import { checkEntry } from 'room/invitation.js';

const { room, query, password: said } = placeIn(location.hash);
const password = said ?? keyOf(room); // this browser may have been there
if (await mayEnter()) await start();
else location.replace(`index.html${location.hash}`); // which says why

function mayEnter() {
  return checkEntry(room, password).then(() => true, (error) => {
    if (error.name === 'NetworkError') return false;
    throw error;
  });
}

async function start() {
  const { dataset } = document.body;
  dataset.room = room;
  const name = nameOf('', room);
  document.querySelector('h1').textContent = name;
  document.querySelector('.bar-title').textContent = name;
  visit(room, name, { key: password }); // also for who leaves before the rest of the page has come
  if (said !== password) history.replaceState(history.state, '', hashOf(room, password, Object.fromEntries(query)));
  startSharingHere(room, password);
  for (const example of document.querySelectorAll('a[data-example]')) {
    example.href = hashOf(room, password, { prompt: example.textContent });
  }
  if (query.has('prompt')) document.getElementById('prompt').value = query.get('prompt');
  addEventListener('hashchange', () => location.reload()); // another room, or another form
  document.addEventListener('click', (event) => {
    const hash = event.target.closest('a')?.getAttribute('href') ?? '';
    const goal = hash.startsWith('#') && document.getElementById(hash.slice(1));
    if (!goal) return;
    event.preventDefault(); // #main would be another room
    goal.tabIndex = -1;
    goal.focus();
  });
  document.addEventListener('submit', (event) => event.preventDefault()); // no server takes it
  dataset.client = window.isSecureContext ? (await ownClient()).label : '';
  await import('page/p2p-diffusion.js');
}
