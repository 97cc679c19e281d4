// One tab as a worker, at its host: the `work.` messages of its wire as calls of the lease protocol.
// Twin of rooms/work.py and queue/genqueue/tabs.py.
//
// - A tab holds at most one lease. Its messages name chunk and attempt; what does not name the lease
//   that this very wire holds changes nothing and is answered with `work.lost`.
// - An idle tab has said `work.claim` once. Whenever anything changes in the room it is looked
//   whether there is a chunk for it; whenever it holds one, whether the chunk is still its own.
// - What comes as bytes is checked before it is kept (handing.js). Three faults in a row and the tab
//   is no worker any more.
// - A check is a lease like any other, to be computed afresh; what it found is measured here
//   (comparing.js). Who was shut out by one is dismissed.
//
// Its page calls it for one message after the other, each when the one before is done.

import { TensorError } from '../engine/safetensors.js';
import { SHUT_OUT } from './admission.js';
import { compare } from './comparing.js';
import { expectedTensors } from './expected.js';
import {
  BlobLostError, expectedResult, expectedStep, fits, needed, resultOf, secondsOf, settingsOf, stepOf,
} from './handing.js';
import { precision } from './likeness.js';
import { MessageError, Problem, unknownType, whole } from './problems.js';
import { LeaseLost } from './queue/room-queue.js';
import { Upload } from './uploads.js';
import { readAtHand, readDevice, readHello, readPartners } from './work-messages.js';

const RENEW_SECONDS = 10;
const STALLED_AFTER_MS = 300000; // without a step; the longest step or decoding of a slow device
const MOST_FAULTS_IN_A_ROW = 3;
const AGAIN_MS = 20; // beyond the moment
const NOTHING = { conditionings: new Set(), latents: new Set() }; // that a worker has at hand
const LONGEST_DETAIL = 500;
const FAULTS_OF_TABS = ['out-of-memory', 'model-unreadable', 'worker-lost', 'computation-failed'];

/** Lives as long as its wire; `leave` ends it. */
export class HostWork {
  #host;
  #page;
  #worker = null; // its id
  #lease = null;
  #model = null; // of the lease
  #leasedAt = 0;
  #lookAgain = null; // calls off a look that is due
  #waits = null; // it has said `work.claim`, and what it has at hand
  #upload = null;
  #received = 0; // bytes that came with the lease
  #faults = 0; // in a row
  #step = 0; // the furthest that was reported of the chunk at hand
  #progressAt = 0;

  /**
   * @param {import('./room-host.js').RoomHost} host
   * @param {import('./host-page.js').HostPage} page
   */
  constructor(host, page) {
    this.#host = host;
    this.#page = page;
  }

  /** @returns {string|null} the id of the worker that the tab is */
  get worker() {
    return this.#worker;
  }

  /** A message `work.<command>`. @throws {MessageError} */
  async receive(command, message) {
    if (command === 'hello') {
      await this.#hello(message);
      return;
    }
    if (!this.#worker && command !== 'goodbye') {
      this.#passOver(message);
      throw new MessageError('not-a-worker', 'Say work.hello first.');
    }
    switch (command) {
      case 'device': this.#equip(message); break;
      case 'claim': this.#claim(message); break;
      case 'renew': this.#withLease(message, (lease) => this.#renew(lease)); break;
      case 'step':
      case 'complete': await this.#announced(command, message); break;
      case 'fail': this.#withLease(message, (lease) => this.#fail(message, lease)); break;
      case 'release': this.#withLease(message, (lease) => this.#release(lease)); break;
      case 'goodbye': this.leave({ crashed: false }); break;
      default: throw unknownType();
    }
  }

  /** A binary message. @param {ArrayBuffer} bytes @throws {MessageError} */
  async piece(bytes) {
    const upload = this.#upload;
    if (!upload?.add(bytes)) {
      this.#upload = null;
      throw new MessageError('unexpected-bytes', 'No message has announced these bytes.');
    }
    if (!upload.complete) return;
    this.#upload = null;
    await upload.finish();
  }

