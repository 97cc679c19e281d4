// Fills the named slots of a partial that Django rendered, or that the page cloned from its
// <template>. The markup exists once, in templates/; this file knows only three attributes:
//
//   data-slot="prompt"                  text content
//   data-slots="id=id hidden=no_cancel" attributes: text sets, true sets empty, null removes
//   data-each="tiles" data-partial="tile"   children, one clone of template "tile" for each value
//
// Text is set as text, never as markup.

export function clone(name, root = document) {
  const template = root.querySelector(`template[data-partial-of="${name}"]`);
  return template.content.firstElementChild.cloneNode(true);
}

export function fill(element, values) {
  fillAttributes(element, values);
  const { slot, each } = element.dataset;
  if (each !== undefined) {
    fillEach(element, values[each] ?? []);
  } else if (slot !== undefined) {
    const text = String(values[slot] ?? '');
    if (element.textContent !== text) element.textContent = text;
  } else {
    for (const child of element.children) fill(child, values);
  }
  return element;
}

function fillAttributes(element, values) {
  for (const pair of element.dataset.slots?.split(' ') ?? []) {
    const [attribute, name] = pair.split('=');
    const value = values[name] ?? null;
    if (value === null || value === false) {
      element.removeAttribute(attribute);
    } else {
      const text = value === true ? '' : String(value);
      if (element.getAttribute(attribute) !== text) element.setAttribute(attribute, text);
    }
  }
}

function fillEach(element, list) {
  while (element.children.length > list.length) element.lastElementChild.remove();
  list.forEach((values, index) => {
    const child = element.children[index] ?? element.appendChild(clone(element.dataset.partial));
    fill(child, values);
  });
}

// Makes the children of `container` those of `list`, in its order. A child is known by its id, and
// one that stays is neither made anew nor moved without need: focus and loading pictures survive.
// `added(element)` is called for each new child. Returns the new children.
export function reconcile(container, partial, list, added = () => {}) {
  const wanted = new Set(list.map((values) => values.id));
  for (const child of [...container.children]) if (!wanted.has(child.id)) child.remove();
  const fresh = [];
  let next = container.firstElementChild;
  for (const values of list) {
    if (next?.id === values.id) {
      fill(next, values);
      next = next.nextElementSibling;
      continue;
    }
    const known = [...container.children].find((child) => child.id === values.id);
    const child = known ?? clone(partial);
    fill(child, values);
    if (known && container.moveBefore) container.moveBefore(child, next); // keeps the focus
    else container.insertBefore(child, next);
    if (!known) {
      fresh.push(child);
      added(child);
    }
  }
  return fresh;
}
