// Which tabs may compute in a room without a server, and as whom: twin of queue/genqueue/tabs.py.

import { workerId } from './clients.js';
import { precision } from './likeness.js';
import { Problem } from './problems.js';

const MOST_TABS_OF_A_ROOM = 64; // that compute
const MOST_TABS_OF_A_CLIENT = 8;
const COARSEST = 'int4'; // of a package of which nobody knows how it stores weights

/** Said to whom it happens. */
export const SHUT_OUT = 'What you computed here was found wrong, so you compute no more in this room.';

/**
 * A tab becomes a worker of the room, ready to lease.
 * @param {ReturnType<import('./work-messages.js').readHello>} hello
 * @param {import('./host-page.js').HostPage} page
 * @param {object} room
 * @param {string} room.id
 * @param {import('./models.js').HostModel[]} room.models
 * @param {import('./queue/room-queue.js').RoomQueue} room.queue
 * @param {Iterable<import('./host-page.js').HostPage>} room.pages all that are here
 * @returns {Promise<string>} its id as a worker
 * @throws {Problem} unknown-package, too-many-tabs, shut-out
 */
export async function admit(hello, page, { id, models, queue, pages }) {
  const { key, device, software, packages, kernels, stores, ownFirst } = hello;
  const opened = models.filter((model) => model.packages.some((name) => packages.includes(name)));
  const known = new Set(opened.flatMap((model) => model.packages));
  if (!packages.every((name) => known.has(name))) {
    throw new Problem('unknown-package',
      'This room has no such model package, or has it anew: load it again.');
  }
  const variants = packages.map((name) => opened.find(
    (model) => model.packages.includes(name)).variants?.[name] ?? COARSEST);
  const own = await workerId(page.client, id, key);
  // From here on nothing waits, so that tabs that come at once are counted one after the other.
  if (queue.isShutOut(page.label)) throw new Problem('shut-out', SHUT_OUT);
  const present = new Map(queue.workers().map((worker) => [worker.id, worker.client]));
  for (const { worker, label } of pages) if (worker) present.set(worker, label);
  refuseCrowd(present.size, MOST_TABS_OF_A_ROOM);
  refuseCrowd([...present.values()].filter((label) => label === page.label).length,
    MOST_TABS_OF_A_CLIENT);
  const worker = present.has(own) ? crypto.randomUUID() : own; // a tab that was duplicated
  queue.arrive({
    id: worker,
    client: page.label,
    kind: 'tab',
    name: `tab of ${page.name || page.label}`,
    device,
    software,
    kernels,
    models: opened.map(({ name }) => name),
    variant: precision(stores || [...new Set(variants)].join(' '), kernels),
    ownFirst,
  });
  return worker;
}

function refuseCrowd(here, limit) {
  if (here < limit) return;
  throw new Problem('too-many-tabs', `${here} tabs compute here already; more are not allowed.`);
}
