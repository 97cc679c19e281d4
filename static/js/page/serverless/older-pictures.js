// The way to pictures that are no longer on the page that lives, without a server. They do not live:
// what changes elsewhere stays as it is here until the page is loaded again.

import { clone, fill } from 'page/slots.js';
import { galleryOf, olderSlots } from 'page/view.js';

export class OlderPictures {
  #room;
  #holder;
  /** @type {object[]} the jobs whose pictures are shown */
  jobs = [];

  /**
   * @param {import('../room.js').Room} room as the page knows it
   * @param {import('./room-line.js').RoomLine} holder
   */
  constructor(room, holder) {
    this.#room = room;
    this.#holder = holder;
  }

  /** @param {string} before the place from which on */
  async show(before) {
    const answer = await this.#holder.ask({ type: 'room.older', before });
    const jobs = await this.#holder.withAddresses(answer.jobs, { forGood: true });
    this.jobs.push(...jobs);
    const { client: label, rooms } = document.body.dataset;
    const { head } = this.#room;
    const viewer = { label, rooms, owner: head.owner === label };
    const pictures = document.createElement('div');
    pictures.className = 'pictures';
    pictures.append(...galleryOf(jobs, viewer).map((values) => fill(clone('picture'), values)));
    const heading = document.createElement('h3');
    heading.className = 'unseen';
    heading.tabIndex = -1;
    heading.textContent = 'Older pictures';
    const way = document.getElementById('older');
    way.before(heading, pictures);
    if (answer.older) {
      const link = way.querySelector('a');
      delete link.dataset.slots; // it leads on from here, whatever the room's newest pictures are
      link.href = olderSlots(head.room, answer.older, viewer).older_url;
    } else {
      way.remove();
    }
    heading.focus({ preventScroll: true });
  }

  /** A picture that was deleted, if it is among these. */
  remove(job, index) {
    document.querySelector(`.pictures ~ .pictures > #picture-${CSS.escape(job)}-${index}`)?.remove();
  }
}
