// A list entry that goes takes the focus along, and a keyboard would be back at the top of the page.
// Here the entry that takes its place gets it, or the list's heading when none is left.

const LISTS = '#queue > *, .pictures > *, #peers > *';

let last = null; // the entry that has the focus: { element, list, at }

export function startFocus() {
  document.addEventListener('focusin', ({ target }) => {
    const element = target.closest(LISTS);
    const list = element?.parentElement;
    last = element && { element, list, at: [...list.children].indexOf(element) };
  });
  document.addEventListener('htmx:after:swap', keepFocus);
}

// After anything that may have removed entries.
export function keepFocus() {
  if (!last || last.element.isConnected || document.activeElement !== document.body) return;
  const { list } = last;
  if (!list.isConnected) return;
  const neighbour = list.children[Math.min(last.at, list.children.length - 1)];
  const control = neighbour?.querySelector('a[href], button:not([hidden])');
  const heading = list.closest('section').querySelector('h2');
  if (!control) heading.tabIndex = -1;
  (control ?? heading).focus({ preventScroll: true });
}
