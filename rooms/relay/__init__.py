"""A Nostr relay for signalling: tabs of a room find each other through it (docs/relay.md).

It speaks the part of NIP-01 that Trystero's Nostr strategy needs: EVENT, REQ and CLOSE, answered by
EVENT, EOSE, OK and NOTICE. Events are ephemeral, checked, passed on to whoever listens now, and
forgotten.

- `events`, `filters`: what may be said and asked for
- `hub`: who listens to what
- `client`, `outbox`, `addresses`, `limits`: one connection, what waits for it, how much is allowed
- `bare`: the relay by itself, `python -m rooms.relay`, without Django
- `consumer`, `views`: the same within the site, at /relay/
- `shared`: one relay of several processes, over Redis
"""
