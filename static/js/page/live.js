// Puts the room into the page: fills the partials, and never touches what did not change.

import { fill, reconcile } from 'page/slots.js';
import { helpersOf, peerSlots, sharesOf } from 'page/people.js';
import { galleryOf, noticeSlots, olderSlots, queueOf } from 'page/view.js';

export class LivePage {
  #viewer;
  #ways;

  // viewer: { label, rooms }; whether they own the room is known anew with every state.
  // ways: { roundTripMs, mbitPerS } by the ids of those peers of whom they are known, or by their mesh
  // ids
  constructor(viewer, { added, ways = () => ({}) }) {
    this.#viewer = viewer;
    this.#ways = ways;
    this.added = added;
  }

  // Returns the figures that were not there before.
  show(room) {
    const viewer = { ...this.#viewer, owner: room.head.owner === this.#viewer.label };
    const { jobs } = room;
    const { paused } = room.head;
    const { added } = this;
    const queue = document.getElementById('queue');
    reconcile(queue, 'job', queueOf(jobs, viewer, paused), added);
    queue.dataset.revision = room.revision;
    const pictures = document.getElementById('pictures');
    const fresh = reconcile(pictures, 'picture', galleryOf(jobs, viewer), added);
    pictures.dataset.revision = room.revision;
    this.dropDoubles();
    const older = document.getElementById('older'); // gone with the last of them
    if (older) fill(older, olderSlots(room.head.room, room.older, viewer));
    const shares = sharesOf(jobs);
    const helpers = helpersOf(room.head, jobs, shares);
    reconcile(document.getElementById('helpers'), 'helper', helpers, added);
    fill(document.getElementById('notices'), noticeSlots(room.head, room.waiting.length));
    this.showPeers(room, shares, viewer);
    return fresh;
  }

  showPeers(room, shares, viewer) {
    const { head, jobs, peer: own } = room;
    const ways = this.#ways();
    const peers = room.peers.map((peer) =>
      peerSlots(peer, head, viewer, own, jobs, shares, ways[peer.id] ?? ways[peer.mesh]));
    reconcile(document.getElementById('peers'), 'peer', peers, this.added);
    document.getElementById('peer-count').textContent = String(room.peers.length);
  }

  // An older picture that followed to the lists that live, by a message or by htmx, is there twice.
  dropDoubles() {
    for (const figure of document.querySelectorAll('.pictures ~ .pictures > figure')) {
      if (document.getElementById(figure.id) !== figure) figure.remove();
    }
  }

  // htmx has put in lists of an older revision than the room known here?
  isBehind(room) {
    const shown = ['queue', 'pictures'].map((id) => document.getElementById(id).dataset.revision);
    return shown.some((revision) => Number(revision) < room.revision);
  }
}

export function notice(name, shown) {
  document.querySelector(`[data-notice="${name}"]`).hidden = !shown;
}

// What was said of the last request is over with the next one, or with other words in the form.
export function forgetWhatWasSaid() {
  const said = document.querySelectorAll('[data-notice="failed"], [data-notice="missing"], [data-notice="unanswered"]');
  for (const element of said) element.hidden = true;
  document.getElementById('said').replaceChildren();
  document.querySelector('#owner [role="status"]')?.replaceChildren();
}