  /** Anything may have changed in the room. */
  async look() {
    if (!this.#worker) return;
    const { queue } = this.#host;
    if (queue.isShutOut(this.#page.label)) {
      this.#host.shutOut(this.#page);
      this.#dismiss(new Problem('shut-out', SHUT_OUT));
      return;
    }
    if (this.#lease) {
      if (!queue.holds(this.#lease)) this.#lost(this.#lease);
    } else if (this.#waits) {
      this.#lookAgain?.();
      const lease = queue.claim(this.#worker);
      if (lease) {
        this.#host.changed();
        await this.#handOut(lease, this.#waits);
        return;
      }
      // What is open may be left for a moment to another worker, which may not come.
      const at = queue.claimAgainAt(this.#worker);
      const ms = at === null ? null : Math.max(0, at - this.#host.now()) + AGAIN_MS;
      this.#lookAgain = ms && this.#host.after(ms, () => this.#page.hint());
    }
  }

  /** The wire is closed, or the tab is no worker any more: what it holds goes back. */
  leave({ crashed }) {
    const worker = this.#worker;
    this.#worker = this.#lease = this.#waits = this.#upload = null;
    this.#lookAgain?.();
    this.#lookAgain = null;
    if (!worker) return;
    this.#host.queue.leave(worker, { crashed });
    this.#host.changed();
    this.#host.peersChanged();
  }

  // Coming and going ------------------------------------------------------------------------------
  async #hello(message) {
    if (this.#worker) throw new MessageError('bad-message', 'This tab is a worker already.');
    const hello = readHello(message);
    try {
      this.#worker = await this.#host.admit(hello, this.#page);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#sayDismissed(error);
      return;
    }
    if (this.#page.closed) { // meanwhile
      this.leave({ crashed: false });
      return;
    }
    this.#faults = 0;
    this.#host.changed();
    this.#host.peersChanged();
    this.#page.say({ type: 'work.welcome', worker: this.#worker, renew_seconds: RENEW_SECONDS });
  }

  /** Another backend than it said computes what it holds, and what follows. */
  #equip(message) {
    const { device, software, kernels, stores } = readDevice(message);
    this.#host.queue.equip(this.#worker, {
      device, software, kernels, variant: precision(stores, kernels),
    });
    this.#host.changed();
  }

  #dismiss(problem) {
    this.leave({ crashed: false });
    this.#sayDismissed(problem);
  }

  #sayDismissed({ code, message: detail }) {
    this.#page.say({ type: 'work.dismissed', code, detail });
  }

  // Waiting ---------------------------------------------------------------------------------------
  #claim(message) {
    if (this.#lease) throw new MessageError('bad-message', 'This tab holds a chunk already.');
    this.#waits = readAtHand(message);
    if (typeof message.own_first === 'boolean') {
      this.#host.queue.putOwnFirst(this.#worker, message.own_first);
      this.#host.changed();
    }
    this.#page.hint();
  }

  async #handOut(lease, atHand) {
    const { queue, blobs } = this.#host;
    const model = this.#host.model(lease.settings.model);
    let bytes;
    try {
      bytes = await needed(lease, lease.fresh ? NOTHING : atHand, model, blobs);
    } catch (error) {
      if (!(error instanceof BlobLostError)) throw error;
      this.#protocol(() => queue.fail(lease, 'file-lost', error.message, error.blob));
      return;
    }
    if (this.#worker !== lease.worker) return; // it left meanwhile, and the lease went back
    this.#lease = lease;
    this.#model = model;
    this.#waits = null;
    this.#received = bytes.length;
    this.#step = lease.start;
    this.#leasedAt = this.#progressAt = this.#host.now();
    const { chunk, attempt, kind, job, image, seed, start, stop, fresh } = lease;
    const settings = settingsOf(lease.settings);
    this.#page.say(
      { type: 'work.lease', chunk, attempt, kind, job, image, seed, start, stop, settings,
        fresh, bytes: bytes.length }, bytes);
  }

  // Holding a chunk -------------------------------------------------------------------------------
  /** The lease, when the message names it. */
  #named(message) {
    const chunk = whole(message, 'chunk');
    const attempt = whole(message, 'attempt');
    const lease = this.#lease;
    return lease?.chunk === chunk && lease.attempt === attempt ? lease : null;
  }

