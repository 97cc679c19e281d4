// The room's name, how far its work is in the tab's title, and what was finished in the live region.

const LONGEST_CHOSEN_ID = 20; // random ones have 22 characters

// Twin of rooms.page.name_of.
export const nameOf = (title, room) =>
  title || `Room ${room.length <= LONGEST_CHOSEN_ID ? room : room.slice(0, 8)}`;

export function titleOf(jobs, name, paused = false) {
  if (paused && jobs.some(({ state }) => ['running', 'queued'].includes(state))) {
    return `Paused · ${name}`;
  }
  const running = jobs.filter((job) => job.state === 'running');
  if (running.length) {
    const images = running.flatMap((job) => job.images);
    const done = images.reduce((total, image) => total + image.step, 0);
    const steps = images.reduce((total, image) => total + image.steps, 0);
    return `${Math.floor((100 * done) / (steps || 1))} % · ${name}`;
  }
  const queued = jobs.filter((job) => job.state === 'queued').length;
  return queued ? `${queued} waiting · ${name}` : name;
}

// One sentence for pictures that came together, so that a batch is not read out one by one.
export function announcement(prompts) {
  const last = prompts.at(-1);
  if (!last) return '';
  if (prompts.length === 1) return `Picture finished: ${last}`;
  return `${prompts.length} pictures finished, the last one: ${last}`;
}
