// Addresses for pictures that only this tab has: object URLs of blobs, in place of their names.

const TYPE = 'image/png';
const PREVIEW_TYPE = 'image/webp';
const REVOKED_AFTER_MS = 5000; // the page may still be drawing what was there

export class PictureAddresses {
  #bytesOf;
  #known = new Map(); // by name: promise of { url, blob }
  #blobs = new Map(); // by url
  #kept = new Set(); // names

  /** @param {(name: string) => Promise<Uint8Array|null>} bytesOf null for one that was lost */
  constructor(bytesOf) {
    this.#bytesOf = bytesOf;
  }

  /**
   * @param {object[]} jobs with names of blobs as addresses
   * @param {{forGood?: boolean}} [options] forGood: until the page is closed, whatever `keepOnly` says
   * @returns {Promise<object[]>} the same with addresses that a page can show; null for lost ones
   */
  inJobs(jobs, { forGood = false } = {}) {
    if (forGood) {
      for (const { url } of jobs.flatMap(({ images }) => images)) this.#kept.add(url);
    }
    return Promise.all(jobs.map(async (job) => ({
      ...job,
      images: await Promise.all(job.images.map(async (image) => ({
        ...image,
        url: await this.#address(image.url, TYPE),
        preview_url: await this.#address(image.preview_url, PREVIEW_TYPE),
      }))),
    })));
  }

  /** @param {string} url that `inJobs` gave @returns {Blob} */
  blobOf(url) {
    return this.#blobs.get(url);
  }

  /** Gives back the memory of all pictures that are in none of these jobs. */
  keepOnly(jobs) {
    const used = new Set(jobs.flatMap((job) =>
      job.images.flatMap(({ url, preview_url: preview }) => [url, preview])));
    for (const [name, promise] of this.#known) {
      promise.then((entry) => {
        if (!entry || used.has(entry.url) || this.#kept.has(name)) return;
        this.#known.delete(name);
        setTimeout(() => {
          URL.revokeObjectURL(entry.url);
          this.#blobs.delete(entry.url);
        }, REVOKED_AFTER_MS);
      });
    }
  }

  async #address(name, type) {
    if (!name) return null;
    if (!this.#known.has(name)) this.#known.set(name, this.#made(name, type));
    const made = await this.#known.get(name);
    if (!made) this.#known.delete(name);
    return made?.url ?? null;
  }

  async #made(name, type) {
    const bytes = await this.#bytesOf(name);
    if (!bytes) return null;
    const blob = new Blob([bytes], { type });
    const url = URL.createObjectURL(blob);
    this.#blobs.set(url, blob);
    return { url, blob };
  }
}
