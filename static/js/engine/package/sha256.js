/**
 * @param {Uint8Array} data
 * @returns {Promise<string>} SHA-256, in hexadecimal
 */
export async function sha256Of(data) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
