// The name that others see of this browser's tabs, and telling it to the room. There are no accounts:
// a name is what somebody calls themselves, and others see it beside the label that nobody chooses.

import { plainName } from 'room/strangers.js';

const KEY = 'p2pweb.name';

/** Has a `change` event when another name was chosen here. */
export const naming = new EventTarget();

let unkept = null; // where this browser keeps nothing

/** @returns {string} one line, empty for none */
export function ownName() {
  try {
    return unkept ?? plainName(localStorage.getItem(KEY));
  } catch {
    return '';
  }
}

/** @param {string} text as it was typed @returns {string} the name that it makes */
export function setOwnName(text) {
  const before = ownName();
  const name = plainName(text);
  unkept = name;
  try {
    localStorage.setItem(KEY, name);
    unkept = null;
  } catch {
    // It holds until the page is closed.
  }
  if (name !== before) naming.dispatchEvent(new Event('change'));
  return name;
}

/** Tells it to whoever keeps the room's queue. */
export class OwnName {
  #socket;

  /** @param {{send(message: object): void}} socket page/socket.js, or what stands for it */
  constructor(socket) {
    this.#socket = socket;
    naming.addEventListener('change', () => this.#tell());
    const form = document.getElementById('own-name');
    if (form) startForm(form);
  }

  /** The connection is there, perhaps to another than before. */
  opened() {
    if (ownName()) this.#tell();
  }

  #tell() {
    this.#socket.send({ type: 'peer.name', name: ownName() });
  }
}

/** In a served page, where nothing else is chosen of how one meets others. */
function startForm(form) {
  const field = form.querySelector('input');
  form.hidden = false;
  field.value = ownName();
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    field.value = setOwnName(field.value);
    form.querySelector('[role="status"]').textContent = field.value
      ? `Others here see “${field.value}” beside your label.` : 'Others here see your label only.';
  });
}
