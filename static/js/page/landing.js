// The front page: the rooms this browser visited.

import { ago, forget, recentRooms } from 'page/recent.js';
import { reconcile } from 'page/slots.js';

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

document.getElementById('forget').addEventListener('click', () => {
  forget();
  show();
  document.getElementById('room').focus();
});
addEventListener('pageshow', show);
show();