  #withLease(message, act) {
    const lease = this.#named(message);
    if (lease) act(lease);
    else this.#sayLost(message);
  }

  #renew(lease) {
    if (!this.#endedAsStalled(lease)) this.#reported(lease, () => this.#host.queue.renew(lease));
  }

  /** No lease is held by renewing it for ever, nor by reporting one step again and again. */
  #endedAsStalled(lease) {
    if (this.#host.now() - this.#progressAt <= STALLED_AFTER_MS) return false;
    this.#endWithFault(lease, 'worker-lost', 'No step came.', 'stalled');
    return true;
  }

  #fail({ fault: said, detail = '' }, lease) {
    const fault = FAULTS_OF_TABS.includes(said) ? said : 'computation-failed';
    this.#endWithFault(lease, fault, String(detail).slice(0, LONGEST_DETAIL));
  }

  /** It rests: others may go on with what it has left. Who leaves nothing has no reason to. */
  #release(lease) {
    if (this.#step === lease.start) throw new MessageError('bad-message', 'No step was left.');
    this.#lease = null;
    this.#protocol(() => this.#host.queue.release(lease));
  }

  /** Bytes will follow, or, for a mere step, not. */
  async #announced(command, message) {
    const lease = this.#named(message);
    const bytes = message.bytes === undefined ? 0 : whole(message, 'bytes');
    if (!lease) {
      this.#passOver(message);
      this.#sayLost(message);
      return;
    }
    const expected = command === 'complete'
      ? expectedResult(lease, this.#model)
      : expectedStep(lease, this.#model,
        { latent: message.latent === true, preview: message.preview === true });
    const then = (data) => this.#arrived(message, expected, data);
    if (!Object.keys(expected).length && !bytes) {
      await then(new Uint8Array(0));
    } else if (fits(expected, bytes)) {
      this.#expect(bytes, then);
    } else {
      this.#passOver(message);
      this.#endWithFault(lease, 'result-refused', `${bytes} bytes were announced.`, 'refused');
    }
  }

  /** The bytes that follow this message are on their way already. */
  #passOver(message) {
    const bytes = message.bytes === undefined ? 0 : whole(message, 'bytes');
    if (bytes) this.#expect(bytes, null);
  }

  #expect(bytes, then) {
    if (this.#upload) {
      throw new MessageError('bytes-missing', 'The bytes of an earlier message come first.');
    }
    this.#upload = new Upload(bytes, then);
  }

  async #arrived(message, expected, data) {
    const lease = this.#named(message);
    if (!lease) {
      this.#sayLost(message);
      return;
    }
    try {
      if (message.type === 'work.step') await this.#reportStep(lease, message, expected, data);
      else await this.#complete(lease, message, expected, data);
    } catch (error) {
      if (!(error instanceof TensorError)) throw error;
      this.#endWithFault(lease, 'result-refused', error.message, 'refused');
    }
  }

  async #reportStep(lease, message, expected, data) {
    const step = whole(message, 'step');
    if (lease.image === null || step <= lease.start || step > lease.stop) {
      throw new MessageError('bad-message', `This chunk is steps ${lease.start}..${lease.stop}.`);
    }
    if (step > this.#step) {
      this.#step = step;
      this.#progressAt = this.#host.now();
    } else if (this.#endedAsStalled(lease)) {
      return;
    }
    const { blobs, encode, queue } = this.#host;
    if (lease.check !== null) { // nobody goes on from what a checker computes, nor sees it
      this.#reported(lease, () => queue.checkpoint(lease, step));
      return;
    }
    const files = await stepOf(expected, data, encode);
    const latent = files.latent && await blobs.put(files.latent);
    const preview = files.preview && await blobs.put(files.preview);
    this.#reported(lease, () => queue.checkpoint(lease, step, { latent, preview }));
  }

  async #complete(lease, message, expected, data) {
    const { blobs, encode, queue } = this.#host;
    const partners = readPartners(message, lease);
    const seconds = secondsOf(message.seconds, (this.#host.now() - this.#leasedAt) / 1000);
    const result = await blobs.put(await resultOf(lease, expected, data, encode));
    if (lease.kind === 'decode' && lease.check === null) await this.#host.share(result);
    const how = { received: this.#received, sent: data.length, partners };
    const handIn = lease.check === null
      ? () => queue.complete(lease, result, seconds, how)
      : await this.#found(lease, expectedTensors(data, expected), result, seconds);
    if (!this.#reported(lease, handIn)) return;
    this.#lease = null;
    this.#faults = 0;
    // A picture that is said to be taken is there again when this tab is closed now.
    if (lease.kind === 'decode') await this.#host.keptPicture();
    this.#page.say(named(lease, 'work.done'));
  }

  /** Held against what it checks; the call that says so. */
  async #found(lease, computed, result, seconds) {
    const { blobs, queue } = this.#host;
    const about = queue.disputed(lease);
    const found = about && await compare(lease, about, computed, this.#model, blobs);
    return () => queue.judge(lease, result, seconds, found);
  }

  // Endings ---------------------------------------------------------------------------------------
  /** True when the queue took it. */
  #reported(lease, report) {
    try {
      report();
    } catch (error) {
      if (!(error instanceof LeaseLost)) throw error;
      this.#lost(lease);
      return false;
    }
    this.#host.changed();
    return true;
  }

  /** A call that ends a lease, which may have ended already. */
  #protocol(call) {
    try {
      call();
    } catch (error) {
      if (!(error instanceof LeaseLost)) throw error;
    }
    this.#host.changed();
  }

  /** code: of the `work.lost` that says so; none where the tab knows. */
  #endWithFault(lease, fault, detail, code = '') {
    this.#lease = null;
    let counts = true;
    this.#protocol(() => { counts = this.#host.queue.fail(lease, fault, detail); });
    if (code) this.#sayLost(lease, code);
    if (!counts) return; // it has too little memory for this one, which says nothing of others
    this.#faults += 1;
    if (this.#faults < MOST_FAULTS_IN_A_ROW) return;
    this.#dismiss(new Problem('too-many-faults',
      'Nothing that this tab began came to a good end, so others do it now.'));
  }

  #lost(lease) {
    this.#lease = null;
    this.#sayLost(lease);
  }

  #sayLost(lease, code = 'lost') {
    this.#page.say({ ...named(lease, 'work.lost'), code });
  }
}

const named = ({ chunk, attempt }, type) => ({ type, chunk, attempt });
