// What the model can draw by name: completions while typing, and words it has not learned.

// A word is letters with their marks (vowel signs, accents) and digits; an emoji is one too.
const WORD = /\p{Extended_Pictographic}|[\p{L}\p{M}\p{N}]+(?:'[\p{L}\p{M}\p{N}]+)*/gu;
// Other scripts are known to be unknown while they are still being typed.
const UNFINISHED = /[\p{Script=Latin}\p{M}\p{N}']+$/u;
const LONGEST_NAME_WORDS = 5;
const SHOWN = 8;
const LONGEST_SHOWN = 24; // letters of a word it has not learned

// vocabulary: { names, colours, relations, words } as /api/models gives it.
export class Words {
  #names;
  #known;

  constructor({ names, colours, relations, words }) {
    this.#names = [...new Set([...names, ...colours])];
    const entries = [...names, ...colours, ...relations, ...words];
    this.#known = new Set(entries.flatMap((entry) => wordsOf(entry)));
  }

  // What the text before the caret may go on to: { start, options }, the best first. The longest
  // beginning of a name counts: "full mo" is the full moon, not every "mo".
  complete(text, caret) {
    const before = text.slice(0, caret);
    const starts = [...before.matchAll(WORD)].map((match) => match.index);
    if (!starts.length || /[^\p{L}\p{N}' -]$/u.test(before)) return nothing;
    for (const start of starts.slice(-LONGEST_NAME_WORDS)) {
      const typed = before.slice(start).toLowerCase();
      if (typed.trim().length < 2) continue;
      const options = this.#names.filter((name) => name.startsWith(typed) && name !== typed.trim());
      if (options.length) return { start, options: options.slice(0, SHOWN) };
    }
    const start = starts.at(-1);
    const last = before.slice(start).toLowerCase();
    if (last.length < 3) return nothing;
    const inside = this.#names.filter((name) => name.includes(` ${last}`));
    return { start, options: inside.slice(0, SHOWN) };
  }

  unknown(prompt) {
    return [...new Set(wordsOf(prompt).filter((word) => !this.#known.has(word)))];
  }

  // Nothing at all that it has learned: another language, only emoji, or only signs.
  knowsNothingOf(prompt) {
    return prompt.trim() !== '' && !wordsOf(prompt).some((word) => this.#known.has(word));
  }
}

const nothing = { start: 0, options: [] };
const wordsOf = (text) => text.toLowerCase().match(WORD) ?? [];

export const withoutUnfinishedWord = (text) => text.replace(UNFINISHED, '');

const shortened = (word) => {
  const letters = [...word];
  return letters.length > LONGEST_SHOWN ? `${letters.slice(0, LONGEST_SHOWN).join('')}…` : word;
};

// Gently: said under the prompt, in nobody's way. example: a prompt that the model understands.
export function hint(title, words, prompt, example) {
  if (words.knowsNothingOf(prompt)) {
    return `${title} knows none of this and will guess. It reads English: try “${example}”.`;
  }
  const unknown = words.unknown(prompt);
  if (!unknown.length) return '';
  const shown = unknown.slice(0, 4).map((word) => `“${shortened(word)}”`);
  const more = unknown.length > 4 ? ` and ${unknown.length - 4} more` : '';
  return `${title} has not learned ${shown.join(', ')}${more}: it will guess.`;
}
