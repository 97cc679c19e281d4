// The limits of "Compute here", kept in this browser: a share of the time, when to pause, and whose
// pictures come first. Loaded when somebody opens them, or computes.

import { isPhone } from 'page/computing/device.js';

const KEY = 'p2pweb.power';
const SHARES = [100, 75, 50, 25];
// A phone in a pocket does not compute.
const USUAL = { share: 100, hidden: isPhone(), battery: true, own: false };

export class Limits {
  #settings = kept();
  #battery = null; // of the browser, where it says something of it
  #changed;
  #share = document.getElementById('compute-share');
  #boxes = {
    hidden: document.getElementById('compute-hidden'),
    battery: document.getElementById('compute-battery'),
    own: document.getElementById('compute-own'),
  };

  // Limits that know whether the device runs on its battery. changed(): what they allow may differ
  static async open(changed) {
    const battery = await navigator.getBattery?.().catch(() => null);
    return new Limits(battery ?? null, changed);
  }

  constructor(battery, changed) {
    this.#battery = battery;
    this.#changed = changed;
    this.#share.value = String(this.#settings.share);
    this.#share.addEventListener('change', () => this.#set({ share: Number(this.#share.value) }));
    for (const [name, box] of Object.entries(this.#boxes)) {
      box.checked = this.#settings[name];
      box.addEventListener('change', () => this.#set({ [name]: box.checked }));
    }
    this.#boxes.battery.disabled = battery === null;
    document.getElementById('compute-battery-unknown').hidden = battery !== null;
    battery?.addEventListener('chargingchange', changed);
    document.addEventListener('visibilitychange', changed);
  }

  // Of all the time, above 0 and at most 1.
  get share() {
    return this.#settings.share / 100;
  }

  // Whether pictures that were asked for here come before those of others.
  get ownFirst() {
    return this.#settings.own;
  }

  // Why to pause now: 'battery', 'hidden' or null.
  get pause() {
    if (this.#settings.battery && this.#battery?.charging === false) return 'battery';
    return this.#settings.hidden && document.hidden ? 'hidden' : null;
  }

  // On its battery too, from now on.
  ignoreBattery() {
    this.#boxes.battery.checked = false;
    this.#set({ battery: false });
  }

  #set(some) {
    this.#settings = { ...this.#settings, ...some };
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#settings));
    } catch {
      // A browser that keeps nothing has the usual ones again the next time.
    }
    this.#changed();
  }
}

function kept() {
  try {
    const stored = Object(JSON.parse(localStorage.getItem(KEY)));
    const flag = (name) => (typeof stored[name] === 'boolean' ? stored[name] : USUAL[name]);
    return {
      share: SHARES.includes(stored.share) ? stored.share : USUAL.share,
      hidden: flag('hidden'),
      battery: flag('battery'),
      own: flag('own'),
    };
  } catch {
    return USUAL;
  }
}
