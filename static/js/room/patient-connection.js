// Offers that wait longer than a minute for somebody to answer them.
//
// Trystero makes 20 offers when a room is joined. Those that are older than 57 s it takes back and
// makes anew on the same connection when somebody comes, and then no path is found (Chromium 156): who
// has been in a room for a minute met nobody new whose id was the larger one. An offer that nobody has
// answered stays good as long as the connection is open, with all the paths that were found since.

/** @returns {typeof RTCPeerConnection} for Trystero's `rtcPolyfill` */
export function patientConnection() {
  return class extends RTCPeerConnection {
    get #waits() {
      return this.signalingState === 'have-local-offer' && !this.remoteDescription;
    }

    restartIce() {
      if (!this.#waits) super.restartIce();
    }

    async createOffer(...options) {
      return this.#waits ? this.localDescription : super.createOffer(...options);
    }

    async setLocalDescription(...description) {
      const again = this.#waits && ['offer', 'rollback'].includes(description[0]?.type);
      return again ? undefined : super.setLocalDescription(...description);
    }
  };
}
