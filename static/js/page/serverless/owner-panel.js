// The panel of whoever made the room: its title, and pausing the work.

export class OwnerPanel {
  #label;
  #panel = document.getElementById('owner');
  #title = '';

  /** @param {string} label of who looks */
  constructor(label) {
    this.#label = label;
  }

  /** @param {{owner: string|null, title: string, paused: boolean}} head of the room as it is now */
  show({ owner, title, paused }) {
    this.#panel.hidden = owner !== this.#label;
    const field = this.#panel.querySelector('#title');
    if (title !== this.#title && document.activeElement !== field) field.value = title;
    this.#title = title;
    const button = this.#panel.querySelector('button[name="paused"]');
    button.value = paused ? '0' : '1';
    button.textContent = paused ? 'Resume the work' : 'Pause the work';
  }
}
