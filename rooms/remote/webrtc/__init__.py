"""A helper's way into a room without a server: the tabs' own protocols, spoken by Python.

From the relay upwards, each knowing only what stands before it:

- `trystero`: what Trystero 0.25.4 says: topics, ciphers, frames of its channel. `nostr`: a relay.
- `connection`: one WebRTC connection with a tab, from its offer on. `signalling`: who is there.
- `strangers`: what others may say. `peer`: a tab that was met. `mesh`: all of them.
- `frames`, `inbox`, `outbox`, `link`: transfers, as docs/transfers.md describes them.
- `background`: an event loop for callers that wait. `line`: a worker's conversation with the tab
  that keeps the queue, for `rooms.remote.helper`.

A helper answers offers and makes none: its id is larger than any tab's, and of two ends the one
with the smaller id offers. So two helpers do not meet, which they need not.

Needs aiortc (requirements-webrtc.txt).
"""
