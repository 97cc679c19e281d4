// The page's connection to its room without a server: what page/socket.js is where there is one. The
// queue is held by one of the tabs that are here, perhaps this one (work/worker-coordinator.js); the
// messages are docs/api-serverless.md's.
//
// - Pictures are named by their hashes in messages; the page gets addresses of them.
// - `ask` waits for the answer to one message: what forms and buttons do without a server.

import { isPhone } from 'page/computing/device.js';
import { Asking, Refused } from 'page/serverless/asking.js';
import { ownClient } from 'page/serverless/client.js';
import { OwnerPanel } from 'page/serverless/owner-panel.js';
import { PictureAddresses } from 'page/serverless/picture-addresses.js';
import { hashOf, placeIn } from 'page/serverless/place.js';
import { Meeting } from 'page/serverless/meeting.js';
import { notice } from 'page/live.js';

export class RoomLine {
  #room;
  #page; // room.js, as the page knows the room
  #handlers;
  #coordinator = null;
  #leaving = null; // AbortController, while this is or gets connected
  #pictures;
  #asking;
  #owner;
  #kept = null; // a promise of kept.js, once the room was opened from what this browser has kept
  #asked = new Map(); // by number: { resolve, reject }
  #last = 0;
  #heard = Promise.resolve(); // messages are taken one after the other
  #served = new Map(); // by label of a channel: what takes those that other tabs open

  /**
   * @param {{id: string, label: string, room: import('../room.js').Room}} page id: of the room;
   *   label: of who looks
   * @param {object} handlers as RoomSocket's
   */
  constructor({ id, label, room }, handlers) {
    this.#room = id;
    this.#page = room;
    this.#handlers = handlers;
    this.#pictures = new PictureAddresses((name) => this.#coordinator?.blob(name));
    this.#asking = new Asking(room, this);
    this.#owner = new OwnerPanel(label);
  }

  async connect() {
    if (!window.isSecureContext) return; // the page says so
    this.#leaving = new AbortController();
    const { signal } = this.#leaving;
    const meeting = new Meeting(this.#room);
    try {
      const [{ WorkerCoordinator }, { id: client }, models] = await Promise.all([
        import('work/worker-coordinator.js'), ownClient(), hostModels(),
      ]);
      this.#coordinator = new WorkerCoordinator({
        room: this.#room, client, models, signal, onTrouble: say, alone: !meeting.possible,
        capable: !isPhone(),
        checks: document.body.dataset.checks !== 'off',
        handlers: {
          open: () => this.#handlers.open(),
          closed: () => this.#closed(),
          message: (message) => this.#hear(() => this.#receive(message)),
          bytes: (bytes) => this.#hear(() => this.#handlers.bytes(bytes)),
          revision: () => this.#page.revision,
          place: (place) => meeting.show(place),
          others: () => meeting.others(),
          channel: (channel) => this.#take(channel),
        },
      });
      await this.#coordinator.open();
      if (signal.aborted) await this.#coordinator.stop();
      else await meeting.begin(this.#coordinator, signal);
    } catch (error) {
      if (signal.aborted) return;
      notice('failed', true);
      throw error;
    }
  }

  send(message) {
    this.#coordinator?.send(message);
  }

  sendBytes(bytes) {
    this.#coordinator?.sendBytes(bytes);
  }

  /** Bytes that have not left yet. */
  get buffered() {
    return this.#coordinator?.buffered ?? 0;
  }

  /** To the tabs that are met, by their ids. */
  ways() {
    return Object.fromEntries(this.mesh.peers().map(
      ({ id, roundTripMs, mbitPerS }) => [id, { roundTripMs, mbitPerS }]));
  }

  /** @type {import('../../work/recruiting.js').Mesh} */
  mesh = {
    peers: () => this.#coordinator?.peers ?? [],
    serve: (label, take) => {
      if (take) this.#served.set(label, take);
      else this.#served.delete(label);
    },
  };

  #take(channel) {
    const take = this.#served.get(channel.label);
    take?.(channel);
    return take !== undefined;
  }

  /** The way to the others looks after itself. */
  hurry() {}

  stop() {
    this.#leaving?.abort();
    this.#leaving = null;
    const coordinator = this.#coordinator;
    this.#closed();
    this.#coordinator = null;
    coordinator?.stop();
  }

  /**
   * @param {object} message to the host
   * @returns {Promise<object>} its answer
   * @throws {Refused}
   */
  ask(message) {
    if (this.#coordinator?.place.holder !== 'here' && this.#coordinator?.place.holder !== 'there') {
      return Promise.reject(new Refused('The room is not open yet.'));
    }
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      this.send({ ...message, id });
    });
  }

  /** Jobs of an answer, with addresses in place of the names of pictures; see PictureAddresses. */
  withAddresses(jobs, options) {
    return this.#pictures.inJobs(jobs, options);
  }

  /** @param {string} url that a job has here @returns {Blob} */
  blobOf(url) {
    return this.#pictures.blobOf(url);
  }

  #closed() {
    for (const { reject } of this.#asked.values()) {
      reject(new Refused('The room has moved to another tab meanwhile: try again.'));
    }
    this.#asked.clear();
    this.#handlers.closed();
  }

  #hear(take) {
    this.#heard = this.#heard.then(() => this.#coordinator && take()).catch(reportError);
  }

  async #receive(message) {
    const asked = this.#asked.get(message.to);
    if (asked) {
      this.#asked.delete(message.to);
      if (message.type === 'answer') asked.resolve(message);
      else asked.reject(new Refused(message.detail, message));
      return;
    }
    if (!message.jobs) {
      this.#handlers.message(message);
      return;
    }
    this.#kept ??= import('page/serverless/kept.js').then(({ Kept }) => new Kept(message.jobs));
    this.#handlers.message({ ...message, jobs: await this.withAddresses(message.jobs) });
    (await this.#kept).show(this.#page);
    this.#pictures.keepOnly(this.#page.jobs);
    this.#owner.show(message.room);
    if (message.type === 'room.state') this.#fillAsAsked();
  }

  /** The address asks for the form of a picture here. */
  #fillAsAsked() {
    const { query, password } = placeIn(location.hash);
    if (query.has('like')) this.#asking.like(query.get('like'));
    const plain = hashOf(this.#room, password);
    if (location.hash !== plain) history.replaceState(history.state, '', plain);
  }
}

/** The models that this page was exported with: import('work/models.js').HostModel[] */
async function hostModels() {
  const url = document.getElementById('prompt-hint').dataset.vocabulary;
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: status ${answer.status}`);
  return (await answer.json()).models;
}

function say({ message }) {
  const said = document.querySelector('[data-notice="unstored"]');
  said.textContent = message;
  said.hidden = false;
}
