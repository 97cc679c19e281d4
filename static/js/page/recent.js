// The rooms that this browser visited, newest first. They stay in this browser.

const KEY = 'p2pweb.rooms';
const KEPT = 12;

export function recentRooms(storage = localStorage) {
  try {
    const rooms = JSON.parse(storage.getItem(KEY) ?? '[]');
    return rooms.filter((room) => /^[A-Za-z0-9_-]{1,64}$/.test(room.id)).slice(0, KEPT);
  } catch {
    return [];
  }
}

// key: the password of a private room without a server; it stays with the room until it is forgotten.
export function visit(id, name, { key = keyOf(id), now = Date.now(), storage = localStorage } = {}) {
  const others = recentRooms(storage).filter((room) => room.id !== id);
  const room = { id, name, at: now, ...(key && { key }) };
  storage.setItem(KEY, JSON.stringify([room, ...others].slice(0, KEPT)));
}

export const keyOf = (id, storage = localStorage) =>
  recentRooms(storage).find((room) => room.id === id)?.key ?? null;

export const forget = (storage = localStorage) => storage.removeItem(KEY);

export function ago(then, now = Date.now()) {
  const minutes = Math.floor((now - then) / 60000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ago`;
  const days = Math.floor(hours / 24);
  return days === 1 ? 'yesterday' : `${days} days ago`;
}
