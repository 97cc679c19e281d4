// Whether this tab's person hides their address from other tabs of a site: then they are met over the
// site's TURN server alone. Kept in this browser, for all rooms of the site.

const KEY = 'p2pweb.hide-address';

export class Hiding {
  #always;
  #box = document.getElementById('hide-address'); // where there is a choice
  #unkept = null; // what was chosen in a browser that keeps nothing

  /**
   * @param {boolean} always the site wants it of everybody
   * @param {() => void} changed somebody here has chosen otherwise
   */
  constructor(always, changed) {
    this.#always = always;
    if (!this.#box) return;
    this.#box.checked = this.chosen;
    this.#box.addEventListener('change', () => {
      this.#keep(this.#box.checked);
      changed();
    });
  }

  /** @returns {boolean} */
  get chosen() {
    if (this.#always || !this.#box) return this.#always;
    try {
      return this.#unkept ?? localStorage.getItem(KEY) === '1';
    } catch {
      return false;
    }
  }

  #keep(hidden) {
    this.#unkept = hidden;
    try {
      localStorage.setItem(KEY, hidden ? '1' : '0');
      this.#unkept = null;
    } catch {
      // It holds until the page is closed.
    }
  }
}
