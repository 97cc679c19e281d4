// The forms and buttons of the room page without a server: each is answered by the room's holder.
//
// The markup is the server's, and what a button means is its address: that of the server's action
// after the # (page/serverless/place.js). The holder hears a message, docs/api-serverless.md.

import { fillForm, requestIn, showErrors } from 'page/serverless/fields.js';
import { OlderPictures } from 'page/serverless/older-pictures.js';
import { placeIn } from 'page/serverless/place.js';
import { settingsIn } from 'page/serverless/png-settings.js';
import { zipOf } from 'page/serverless/zip.js';
import { forgetWhatWasSaid, notice } from 'page/live.js';
import { fileStem } from 'page/view.js';

const MAX_PICTURE_BYTES = 16 * 1024 * 1024;
const GONE = ['no-such-job', 'no-such-picture', 'not-found'];
const SETTINGS = [
  'prompt', 'negative_prompt', 'model', 'width', 'height', 'steps', 'guidance', 'num_images',
];

/** What is not done, and a sentence for people why; field: of the form, if it is about one. */
export class Refused extends Error {
  /** @param {string} detail @param {{code?: string, field?: string|null, errors?: object[]}} [more]
   *   errors: everything that is wrong, each with `field` and `detail` */
  constructor(detail, { code = 'refused', field = null, errors } = {}) {
    super(detail);
    this.code = code;
    this.errors = errors ?? [{ field, detail }];
  }
}

export class Asking {
  #room;
  #holder;
  #older;

  /**
   * @param {import('../room.js').Room} room as the page knows it
   * @param {import('./room-line.js').RoomLine} holder
   */
  constructor(room, holder) {
    this.#room = room;
    this.#holder = holder;
    this.#older = new OlderPictures(room, holder);
    document.addEventListener('submit', (event) => this.#submitted(event));
    document.addEventListener('click', (event) => this.#clicked(event));
  }

  /** Fill the form like a picture of this room, `job/number`. */
  like(choice) {
    const found = this.#find(choice);
    if (found) fillForm({ ...found.job, seed: found.image.seed, num_images: 1 });
  }

  async #submitted(event) {
    const { target: form, submitter } = event;
    const address = submitter?.getAttribute('formaction') ?? form.getAttribute('action');
    const { path } = placeIn(new URL(address, location.href).hash);
    forgetWhatWasSaid();
    try {
      await this.#do(path, form, submitter);
    } catch (error) {
      if (!(error instanceof Refused)) {
        notice('failed', true);
        throw error;
      }
      this.#refuse(path, error);
    }
  }

  #clicked(event) {
    const link = event.target.closest('a[data-edit], #older a');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const { query } = placeIn(link.hash);
    document.getElementById('lightbox').close();
    if (query.has('like')) this.like(query.get('like'));
    else this.#older.show(query.get('before')).catch(() => notice('failed', true));
  }

  #refuse(path, { code, errors, message }) {
    if (path === '' || path === 'read-picture/') {
      showErrors(byField(errors));
    } else if (GONE.includes(code)) {
      notice('missing', true);
    } else {
      const said = document.createElement('p');
      said.className = 'notice';
      said.textContent = message;
      document.getElementById('said').replaceChildren(said);
    }
  }

  #do(path, form, submitter) {
    const [kind, id, ...rest] = path.split('/');
    const data = new FormData(form);
    switch (kind) {
      case '':
        return this.#generate(form);
      case 'jobs':
        return this.#holder.ask({ type: `job.${rest[0]}`, job: id });
      case 'pictures':
        return this.#picture(`${id}/${rest[0]}`, rest[1]);
      case 'settings':
        return this.#title(data.get('title'));
      case 'pause':
        return this.#holder.ask({ type: 'room.pause', paused: submitter.value === '1' });
      case 'read-picture':
        return this.#read(data.get('picture_file'));
      case 'pictures.zip':
        return this.#zip(data.getAll('picture'));
      default:
        throw new Error(`Nothing is known of '${path}'.`);
    }
  }

  async #generate(form) {
    const { request, errors } = requestIn(form);
    if (Object.keys(errors).length === 0) await this.#holder.ask({ type: 'job.submit', request });
    showErrors(errors);
  }

  async #picture(choice, action) {
    const found = this.#find(choice);
    if (!found) throw new Refused('It is gone.', { code: 'no-such-picture' });
    const { job, image } = found;
    if (action === 'delete') {
      await this.#holder.ask({ type: 'picture.delete', job: job.id, index: image.index });
      this.#older.remove(job.id, image.index);
      return null;
    }
    const [seed] = action === 'again' ? [image.seed] : crypto.getRandomValues(new Uint32Array(1));
    const asked = Object.fromEntries(SETTINGS.map((name) => [name, job[name]]));
    return this.#holder.ask({ type: 'job.submit', request: { ...asked, seed, num_images: 1 } });
  }

  #find(choice) {
    const [id, number] = String(choice).split('/');
    const job = [...this.#room.jobs, ...this.#older.jobs].find((one) => one.id === id);
    const image = job?.images.find(({ index, url }) => index === Number(number) && url);
    return image ? { job, image } : null;
  }

  async #title(title) {
    await this.#holder.ask({ type: 'room.title', title });
    const said = document.createElement('span');
    said.className = 'hint';
    said.setAttribute('role', 'status');
    said.textContent = 'Saved.';
    const row = document.querySelector('#owner form .row');
    row.querySelector('[role="status"]')?.remove();
    row.append(said);
  }

  async #read(file) {
    if (!file?.size) throw unreadable('Choose a PNG first.');
    if (file.size > MAX_PICTURE_BYTES) {
      throw unreadable('This file is larger than any picture made here.');
    }
    let found;
    try {
      found = settingsIn(new Uint8Array(await file.arrayBuffer()));
    } catch {
      throw unreadable('This is not a PNG with settings that can be read.');
    }
    if (!found) throw unreadable('This picture holds no settings: it was not made here.');
    showErrors({});
    fillForm({ ...found, num_images: 1 });
  }

  async #zip(choices) {
    const chosen = choices.map((choice) => this.#find(choice)).filter(Boolean);
    if (!chosen.length) throw new Refused('Select pictures first.');
    const taken = new Set();
    const files = await Promise.all(chosen.map(async ({ job, image }) => ({
      name: freeName(`${fileStem(job.prompt)}-${image.seed}`, taken),
      bytes: new Uint8Array(await this.#holder.blobOf(image.url).arrayBuffer()),
      made: new Date(job.finished_at ?? job.created_at),
    })));
    const link = document.createElement('a');
    link.href = URL.createObjectURL(zipOf(files));
    link.download = 'pictures.zip';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the download has begun long before
  }
}

/** A side belongs to the size; what belongs to no field is said on top; the first word stands. */
function byField(errors) {
  const said = {};
  for (const { field, detail } of errors) {
    const name = ['width', 'height'].includes(field) ? 'size' : field ?? 'form';
    said[name] ??= detail;
  }
  return said;
}

const unreadable = (why) => new Refused(why, { field: 'picture_file' });

function freeName(stem, taken) {
  let name = `${stem}.png`;
  for (let count = 2; taken.has(name); count += 1) name = `${stem}-${count}.png`;
  taken.add(name);
  return name;
}
