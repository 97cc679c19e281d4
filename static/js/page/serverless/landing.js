// The front page without a server: it makes rooms, public and private ones, and enters them.

import { addressOf, placeEntered } from 'page/serverless/place.js';
import { checkEntry, privateRoom, randomPassword, randomRoom } from 'room/invitation.js';

const INSECURE =
  'A private room needs a page that came by https or from this computer: its password is hashed.';
const field = document.getElementById('room');

document.getElementById('make').addEventListener('submit', async (event) => {
  event.preventDefault();
  if (event.submitter?.value !== 'private') {
    location.assign(addressOf(randomRoom(), null));
  } else if (window.isSecureContext) {
    const password = randomPassword();
    location.assign(addressOf(await privateRoom(password), password));
  } else {
    document.getElementById('error-make').textContent = INSECURE;
  }
});

document.getElementById('enter').addEventListener('submit', async (event) => {
  event.preventDefault();
  await enter((address) => location.assign(address));
});

// A room page that cannot be entered by its address leads here, and what is wrong is said.
if (location.hash.length > 1) {
  field.value = new URL(`room.html${location.hash}`, location.href).href;
  await enter(() => {
    field.value = ''; // it was only a place on this page
  });
  history.replaceState(history.state, '', location.pathname);
}

/** @param {(address: string) => void} go to the room, if what was entered is one */
async function enter(go) {
  const said = document.getElementById('error-room');
  try {
    const { room, password } = placeEntered(field.value);
    await checkEntry(room ?? '', password);
    field.removeAttribute('aria-invalid');
    said.textContent = '';
    go(addressOf(room, password));
  } catch (error) {
    if (error.name !== 'NetworkError') throw error;
    field.setAttribute('aria-invalid', 'true');
    said.textContent = error.message;
    field.focus();
  }
}
