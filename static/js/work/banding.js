// The pictures of this tab's chunks, in bands of rows with the help of other tabs where that is faster.
//
// - Everybody computes the rows that the planner gave them; means and variances cross at every norm.
// - Whatever the others do, the picture is made: alone, from the beginning, where one of them fails.
// - What another tab computes is checked now and then by computing its band here as well.

import { bandsOf, joined } from '../engine/bands.js';
import { chooseBands } from './bands-planner.js';
import { Ledger } from './ledger.js';
import { placeOpaque } from './pixels.js';

const ASKED_WITHIN_MS = 1000; // and a tenth of what a decode takes
const FIRST_WITHIN_MS = 15_000; // of a band: it loads what it has never needed
const LATE_MS = 1000; // beside several times what the whole picture takes
const LATE_TIMES = 4;
const UNMEASURED_S = 15;
const CHECKED_RUNS = 0.125; // after the first run with a tab, which always is
const WITHOUT_ROOM = ['too-large', 'out-of-memory'];
const TOLERANCE = 2e-2; // relative L2 of moments and pixels: f16 beside f32 stays below 5e-3

export class Banding {
  #engine;
  #partners;
  #speeds;
  #setting;
  #onStrategy;
  #random;
  #met = new Set(); // sizes that were decoded alone
  #roomless = new Set(); // sizes of which there is no room for bands here

  /**
   * @param {object} options as of `Recruiting`, and
   * @param {import('./partners.js').Partners} options.partners
   * @param {import('./speeds.js').Speeds} options.speeds
   */
  constructor({ engine, partners, speeds, setting, onStrategy, random }) {
    this.#engine = engine;
    this.#partners = partners;
    this.#speeds = speeds;
    this.#setting = setting;
    this.#onStrategy = onStrategy;
    this.#random = random;
  }

  /** As `Engine.decode`. ledger: of who helped. */
  async decode(request, { signal, ledger = new Ledger() }) {
    const { choice, found } = await this.#choose(request);
    signal.throwIfAborted();
    if (!choice) return this.#alone(request, signal);
    this.#tell(choice);
    if (choice.strategy === 'alone') return this.#alone(request, signal);
    const split = this.#split(choice, found, request.shape);
    const picture = await this.#together(request, split, signal);
    if (picture) {
      for (const { partner, moved } of split.members) ledger.note(partner.worker, moved);
      return picture;
    }
    this.#tell(choice, { strategy: 'alone', ended: split.why });
    return this.#alone(request, signal);
  }

