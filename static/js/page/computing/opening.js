// What a tab needs before it computes: the address of a package, a key, and leave to download what is
// large. Loaded when it does.

const KEY = 'p2pweb.tab';
const VARIANTS = ['f16', 'int8', 'f32', 'int4']; // the first that there is

// What opens the worker of this tab with the model that is chosen, and the words for what it says.
// list: address of the list of packages. open(options, focus): options of TabWorker.open; focus(): on
// the answer, where a download is asked for
export async function prepared(list, signal) {
  const model = document.getElementById('generate-form').elements.model.value;
  const url = await packageOf(model, list, signal);
  const [{ TabWorker }, words] = await Promise.all([
    import('work/tab-worker.js'), import('page/computing/sentences.js'),
  ]);
  const open = (options, focus) => TabWorker.open(url, {
    signal,
    key: keyOfTab(),
    confirmDownload: (question) => askFor(
      words.questionSentence(question), { signal, focus: focus() }),
    ...options,
  });
  return { open, words };
}

// The address of the package of a model that suits a browser best.
async function packageOf(model, list, signal) {
  const answer = await fetch(list, { signal }).catch(() => null);
  signal.throwIfAborted();
  if (!answer?.ok) throw new Error('The site did not say which models it has for browsers.');
  const { packages } = await answer.json();
  const mine = packages.filter((entry) => entry.model === model);
  const named = VARIANTS.map((name) => mine.find(({ variant }) => variant === name));
  const best = named.find(Boolean) ?? mine[0]; // a mixture, such as int4-f16-f16
  if (!best) throw new Error(`There is no package of ${model} for browsers on this site.`);
  return new URL(best.url, answer.url).href;
}

function keyOfTab() {
  const known = sessionStorage.getItem(KEY);
  if (known) return known;
  const key = [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('');
  sessionStorage.setItem(KEY, key);
  return key;
}

// Whether it may be downloaded. focus: on the answer, where nobody may be typing
function askFor(sentence, { signal, focus }) {
  return new Promise((resolve) => {
    const box = document.getElementById('compute-question');
    const answer = (agreed) => {
      box.hidden = true;
      box.onclick = null;
      resolve(agreed);
    };
    box.querySelector('p').textContent = sentence;
    box.onclick = ({ target }) => target.closest('button') && answer('agree' in target.dataset);
    signal.addEventListener('abort', () => answer(false));
    box.hidden = false;
    if (focus) box.querySelector('[data-agree]').focus();
  });
}
