// The models that this browser stores: their sizes, deleting them, and the browser's promise to keep
// them. Loaded when somebody opens that part of a page.

import { StoredModels } from 'work/stored-models.js';

const MEGABYTE = 1e6;

const NOWHERE = 'This browser stores no models here, as in some private windows: they are downloaded'
  + ' each time.';
const NONE = 'None. A model is stored when this tab computes for the first time.';
const PROMISED = 'The browser promised to keep them until you delete them.';
const ASKABLE = 'The browser may delete them when the disk fills up.';
const REFUSED = 'The browser made no promise: it may delete them when the disk fills up. Browsers'
  + ' promise it more readily to sites that you visit often or have bookmarked.';

/**
 * Fills the part of the page, each time that it is opened.
 * @param {HTMLDetailsElement} details as templates/rooms/stored.html has it
 */
export async function show(details) {
  if (!details.open) return;
  const panel = new Stored(details);
  details.onclick = (event) => panel.clicked(event);
  panel.say(await panel.refresh());
}

class Stored {
  #details;
  #packages = []; // as StoredModels.list gives them

  constructor(details) {
    this.#details = details;
  }

  #part(name) {
    return this.#details.querySelector(`[data-part="${name}"]`);
  }

  async clicked({ target }) {
    const button = target.closest('button');
    if (!button) return;
    if (button === this.#part('keep')) await this.#keep();
    else if (button === this.#part('all')) await this.#delete(this.#packages);
    else await this.#delete(this.#packages.filter(({ packageId }) => packageId === button.value));
  }

  /**
   * Everything as it is now, but for what was said last.
   * @returns {Promise<string>} what there is to say where there is no list
   */
  async refresh() {
    const store = await StoredModels.open();
    this.#packages = await store?.list() ?? [];
    const some = this.#packages.length > 0;
    this.#part('list').replaceChildren(...this.#packages.map((stored) => this.#item(stored)));
    this.#part('all').hidden = this.#packages.length < 2;
    this.#part('room').textContent = roomSentence(await StoredModels.estimate());
    const promised = await StoredModels.persisted();
    this.#part('keep').hidden = promised || !some;
    const { textContent: before } = this.#part('kept');
    this.#part('kept').textContent = keptSentence({ some, promised, refused: before === REFUSED });
    if (!store) return NOWHERE;
    return some ? '' : NONE;
  }

  #item(stored) {
    const item = this.#part('item').content.cloneNode(true);
    item.querySelector('.person-name').textContent = nameOf(stored);
    item.querySelector('.person-doing').textContent = sizeSentence(stored);
    const button = item.querySelector('button');
    button.value = stored.packageId;
    button.setAttribute('aria-label', `Delete ${nameOf(stored)}`);
    return item;
  }

  async #delete(packages) {
    if (!window.confirm(questionSentence(packages))) return;
    const store = await StoredModels.open();
    const deleted = [];
    for (const stored of packages) {
      if (await store.removeUnused(stored.packageId)) deleted.push(stored);
    }
    await this.refresh();
    this.say(deletedSentence(deleted, packages.filter((stored) => !deleted.includes(stored))));
    // The button that was pressed may be gone.
    (this.#details.querySelector('[data-part="list"] button') ?? this.#details.firstElementChild)
      .focus();
  }

  async #keep() {
    const promised = await StoredModels.persist();
    this.#part('kept').textContent = promised ? PROMISED : REFUSED;
    this.#part('keep').hidden = promised;
  }

  say(text) {
    this.#part('said').textContent = text;
  }
}

export function roomSentence(room) {
  if (!room) return 'This browser does not say how much this site may store.';
  const { usage, quota } = room;
  return `This site uses ${megabytes(usage)} of the ${megabytes(quota)} MB that it may store here.`;
}

function keptSentence({ some, promised, refused }) {
  if (!some) return '';
  if (promised) return PROMISED;
  return refused ? REFUSED : ASKABLE;
}

export function sizeSentence({ bytes, total, own }) {
  const size = bytes < total
    ? `${megabytes(bytes)} of ${megabytes(total)} MB` : `${megabytes(bytes)} MB`;
  return own === bytes
    ? size : `${size}, of which ${megabytes(bytes - own)} MB belong to another model here as well`;
}

export function questionSentence(packages) {
  if (packages.length > 1) {
    return `Delete all ${packages.length} models from this browser? They are downloaded again when`
      + ' they are needed.';
  }
  const [stored] = packages;
  return `Delete ${nameOf(stored)} from this browser? That frees ${megabytes(stored.own)} MB. It is`
    + ' downloaded again when it is needed.';
}

export function deletedSentence(deleted, inUse) {
  const names = (packages) => packages.map(nameOf).join('; ');
  const parts = [];
  if (deleted.length) parts.push(`Deleted: ${names(deleted)}.`);
  if (inUse.length) {
    parts.push(`Not deleted, because a tab of this browser is using it: ${names(inUse)}. Press “Stop”`
      + ' there first.');
  }
  return parts.join(' ');
}

const nameOf = ({ title, variant }) => (title ? `${title}, ${variant}` : variant);
const megabytes = (bytes) => Math.ceil(bytes / MEGABYTE).toLocaleString('en');
