// The form's own manners: Enter generates, examples and pictures fill it, and it remembers.

import { restore, save } from 'page/remember.js';

let loading = null;
let completion = null; // of later/completion.js, once somebody is about to type
const theForm = () => document.getElementById('generate-form');
const more = () => document.getElementById('more-settings');
const prompt = () => document.getElementById('prompt');

export function startForm(room) {
  const params = new URLSearchParams(location.search);
  // A form that was sent before these modules were here comes back as a page, as it was typed.
  if ('refused' in theForm().dataset) focusFirstError();
  else if (params.has('prompt') || params.has('like')) history.replaceState(history.state, '', location.pathname);
  else restore(theForm(), room);
  startCompletion();

  document.addEventListener('keydown', (event) => {
    if (event.target !== prompt() || completion?.key(event)) return;
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      completion?.close();
      if (!event.repeat) theForm().requestSubmit(); // a key held down asks once
    }
  });
  // So does a double click, which also ends one job and not the one that takes its place.
  document.addEventListener('click', (event) => {
    if (event.detail > 1 && event.target.closest('.generate, .job button')) event.preventDefault();
  });
  for (const type of ['input', 'change', 'toggle', 'htmx:after:swap']) {
    document.addEventListener(type, () => save(theForm(), room), type === 'toggle');
  }
  // What is wrong with a field is said until it is changed.
  for (const type of ['input', 'change']) {
    document.addEventListener(type, ({ target }) => {
      if (target.getAttribute('aria-invalid') !== 'true' || target.form !== theForm()) return;
      target.removeAttribute('aria-invalid');
      document.getElementById(`error-${target.name}`).textContent = '';
    });
  }
  // Morphing leaves details as their reader has them, so an error inside has to open them itself.
  document.addEventListener('htmx:after:swap', ({ detail }) => {
    if (document.querySelector('#more-settings .error:not(:empty)')) more().open = true;
    if (detail.ctx.response?.status === 422) focusFirstError();
  });
  document.addEventListener('click', (event) => {
    const example = event.target.closest('[data-example]');
    if (!example || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    fillPrompt(example.textContent);
  });
  acceptPictures();
  save(theForm(), room);
}

// Names under the prompt, and hints: loaded with the first prompt.
function startCompletion() {
  const load = () => {
    loading ??= import('page/later/completion.js').then(({ Completion }) => {
      completion = new Completion();
    });
  };
  document.addEventListener('focusin', ({ target }) => target === prompt() && load());
  document.addEventListener('htmx:after:swap', load, { once: true });
  if (prompt().value || document.activeElement === prompt()) load();
}

export const focusFirstError = () => theForm().querySelector('[aria-invalid="true"]')?.focus();

export function fillPrompt(text) {
  prompt().value = text;
  prompt().dispatchEvent(new Event('input', { bubbles: true }));
  prompt().focus();
}

// A PNG made here carries its settings; the server reads them and sends the form filled.
function acceptPictures() {
  const holdsFile = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
  document.addEventListener('dragover', (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    theForm().classList.add('dropping');
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) theForm().classList.remove('dropping');
  });
  document.addEventListener('drop', (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    theForm().classList.remove('dropping');
    document.getElementById('picture-file').files = event.dataTransfer.files;
    document.getElementById('picture-form').requestSubmit();
  });
  document.addEventListener('change', (event) => {
    const chosen = event.target.id === 'picture-file' && event.target.files.length > 0;
    if (chosen) document.getElementById('picture-form').requestSubmit();
  });
}
