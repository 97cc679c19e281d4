// The list under the prompt, and the hint at words that the model has not learned. The prompt stays a
// plain textbox; the list follows it by aria-activedescendant: arrows choose, Enter or Tab takes,
// Escape closes.

import { whenReleased } from 'page/press.js';

const HINT_AFTER_MS = 600;

const shortestExample = () =>
  [...document.querySelectorAll('[data-example]')]
    .map(({ textContent }) => textContent)
    .reduce((one, other) => (other.length < one.length ? other : one));

export class Completion {
  #box = () => document.getElementById('prompt');
  #list = () => document.getElementById('completions');
  #later = null; // page/later/words.js, with the first vocabulary
  #words = null;
  #title = '';
  #model = null;
  #active = -1;
  #found = { start: 0, options: [] };
  #timer = null;
  #asked = ''; // what was sent is not being typed any more

  constructor() {
    // Delegated: htmx may put another form in place of this one.
    document.addEventListener('focusin', ({ target }) => target === this.#box() && this.#load());
    document.addEventListener('input', ({ target }) => target === this.#box() && this.#typed());
    document.addEventListener('focusout', ({ target }) => target === this.#box() && this.#left());
    document.addEventListener('mousedown', (event) => {
      const option = event.target.closest('#completions li');
      if (!option) return;
      event.preventDefault(); // the prompt keeps the focus
      this.#take([...this.#list().children].indexOf(option));
    });
    document.addEventListener('submit', ({ target }) => {
      if (!target.contains(this.#box())) return;
      this.#asked = this.#box().value;
      this.#hint();
    });
    // The form that came has no hint, and maybe another model.
    document.addEventListener('htmx:after:swap', () => this.#load().then(this.#say));
    if (this.#box().value || document.activeElement === this.#box()) this.#load();
  }

  // True when the key was for the list.
  key(event) {
    const count = this.#found.options.length;
    if (this.#list().hidden || event.isComposing) return false;
    if (event.key === 'ArrowDown') this.#choose((this.#active + 1) % count);
    else if (event.key === 'ArrowUp') this.#choose((this.#active <= 0 ? count : this.#active) - 1);
    else if (event.key === 'Escape') this.close();
    else if (['Enter', 'Tab'].includes(event.key) && this.#active >= 0) this.#take(this.#active);
    else return false;
    event.preventDefault();
    return true;
  }

  close() {
    this.#found = { start: 0, options: [] };
    this.#show();
  }

  #left() {
    this.close();
    setTimeout(() => this.#hint()); // the focus is elsewhere only then
  }

  async #load() {
    const { vocabulary: url, model } = document.getElementById('prompt-hint').dataset;
    if (!url || this.#model === model) return;
    this.#model = model;
    this.#words = null;
    const answer = await fetch(url).catch(() => null);
    if (!answer?.ok) {
      this.#model = null; // the next focus tries again
      return;
    }
    const [{ models }, later] = await Promise.all([answer.json(), import('page/later/words.js')]);
    const mine = models.find(({ name }) => name === model);
    if (!mine?.vocabulary || this.#model !== model) return;
    this.#title = mine.title;
    this.#later = later;
    this.#words = new later.Words(mine.vocabulary);
    if (document.activeElement === this.#box()) this.#typed(); // what was typed meanwhile
    else this.#hint();
  }

  #typed() {
    const box = this.#box();
    if (!this.#words) return;
    this.#found = this.#words.complete(box.value, box.selectionStart);
    this.#show();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#hint(), HINT_AFTER_MS);
  }

  #hint() {
    whenReleased(this.#say); // a longer hint moves what is under it
  }

  #say = () => {
    const box = this.#box();
    const atEnd = document.activeElement === box && box.selectionStart === box.value.length;
    document.getElementById('prompt-hint').textContent = this.#words ? this.#said(atEnd) : '';
  };

  #said(atEnd) {
    const { value } = this.#box();
    const { hint, withoutUnfinishedWord } = this.#later;
    const text = atEnd && value !== this.#asked ? withoutUnfinishedWord(value) : value;
    return hint(this.#title, this.#words, text, shortestExample());
  }

  #show() {
    const list = this.#list();
    this.#active = -1;
    this.#box().removeAttribute('aria-activedescendant');
    list.hidden = this.#found.options.length === 0;
    list.replaceChildren(
      ...this.#found.options.map((name, index) => {
        const option = document.createElement('li');
        option.id = `completion-${index}`;
        option.setAttribute('role', 'option');
        option.setAttribute('aria-selected', 'false');
        option.textContent = name;
        return option;
      }),
    );
  }

  #choose(index) {
    this.#active = index;
    [...this.#list().children].forEach((option, at) => {
      option.setAttribute('aria-selected', String(at === index));
      if (at === index) option.scrollIntoView({ block: 'nearest' });
    });
    if (index < 0) this.#box().removeAttribute('aria-activedescendant');
    else this.#box().setAttribute('aria-activedescendant', `completion-${index}`);
  }

  #take(index) {
    const box = this.#box();
    const { start, options } = this.#found;
    const caret = box.selectionStart;
    box.setRangeText(options[index], start, caret, 'end');
    this.close();
    box.dispatchEvent(new Event('input', { bubbles: true }));
    this.close();
  }
}
