// What can be wrong with a package, as errors whose message is a sentence for people.

/**
 * @typedef {'insecure'|'unreachable'|'missing'|'damaged'|'manifest'|'other'|'declined'} PackageCode
 *   insecure: no hashes can be checked here (neither https nor localhost); unreachable: its host
 *   does not answer, or breaks off again and again; missing: the host has no such file; damaged:
 *   what came is not what its hash says, again and again; manifest: it is none, or not consistent;
 *   other: not the package that was expected; declined: nobody agreed to the download
 */

/** A package that cannot be loaded. */
export class PackageError extends Error {
  name = 'PackageError';

  /**
   * @param {PackageCode} code
   * @param {string} message a sentence
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.code = code;
  }
}