  async #alone(request, signal) {
    const began = performance.now();
    const picture = await this.#engine.decode(request, { signal });
    const size = request.shape.join();
    // The first one of a size also compiles, and measures dispatches: see pace.js
    if (this.#met.has(size)) {
      this.#speeds.note('decode', request.shape, (performance.now() - began) / 1000);
    }
    this.#met.add(size);
    return picture;
  }

  #tell(choice, more = {}) {
    const [peer = null] = choice.peers;
    this.#onStrategy({
      real: null, ended: null, ...choice, peer, name: this.#partners.nameOf(peer), ...more,
    });
  }

  // Choosing --------------------------------------------------------------------------------------
  /** @returns {Promise<{choice: object|null, found: object}>} choice: null where nobody is there */
  async #choose({ shape }) {
    const { others } = this.#partners;
    const aloneS = this.#speeds.of('decode', shape);
    const situation = {
      setting: this.#setting, aloneS, others, busy: 0, candidates: [], rows: shape[1],
      norms: this.#engine.bandChannels.length, setupS: this.#speeds.of('banding', shape) ?? 0,
      shares: null, room: !this.#roomless.has(shape.join()),
    };
    const first = chooseBands(situation);
    if (!others || first.why !== 'nobody' || !situation.norms) {
      return { choice: others && situation.norms ? first : null, found: null };
    }
    const most = this.#setting === 'bands' ? Infinity
      : Math.min(ASKED_WITHIN_MS, 100 * (aloneS ?? 0));
    const asked = await this.#partners.ask((partner) => partner.askForBand(shape), most);
    const { partners, busy } = asked;
    const candidates = partners.map((partner) => partner.decoder(shape));
    const shares = await this.#shares(shape, situation, candidates);
    return { choice: chooseBands({ ...situation, busy, candidates, shares }), found: asked };
  }

  /** A pure function of what the planner may ask for; the engine's answers take a moment. */
  async #shares(shape, situation, candidates) {
    const known = new Map();
    let missing = null;
    const shares = (rows) => {
      if (known.has(rows.join())) return known.get(rows.join());
      missing = rows;
      return rows.map((count) => count / shape[1]);
    };
    for (;;) {
      missing = null;
      chooseBands({ ...situation, candidates, shares });
      if (!missing) return shares;
      known.set(missing.join(), await this.#engine.bandShares({ shape, bands: bandsOf(missing) }));
    }
  }

  // Together --------------------------------------------------------------------------------------
  #split(choice, { partners }, shape) {
    const [own, ...bands] = bandsOf(choice.rows);
    const members = choice.peers.map((id, at) => ({
      partner: partners.find((partner) => partner.id === id), band: bands[at], exchange: null,
    }));
    const unproven = members.filter(({ partner }) => !this.#partners.isProven(partner.id));
    const drawn = () => (this.#random() < CHECKED_RUNS
      ? [members[Math.floor(this.#random() * members.length)]] : []);
    const checked = unproven.length ? unproven : drawn();
    return { choice, own, members, checked, shape, why: null, culprit: null };
  }

  /** @returns {Promise<object|null>} the picture, or null; then `split.why` says why */
  async #together(request, split, signal) {
    const { latent, shape } = request;
    const { own, members, checked } = split;
    const began = performance.now();
    const givenUp = () => this.#end(split, 'over');
    signal.addEventListener('abort', givenUp);
    try {
      for (const member of members) {
        member.exchange = member.partner.beginBand({ latent, shape, band: member.band });
      }
      const bands = [own, ...checked.map(({ band }) => band)];
      const made = await this.#engine.decodeBands({ latent, shape, bands }, {
        signal, exchange: (mine) => this.#exchanged(split, mine),
      }).catch((error) => this.#withoutRoom(split, error));
      const picture = made && await this.#collected(split, made);
      if (picture) this.#measure(split, (performance.now() - began) / 1000);
      return picture;
    } finally {
      signal.removeEventListener('abort', givenUp);
      this.#end(split, 'over');
      for (const member of members) member.moved = member.partner.takeMoved();
      if (split.culprit) this.#avoidCulprit(split);
    }
  }

  /** The whole picture alone may need less at a time than two bands, or take more of them. */
  #withoutRoom(split, error) {
    if (!WITHOUT_ROOM.includes(error.code)) throw error;
    this.#roomless.add(split.shape.join());
    split.why = 'memory';
    return null;
  }

  #end({ members }, why) {
    for (const { partner, exchange } of members) {
      exchange?.end(why);
      if (exchange) partner.endOf(exchange);
    }
  }

  #avoidCulprit({ why, culprit }) {
    if (why === 'wrong' || why === 'nonsense') this.#partners.avoid(culprit.id, Infinity);
    else if (why !== 'busy') this.#partners.avoid(culprit.id);
  }

  /** What everybody has at a norm or at the end, or null; then the split says whose fault it is. */
  async #parts(split, norm) {
    const parts = await Promise.all(split.members.map(async (member) => {
      const part = await member.exchange?.given(norm, this.#patienceMs(member, split, norm));
      if (!part && !split.why) {
        split.why = member.exchange?.ended ?? 'gone';
        split.culprit = member.partner;
        this.#end(split, 'over'); // nobody waits for the others any more
      }
      return part ?? null;
    }));
    return split.why ? null : parts;
  }

  async #exchanged(split, { norm, moments: [own, ...again] }) {
    const parts = await this.#parts(split, norm);
    if (!parts || !this.#areRight(split, parts, again, nearMoments)) return null;
    const { members, choice } = split;
    const all = joined([own, ...parts], choice.rows);
    for (const { exchange } of members) exchange.send(norm, all);
    return all;
  }

  /** Whether what others gave is what was computed here again; else the split says who lied. */
  #areRight(split, parts, again, near) {
    const { members, checked } = split;
    const wrong = checked.find((member, at) => !near(parts[members.indexOf(member)], again[at]));
    if (wrong) Object.assign(split, { why: 'wrong', culprit: wrong.partner });
    return !wrong;
  }

  async #collected(split, [own, ...again]) {
    const parts = await this.#parts(split, this.#engine.bandChannels.length);
    const pixels = again.map(({ rgba }) => rgba);
    if (!parts || !this.#areRight(split, parts, pixels, nearPixels)) return null;
    for (const { partner } of split.checked) this.#partners.prove(partner.id);
    const { width } = own;
    const height = own.height + parts.reduce((all, { length }) => all + length / (3 * width), 0);
    const rgba = new Uint8ClampedArray(4 * width * height);
    rgba.set(own.rgba);
    let to = own.rgba.length;
    for (const rgb of parts) {
      placeOpaque(rgb, rgba, to);
      to += (rgb.length / 3) * 4;
    }
    return { width, height, rgba };
  }

  #measure({ choice, checked, shape, members }, tookS) {
    const aloneS = this.#speeds.of('decode', shape);
    if (aloneS === null || checked.length) return; // that one took longer
    const real = aloneS / tookS;
    if (choice.expected) {
      const setupS = this.#speeds.of('banding', shape) ?? 0;
      const more = tookS - (aloneS / choice.expected - setupS);
      this.#speeds.note('banding', shape, Math.max(0, more));
    }
    this.#tell(choice, { real });
    if (real < 1 && this.#setting === 'auto') {
      for (const { partner } of members) this.#partners.avoid(partner.id);
    }
  }

  #patienceMs({ partner }, { shape }, norm) {
    const { decodeS } = partner.decoder(shape);
    const wholeS = decodeS ?? this.#speeds.of('decode', shape) ?? UNMEASURED_S;
    return (norm === 0 ? FIRST_WITHIN_MS : LATE_MS) + LATE_TIMES * 1000 * wholeS;
  }
}

/** Means are compared beside the spread of their channels: they may be about zero. */
function nearMoments(given, expected) {
  const channels = expected.length / 2;
  let [meansApart, variancesApart, spread, variances] = [0, 0, 0, 0];
  for (let at = 0; at < channels; at += 1) {
    const variance = expected[channels + at];
    meansApart += (given[at] - expected[at]) ** 2;
    spread += expected[at] ** 2 + variance;
    variancesApart += (given[channels + at] - variance) ** 2;
    variances += variance ** 2;
  }
  return meansApart <= TOLERANCE ** 2 * spread && variancesApart <= TOLERANCE ** 2 * variances;
}

function nearPixels(rgb, rgba) {
  let [apart, size] = [0, 0];
  for (let from = 0, at = 0; from < rgb.length; from += 3, at += 4) {
    for (let colour = 0; colour < 3; colour += 1) {
      apart += (rgb[from + colour] - rgba[at + colour]) ** 2;
      size += rgba[at + colour] ** 2;
    }
  }
  return apart <= TOLERANCE ** 2 * size + rgb.length; // a level each way is rounding
}
