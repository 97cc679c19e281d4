// The front page: the rooms this browser visited, and links that lead to none here.

import { ago, forget, recentRooms } from 'page/recent.js';
import { reconcile } from 'page/slots.js';

const PASSWORD = /[#&?]key=/;

function show() {
  const rooms = recentRooms().map((room) => ({
    id: `recent-${room.id}`,
    url: `${document.body.dataset.rooms}${room.id}/${keyIn(room)}`,
    name: String(room.name || room.id),
    when: room.key ? `private · ${ago(room.at)}` : ago(room.at),
  }));
  reconcile(document.getElementById('recent-rooms'), 'recent-room', rooms);
  document.getElementById('recent').hidden = rooms.length === 0;
}

function keyIn({ key }) {
  return key ? `?${new URLSearchParams({ key })}` : '';
}

// A site has no private rooms, and never hears a password that was meant for one.
function refusePrivate(said) {
  const field = document.getElementById('room');
  document.getElementById('enter').addEventListener('submit', (event) => {
    said.hidden = !PASSWORD.test(field.value);
    if (!said.hidden) event.preventDefault();
  });
  if (!PASSWORD.test(location.hash)) return;
  history.replaceState(history.state, '', location.pathname);
  said.hidden = false;
}

document.getElementById('forget').addEventListener('click', () => {
  forget();
  show();
  document.getElementById('room').focus();
});
const noPrivate = document.getElementById('no-private');
if (noPrivate) refusePrivate(noPrivate);
addEventListener('pageshow', show);
show();
