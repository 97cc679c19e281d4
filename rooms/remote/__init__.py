"""A helper: a worker on another machine that computes for one room of a site.

- `address`: the room's URL, and joining it through the API. `exported`: that of an exported page.
- `conversation`: messages with the bytes that follow them. `line`: over a site's WebSocket.
- `webrtc`: over a data channel, with the tab that keeps the queue of a room without a server.
- `leases`: what a queue asks for, checked against the model.
- `chunks`: a chunk's tensors in, its result out; knows no messages.
- `helper`: the loop that joins them.

It has no database: it needs model folders, a device, and the address of a room.
"""
