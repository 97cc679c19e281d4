// Whether a tab of an exported page computes without being asked: where somebody in this browser said
// so before, and on a device that has its plug and its line, as far as can be known. Who only watches
// is asked nothing.

import { isPhone, savesData } from 'page/computing/device.js';

const KEY = 'p2pweb.computes'; // 'yes' or 'no', for all rooms of this browser
const AS_WISHED = 'You are watching, as you wished in this browser.';

let unkept = null; // where this browser keeps nothing

/** Somebody has pressed "Compute here", or "Stop". @param {boolean} computes */
export function remember(computes) {
  unkept = computes ? 'yes' : 'no';
  try {
    localStorage.setItem(KEY, unkept);
  } catch {
    // It holds until the page is closed.
  }
}

/**
 * @param {string} megabytes of the model
 * @returns {Promise<string|null>} why nothing is computed before somebody says so, in sentences; null
 *   where this tab begins by itself
 */
export async function whyWatching(megabytes) {
  const said = wish();
  if (said) return said === 'yes' ? null : AS_WISHED;
  const why = await hesitation();
  return why && `You are watching. ${why} To compute here, the model is downloaded once: ${megabytes} MB.`;
}

async function hesitation() {
  const until = 'so it computes nothing before you say so.';
  if (isPhone()) return `This looks like a phone, ${until}`;
  if (savesData()) return `This browser is told to save data, ${until}`;
  const battery = await navigator.getBattery?.().catch(() => null);
  return battery ? null : `This browser does not say whether it runs on a battery, ${until}`;
}

function wish() {
  try {
    return unkept ?? localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
