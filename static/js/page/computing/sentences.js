// What the panel "This tab" says of a tab that computes: a sentence for every state of
// work/tab-worker.js. Loaded with it.

const MEGABYTE = 1e6;

export function loadingSentence({ kind, done, total }) {
  if (kind === 'compile') return `Preparing the GPU: ${done} of ${total}.`;
  const of = `${megabytes(done)} of ${megabytes(total)} MB`;
  return kind === 'download' ? `Downloading the model: ${of}.` : `Loading the model: ${of}.`;
}

export function questionSentence({ bytes, title, saveData, fits }) {
  const parts = [`${title} is a download of ${megabytes(bytes)} MB.`];
  if (saveData) parts.push('Your browser is told to save data.');
  if (fits === false) {
    parts.push('It is more than this browser may store: it will be downloaded again the next time.');
  }
  return parts.join(' ');
}

const PAUSED = {
  hidden: 'Paused while this page is hidden. It goes on when you look at it.',
  battery: 'Paused: this device runs on its battery. It goes on when it is plugged in.',
};

// device: of the engine; room: { paused, waiting } as the page knows it, waiting: unfinished jobs
export function sentence(state, device, room = { paused: false, waiting: 0 }) {
  switch (state.state) {
    case 'connecting':
      return 'Ready; waiting for the connection to the room.';
    case 'waiting':
      return `Ready on ${device?.description ?? 'the GPU'}: ${waitsFor(room)}`;
    case 'computing':
      return [computing(state), state.strategy].filter(Boolean).join(' ');
    case 'helping':
      return state.message;
    case 'resting':
      return `Resting between steps: this tab computes at most ${percent(state.share)} of the time.`;
    case 'paused':
      return PAUSED[state.reason];
    default:
      return '';
  }
}

// What the others are told of why it computes no chunk of this room: `peer.status`. away: it works for
// the room's exported pages
export function statusOf({ state, reason = null, whom }, away) {
  if (away) return { status: 'away' };
  return state === 'helping' ? { status: 'helping', helps: whom } : { status: reason };
}

function waitsFor({ paused, waiting }) {
  if (paused) return 'waiting until the queue is resumed.';
  return waiting ? 'others compute what there is now.' : 'waiting for work.';
}

function computing({ kind, prompt, step, steps, share }) {
  const limited = share < 1 ? ` It computes at most ${percent(share)} of the time.` : '';
  if (kind === 'encode') return `Reading the prompt “${prompt}”.${limited}`;
  if (kind === 'decode') return `Finishing “${prompt}”.${limited}`;
  return `Computing step ${Math.min(step + 1, steps)} of ${steps} for “${prompt}”.${limited}`;
}

const percent = (share) => `${Math.round(100 * share)} %`;
const megabytes = (bytes) => Math.ceil(bytes / MEGABYTE).toLocaleString('en');
