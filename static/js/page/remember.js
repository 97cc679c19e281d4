// Keeps what was typed across reloads: settings for this browser, the prompt for this room and tab.

const SETTINGS = ['model', 'size', 'steps', 'guidance', 'num_images', 'negative_prompt'];
const SETTINGS_KEY = 'p2pweb.settings';
const promptKey = (room) => `p2pweb.prompt.${room}`;
const seedKey = (room) => `p2pweb.seed.${room}`;

export function restore(form, room, local = localStorage, session = sessionStorage) {
  const saved = parsed(local.getItem(SETTINGS_KEY));
  if (saved.model === form.elements.model.value) {
    for (const name of SETTINGS) set(form.elements[name], saved[name]);
  }
  const prompt = session.getItem(promptKey(room));
  if (prompt && !form.elements.prompt.value) form.elements.prompt.value = prompt;
  set(form.elements.seed, session.getItem(seedKey(room)) ?? undefined);
  const more = document.getElementById('more-settings');
  if (saved.more) more.open = true;
}

export function save(form, room, local = localStorage, session = sessionStorage) {
  const values = Object.fromEntries(SETTINGS.map((name) => [name, form.elements[name].value]));
  values.more = document.getElementById('more-settings').open;
  local.setItem(SETTINGS_KEY, JSON.stringify(values));
  session.setItem(promptKey(room), form.elements.prompt.value);
  session.setItem(seedKey(room), form.elements.seed.value);
}

function set(control, value) {
  if (typeof value !== 'string') return;
  const before = control.value;
  control.value = value;
  if (control instanceof HTMLSelectElement && control.value !== value) control.value = before;
}

function parsed(text) {
  try {
    return Object(JSON.parse(text ?? '{}'));
  } catch {
    return {};
  }
}
