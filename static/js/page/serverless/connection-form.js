// The dialog in which one chooses how to meet others. What is wrong is said next to its field, and
// nothing is changed before all of it is right.

import { ownName, setOwnName } from 'page/people/own-name.js';
import { keepConnection, ownConnection, whatIsWrong } from 'page/serverless/connection.js';
import { PUBLIC_ICE_SERVERS } from 'room/settings.js';

const LISTS = ['relays', 'stun', 'turn'];
const TEXTS = ['username', 'credential'];
const TURN = ['turn', ...TEXTS];

export class ConnectionForm {
  #dialog = document.getElementById('connection');
  #form = this.#dialog.querySelector('form');
  #changed;

  /**
   * @param {object} options
   * @param {AbortSignal} options.signal the page leaves the room
   * @param {(kept: boolean) => void} options.changed others are to be met another way from now on;
   *   kept: whether this browser remembers it
   */
  constructor({ signal, changed }) {
    this.#changed = changed;
    const on = (target, type, run) => target.addEventListener(type, run, { signal });
    on(this.#form, 'submit', (event) => {
      event.preventDefault();
      event.stopPropagation(); // it asks nothing of the room
      this.#save();
    });
    on(this.#form, 'input', ({ target }) => {
      this.#say(target, '');
      if (TURN.includes(target.name)) this.#say(this.#field('relayOnly'), '');
    });
    on(this.#form.querySelector('[data-plain]'), 'click', () => this.#clear());
    on(this.#form.querySelector('[data-close]'), 'click', () => this.#dialog.close());
  }

  open() {
    const { relayOnly, ...chosen } = ownConnection();
    for (const name of LISTS) this.#field(name).value = chosen[name].join('\n');
    for (const name of TEXTS) this.#field(name).value = chosen[name];
    this.#field('stun').placeholder = PUBLIC_ICE_SERVERS.map(({ urls }) => urls).join('\n');
    this.#field('relayOnly').checked = relayOnly;
    this.#field('name').value = ownName();
    this.#show({});
    this.#dialog.showModal();
  }

  #field(name) {
    return this.#form.elements[name];
  }

  #clear() {
    for (const name of [...LISTS, ...TEXTS]) this.#field(name).value = '';
    this.#field('relayOnly').checked = false;
    this.#show({});
    this.#field('relays').focus();
  }

  #save() {
    const chosen = {
      ...Object.fromEntries(LISTS.map((name) => [name, linesOf(this.#field(name).value)])),
      ...Object.fromEntries(TEXTS.map((name) => [name, this.#field(name).value.trim()])),
      relayOnly: this.#field('relayOnly').checked,
    };
    const wrong = whatIsWrong(chosen);
    this.#show(wrong);
    const first = [...this.#form.elements].find(({ name }) => wrong[name]);
    if (first) {
      first.focus();
      return;
    }
    const before = JSON.stringify(ownConnection());
    const kept = keepConnection(chosen);
    setOwnName(this.#field('name').value);
    this.#dialog.close();
    if (JSON.stringify(ownConnection()) !== before) this.#changed(kept);
  }

  /** @param {import('./connection.js').Wrong} wrong */
  #show(wrong) {
    for (const name of [...LISTS, ...TEXTS, 'relayOnly']) {
      this.#say(this.#field(name), wrong[name] ?? '');
    }
  }

  #say(field, sentence) {
    const said = document.getElementById(`error-connection-${field.name}`);
    if (!said) return;
    said.textContent = sentence;
    if (sentence) field.setAttribute('aria-invalid', 'true');
    else field.removeAttribute('aria-invalid');
  }
}

const linesOf = (text) => text.split(/\s+/).filter(Boolean);
