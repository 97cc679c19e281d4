// One picture, large, in a native dialog: arrows go through all of them, Escape closes.

// made(box, job, index): adds how the picture was made
export function startLightbox(powered, made) {
  const dialog = document.getElementById('lightbox');
  const image = dialog.querySelector('img');
  const text = dialog.querySelector('.lightbox-text');
  let shown = null; // id of the figure

  function show(figure) {
    const source = figure.querySelector('.picture-link img');
    shown = figure.id;
    image.src = source.src;
    image.alt = source.alt;
    const caption = figure.querySelector('figcaption').cloneNode(true);
    caption.querySelector('details').open = true;
    text.replaceChildren(...caption.children);
    powered(text);
    const [, job, index] = /^picture-(.+)-(\d+)$/.exec(shown);
    made(text, job, Number(index));
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const figures = [...document.querySelectorAll('.pictures > figure')];
    const at = figures.findIndex((figure) => figure.id === shown);
    if (figures.length) show(figures[(at + by + figures.length) % figures.length]);
  }

  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-open], a[data-timeline]');
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      show(link.closest('figure'));
    } else if (event.target.closest('[data-close]') || event.target === dialog) {
      dialog.close();
    }
  });
  dialog.addEventListener('click', (event) => {
    const by = Number(event.target.dataset.step);
    if (by) step(by);
  });
  dialog.addEventListener('keydown', ({ key }) => {
    if (key === 'ArrowRight') step(1);
    if (key === 'ArrowLeft') step(-1);
  });
  dialog.addEventListener('close', () => {
    const figure = document.getElementById(shown);
    figure?.querySelector('a[data-open]').focus({ preventScroll: true });
    text.replaceChildren();
  });

  // The picture on show may be deleted, by its owner here or by anybody who may.
  return function leaveIfGone() {
    if (dialog.open && !document.getElementById(shown)) dialog.close();
  };
}
