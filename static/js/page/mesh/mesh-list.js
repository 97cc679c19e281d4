// Tabs of exported pages that are met in this room: the server does not know them, so they are no
// peers of its list.

/** A list below the room's own. */
export class MeshList {
  #list;

  /** @param {HTMLElement} box */
  constructor(box) {
    this.#list = document.createElement('ul');
    this.#list.className = 'persons';
    this.#list.setAttribute('aria-label', 'Tabs of exported pages');
    this.#list.hidden = true;
    box.prepend(this.#list);
  }

  /** @param {import('./site-mesh.js').MeshPeer[]} peers those of exported pages are shown */
  show(peers) {
    const rows = peers.filter(({ exported }) => exported).map(row);
    this.#list.replaceChildren(...rows);
    this.#list.hidden = rows.length === 0;
  }
}

function row({ id, name, roundTripMs }) {
  const item = document.createElement('li');
  item.className = 'person';
  item.append(
    part('person-name', name || `guest ${id.slice(0, 6)}`),
    part('person-doing', `at an exported page${far(roundTripMs)}`),
  );
  return item;
}

const far = (ms) => (ms === null ? '' : ` · ${Math.max(1, Math.round(ms))} ms away`);

function part(name, text) {
  const span = document.createElement('span');
  span.className = name;
  span.textContent = text;
  return span;
}
