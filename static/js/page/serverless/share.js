// The link to this room, and its QR code, made when somebody wants to see it.

import { addressOf } from 'page/serverless/place.js';

const SVG = 'http://www.w3.org/2000/svg';

/** @param {string} room @param {string|null} password of a private room: the link carries it */
export function startSharingHere(room, password) {
  const address = addressOf(room, password);
  document.getElementById('share-link').value = address;
  for (const said of document.querySelectorAll('[data-private]')) said.hidden = !password;
  document.querySelector('.share').addEventListener('toggle', async ({ target }) => {
    const box = target.querySelector('.qr');
    if (!target.open || box.firstChild) return;
    const { encodeQR } = await import('../../vendor/qr/index.js');
    box.replaceChildren(drawn(encodeQR(address, 'raw', { ecc: 'medium', border: 2 })));
  });
}

/** @param {boolean[][]} rows true is dark */
function drawn(rows) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${rows.length} ${rows.length}`);
  const path = document.createElementNS(SVG, 'path');
  const dark = rows.flatMap((row, y) => row.map((on, x) => (on ? `M${x} ${y}h1v1h-1z` : '')));
  path.setAttribute('d', dark.join(''));
  svg.append(path);
  return svg;
}
