// To which rooms' others somebody in this browser has agreed to be seen by, and how far: by this
// computer's address, or only by a TURN server's. The first covers the second, not the other way.

const KEY = 'p2pweb.joined';
const HIDDEN_KEY = 'p2pweb.joined-hidden';
const MOST_ROOMS = 200;

/** @param {string} room @param {boolean} relayOnly others would not see this computer's address */
export const agreed = (room, relayOnly) =>
  rooms(KEY).includes(room) || (relayOnly && rooms(HIDDEN_KEY).includes(room));

/** Somebody has agreed, in this room and to this. */
export function agree(room, relayOnly) {
  const key = relayOnly ? HIDDEN_KEY : KEY;
  const known = [room, ...rooms(key).filter((other) => other !== room)].slice(0, MOST_ROOMS);
  try {
    localStorage.setItem(key, JSON.stringify(known));
  } catch {
    // A browser that keeps nothing asks again the next time.
  }
}

function rooms(key) {
  try {
    const known = JSON.parse(localStorage.getItem(key));
    return Array.isArray(known) ? known : [];
  } catch {
    return [];
  }
}
