"""The receiving half of a link: what is arriving, and whether it may.

Twin of static/js/room/transfer/inbox.js. Nothing is allocated before kind, size, budget and the
owner's own question have been passed; what has come is checked against its SHA-256.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from rooms.remote.webrtc import frames
from rooms.remote.webrtc.frames import Frame, FrameError, TransferError
from rooms.remote.webrtc.limits import (
    BUDGET_BYTES,
    COST_OF_A_REFUSAL_BYTES,
    KINDS,
    LARGEST_BLOCK_BYTES,
    MOST_OVERDRAWN_BYTES,
    MOST_UNFINISHED,
    STALLED_AFTER_SECONDS,
    Kind,
)

ACKNOWLEDGED_AFTER_BYTES: Final = 2**19
ACKNOWLEDGED_AFTER_SECONDS: Final = 1.0


@dataclass(slots=True)
class Arrival:
    """A transfer that is held here, until it is delivered or dropped."""

    id: int
    kind: int
    reference: int
    total: int
    block_bytes: int = 0
    data: bytearray = field(default_factory=bytearray)
    blocks: int = 0
    acknowledged_bytes: int = 0
    said_at: float = 0.0
    progress_at: float = 0.0
    ready: bool = False


class Inbox:
    """deliver: kind, reference, bytes. expected: whether one of a kind and reference is wanted.

    Its methods raise TransferError when the whole link has failed.
    """

    def __init__(
        self,
        post: Callable[[bytes], None],
        deliver: Callable[[int, int, bytes], None],
        expected: Callable[[int, int], bool],
    ) -> None:
        self._post, self._deliver_to, self._expected = post, deliver, expected
        self._last_id = 0
        self._arriving: dict[int, Arrival] = {}
        self._refused: dict[int, float] = {}  # by id: since when
        self._ordered: deque[Arrival] = deque()
        self._held = self.held_bytes = self._overdrawn = 0

    def take(self, frame: Frame) -> None:
        match frame.type:
            case frames.WHOLE:
                self._whole(frame)
            case frames.OPEN:
                self._open(frame)
            case frames.BLOCK:
                self._block(frame)
            case frames.END:
                self._end(frame)
            case frames.CANCEL:
                self._cancelled(frame)

    # Frames --------------------------------------------------------------------------------------
    def _whole(self, frame: Frame) -> None:
        kind = self._numbered(frame)
        if not kind.short:
            raise FrameError("a transfer in one frame that may not be")
        code = self._refusal(kind, frame)
        if code:
            self._post(frames.refuse(frame.id, code))
            self._lose(frame.detail, code)
            return
        arrival = self._hold(frame)
        arrival.data += frame.following
        self._ready(arrival)

    def _open(self, frame: Frame) -> None:
        kind = self._numbered(frame)
        block_bytes = frames.block_bytes(frame)
        if not 1 <= block_bytes <= LARGEST_BLOCK_BYTES:
            raise FrameError("blocks of a size that is not allowed")
        code = self._refusal(kind, frame)
        if code:
            self._refuse(frame.id, frame.detail, code)
            return
        arrival = self._hold(frame)
        arrival.block_bytes = block_bytes
        arrival.said_at = arrival.progress_at = time.monotonic()
        self._arriving[frame.id] = arrival

    def _block(self, frame: Frame) -> None:
        arrival = self._known(frame.id)
        if arrival is None:
            return
        length = min(arrival.block_bytes, arrival.total - len(arrival.data))
        if frame.number != arrival.blocks or len(frame.following) != length or length == 0:
            raise FrameError("a block that is not the next one")
        arrival.data += frame.following
        arrival.blocks += 1
        now = arrival.progress_at = time.monotonic()
        news = len(arrival.data) - arrival.acknowledged_bytes
        late = now - arrival.said_at >= ACKNOWLEDGED_AFTER_SECONDS
        if news >= ACKNOWLEDGED_AFTER_BYTES or late:
            arrival.acknowledged_bytes, arrival.said_at = len(arrival.data), now
            self._post(frames.ack(frame.id, arrival.blocks))

    def _end(self, frame: Frame) -> None:
        arrival = self._known(frame.id)
        if arrival is None:
            del self._refused[frame.id]
            return
        if len(arrival.data) < arrival.total:
            raise FrameError("an end before all blocks")
        del self._arriving[frame.id]
        if hashlib.sha256(arrival.data).digest() == frame.following:
            self._ready(arrival)
            return
        self._drop(arrival)
        self._post(frames.refuse(frame.id, "corrupt"))
        self._lose(arrival.kind, "corrupt")

    def _cancelled(self, frame: Frame) -> None:
        arrival = self._known(frame.id)
        self._refused.pop(frame.id, None)
        if arrival is None:
            return
        self._drop(arrival)
        self._post(frames.refuse(frame.id, frame.code))
        self._lose(arrival.kind, frame.code)

    # Whether it may ------------------------------------------------------------------------------
    def _numbered(self, frame: Frame) -> Kind:
        if frame.id != self._last_id + 1:
            raise FrameError("a transfer out of turn")
        self._last_id = frame.id
        kind = KINDS.get(frame.detail)
        if kind is None:
            raise FrameError("a transfer of no kind that is known here")
        return kind

    def _refusal(self, kind: Kind, frame: Frame) -> str:
        """The code of why it is not taken, or nothing."""
        full = self.held_bytes + frame.size > BUDGET_BYTES or self._held >= MOST_UNFINISHED
        if frame.size > kind.most:
            code = "too-large"
        elif full:
            code = "over-budget"
        else:
            code = "" if self._expected(frame.detail, frame.number) else "unexpected"
        if code:
            # An answer that comes late is no crime, whatever its size.
            size = 0 if code == "unexpected" else frame.size
            self._overdrawn += max(size, COST_OF_A_REFUSAL_BYTES)
            if self._overdrawn > MOST_OVERDRAWN_BYTES:
                raise TransferError("flood", "The other side began far more than it finished.")
        return code

    def _refuse(self, id_: int, kind: int, code: str) -> None:
        self._refused[id_] = time.monotonic()
        self._post(frames.refuse(id_, code))
        self._lose(kind, code)

    def _lose(self, kind: int, code: str) -> None:
        if KINDS[kind].ordered:
            raise TransferError(code)

    def _known(self, id_: int) -> Arrival | None:
        """None for one that was refused while this was on its way."""
        arrival = self._arriving.get(id_)
        if arrival is None and id_ not in self._refused:
            raise FrameError("part of no open transfer")
        return arrival

    def _hold(self, frame: Frame) -> Arrival:
        arrival = Arrival(frame.id, frame.detail, frame.number, frame.size)
        self._held += 1
        self.held_bytes += frame.size
        # Its place is where it begins: what comes after one that never ends is never delivered.
        if KINDS[frame.detail].ordered:
            self._ordered.append(arrival)
        return arrival

    def _drop(self, arrival: Arrival) -> None:
        self._arriving.pop(arrival.id, None)
        self._held -= 1
        self.held_bytes -= arrival.total

    # Delivery ------------------------------------------------------------------------------------
    def _ready(self, arrival: Arrival) -> None:
        arrival.ready = True
        if not KINDS[arrival.kind].ordered:
            self._deliver(arrival)
        while self._ordered and self._ordered[0].ready:
            self._deliver(self._ordered.popleft())

    def _deliver(self, arrival: Arrival) -> None:
        self._drop(arrival)
        worth = max(arrival.total, COST_OF_A_REFUSAL_BYTES)
        self._overdrawn = max(0, self._overdrawn - worth)
        self._post(frames.done(arrival.id))
        self._deliver_to(arrival.kind, arrival.reference, bytes(arrival.data))

    def check(self) -> None:
        """Ends what stands still."""
        late = time.monotonic() - STALLED_AFTER_SECONDS
        for arrival in list(self._arriving.values()):
            if arrival.progress_at <= late:
                self._drop(arrival)
                self._refuse(arrival.id, arrival.kind, "stalled")
        if any(since <= late for since in self._refused.values()):
            raise TransferError("stalled")
