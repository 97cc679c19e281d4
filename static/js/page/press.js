// Nothing moves under a finger. A click is one only when the button is still under the pointer as it
// is let go: what may shift the page waits until then, and not for long, because not every press is
// heard to end (on a scrollbar, for example).

const LONGEST_PRESS_MS = 1000;

let pressed = false;
let timer = null;
const waiting = new Set();

function release() {
  clearTimeout(timer);
  pressed = false;
  for (const run of waiting) run();
  waiting.clear();
}

export function startPresses() {
  addEventListener(
    'pointerdown',
    () => {
      pressed = true;
      clearTimeout(timer);
      timer = setTimeout(release, LONGEST_PRESS_MS);
    },
    true,
  );
  // The click comes after these, in the same task.
  for (const type of ['pointerup', 'pointercancel']) {
    addEventListener(type, () => setTimeout(release), true);
  }
}

// Now, or when the pointer is up. A function that waits already waits once.
export function whenReleased(run) {
  if (pressed) waiting.add(run);
  else run();
}
