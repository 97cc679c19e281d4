/**
 * A wire in memory: the page of a tab that is its own host. What is sent is a copy, as over any
 * wire, and arrives a moment later, in order.
 * @param {{receive(message: object): void, receiveBytes(bytes: ArrayBuffer): void}} other the end
 *   that hears it
 * @returns {{send(message: object): void, sendBytes(bytes: Uint8Array): void, buffered: number}}
 */
export function loopWire(other) {
  return {
    buffered: 0,
    send(message) {
      const copy = JSON.parse(JSON.stringify(message));
      queueMicrotask(() => other.receive(copy));
    },
    sendBytes(bytes) {
      const { buffer } = bytes.slice();
      queueMicrotask(() => other.receiveBytes(buffer));
    },
  };
}
