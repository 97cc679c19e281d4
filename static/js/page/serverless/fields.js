// The fields of the room page's form: what was typed, what is wrong with it, and filling it.

import { focusFirstError } from 'page/form.js';

const FIELDS = [
  'prompt', 'negative_prompt', 'model', 'size', 'steps', 'guidance', 'seed', 'num_images',
];
const MORE = ['steps', 'guidance', 'seed', 'negative_prompt', 'picture_file'];

const WHOLE = /^-?[0-9]{1,15}$/;
const DECIMAL = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,2})?$/i;
const SIZE = /^([0-9]{1,5})x([0-9]{1,5})$/;

const theForm = () => document.getElementById('generate-form');

/**
 * What was typed, as values; what is wrong with these is for the room's host to say.
 * Twin of GenerateForm.settings in rooms/forms.py.
 * @param {HTMLFormElement} form
 * @returns {{request: object, errors: Record<string, string>}} errors: sentences by field
 */
export function requestIn(form) {
  const errors = {};
  const text = (name) => form.elements[name].value;
  const read = (name, pattern, sentence) => {
    const typed = text(name).trim();
    if (!typed || pattern.test(typed)) return typed ? Number(typed) : null;
    errors[name] = sentence;
    return null;
  };
  const whole = (name) => read(name, WHOLE, 'This must be a whole number.');
  const size = SIZE.exec(text('size').trim());
  if (!size && text('size')) errors.size = 'A size is two whole numbers, such as 256x256.';
  const request = {
    prompt: text('prompt'),
    negative_prompt: text('negative_prompt'),
    model: text('model'),
    width: size ? Number(size[1]) : null,
    height: size ? Number(size[2]) : null,
    steps: whole('steps'),
    guidance: read('guidance', DECIMAL, 'This must be a number, such as 4 or 4.5.'),
    seed: whole('seed'),
    num_images: whole('num_images'),
  };
  return { request, errors };
}

/**
 * Says what is wrong next to each field, and nothing next to the others.
 * @param {Record<string, string>} errors sentences by field; `form` is for no field
 */
export function showErrors(errors) {
  for (const place of theForm().querySelectorAll('.error')) {
    const field = place.id.replace(/^error-/, '');
    place.textContent = errors[field] ?? '';
    const control = document.getElementById(field);
    if (!control || !FIELDS.includes(field)) continue;
    if (field in errors) control.setAttribute('aria-invalid', 'true');
    else control.removeAttribute('aria-invalid');
  }
  if (MORE.some((field) => field in errors)) document.getElementById('more-settings').open = true;
  focusFirstError();
}

/**
 * Fills the form with the settings of a job, or with those that a picture brought.
 * @param {Record<string, unknown>} settings what is no setting, or of a model that is not here, stays
 *   as it was
 */
export function fillForm(settings) {
  const { elements } = theForm();
  const { width, height } = settings;
  const sides = Number.isInteger(width) && Number.isInteger(height) ? `${width}x${height}` : '';
  if (sides) offerSize(elements.size, width, height);
  const values = { ...settings, size: sides || elements.size.value, model: elements.model.value };
  for (const name of FIELDS) {
    const value = values[name];
    if (typeof value === 'string' || typeof value === 'number') elements[name].value = String(value);
  }
  elements.prompt.dispatchEvent(new Event('input', { bubbles: true }));
  elements.prompt.focus();
}

/** A size that the form does not offer by itself. */
function offerSize(select, width, height) {
  const value = `${width}x${height}`;
  if ([...select.options].some((option) => option.value === value)) return;
  const shape = width === height ? 'Square' : width > height ? 'Landscape' : 'Portrait';
  let group = [...select.children].find(({ label }) => label === shape);
  if (!group) {
    group = document.createElement('optgroup');
    group.label = shape;
    select.append(group);
  }
  group.append(new Option(`${width} × ${height}`, value));
}
