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

export function visit(id, name, now = Date.now(), storage = localStorage) {
  const others = recentRooms(storage).filter((room) => room.id !== id);
  storage.setItem(KEY, JSON.stringify([{ id, name, at: now }, ...others].slice(0, KEPT)));
}

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
