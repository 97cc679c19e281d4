// What can go wrong on the way to others, as a code for programs and a sentence for people.

export class NetworkError extends Error {
  /**
   * @param {'bad-room'|'bad-password'|'password-needed'|'wrong-password'|'no-password-needed'
   *   |'bad-relay'|'bad-ice-server'|'relay-only-without-turn'|'bad-message'|'bad-invitation'|'joined-already'|'peer-gone'|'channel-refused'} code
   * @param {string} message a sentence
   */
  constructor(code, message) {
    super(message);
    this.name = 'NetworkError';
    this.code = code;
  }
}
