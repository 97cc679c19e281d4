"""The sending half of a link: what waits, what is on its way, and what the other end said of it.

The same frames as static/js/room/transfer/outbox.js sends, of two queues that take turns: what is
ordered, and short transfers beside it. A helper sends no long ones of other kinds.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rooms.remote.webrtc import frames
from rooms.remote.webrtc.frames import BLOCK_BYTES, Frame, FrameError, TransferError
from rooms.remote.webrtc.limits import BUDGET_BYTES, KINDS, MOST_UNFINISHED, STALLED_AFTER_SECONDS

WINDOW_BYTES: Final = 2**22  # of one transfer, sent and not acknowledged


@dataclass(slots=True)
class Transfer:
    kind: int
    reference: int
    data: bytes
    begun_id: int = 0  # 0 before its first frame
    sent: int = 0  # blocks
    acknowledged: int = 0
    ended: bool = False  # all of it was sent
    progress_at: float = 0.0

    @property
    def short(self) -> bool:
        return KINDS[self.kind].short and len(self.data) <= BLOCK_BYTES

    @property
    def blocks(self) -> int:
        return -(-len(self.data) // BLOCK_BYTES)


class Outbox:
    """takes_more: whether the channel does. Raises TransferError when the link has failed."""

    def __init__(self, post: Callable[[bytes], None], takes_more: Callable[[], bool]) -> None:
        self._post, self._takes_more = post, takes_more
        self._last_id = 0
        self._open: dict[int, Transfer] = {}
        self._open_bytes = 0
        self._ordered: deque[Transfer] = deque()
        self._short: deque[Transfer] = deque()
        self.queued_bytes = 0
        self._heard_at = time.monotonic()

    @property
    def unfinished(self) -> int:
        """How many transfers have not ended."""
        waiting = sum(1 for one in (*self._ordered, *self._short) if not one.begun_id)
        return len(self._open) + waiting

    def send(self, kind: int, data: bytes, reference: int = 0) -> None:
        """Raises TransferError at once for what is too large."""
        transfer = Transfer(kind, reference, data, progress_at=time.monotonic())
        ordered = KINDS[kind].ordered
        if len(data) > KINDS[kind].most or not (ordered or transfer.short):
            raise TransferError("too-large", f"{len(data)} bytes are too many for one transfer.")
        (self._ordered if ordered else self._short).append(transfer)
        self.queued_bytes += len(data)
        self.pump()

    def pump(self) -> None:
        """Send what the channel takes now."""
        while self._takes_more():
            sent = [self._advance(queue) for queue in (self._short, self._ordered)]
            if not any(sent):
                return

    def _advance(self, queue: deque[Transfer]) -> bool:
        """One frame of the first that waits; whether there was one to be sent."""
        if not queue:
            return False
        transfer = queue[0]
        if not transfer.begun_id:
            if not self._affords(transfer):
                return False
            self._begin(transfer)
        elif transfer.sent < transfer.blocks:
            if (transfer.sent - transfer.acknowledged + 1) * BLOCK_BYTES > WINDOW_BYTES:
                return False
            start = transfer.sent * BLOCK_BYTES
            data = transfer.data[start : start + BLOCK_BYTES]
            self._post(frames.block(transfer.begun_id, transfer.sent, data))
            transfer.sent += 1
            self.queued_bytes -= len(data)
        else:
            digest = hashlib.sha256(transfer.data).digest()
            self._post(frames.end(transfer.begun_id, digest))
            transfer.ended = True
        if transfer.ended:
            queue.popleft()
        return True

    def _affords(self, transfer: Transfer) -> bool:
        """Whether the other end would take it now, by the budget that both know."""
        fits = self._open_bytes + len(transfer.data) <= BUDGET_BYTES
        return fits and len(self._open) < MOST_UNFINISHED

    def _begin(self, transfer: Transfer) -> None:
        self._last_id += 1
        transfer.begun_id = id_ = self._last_id
        transfer.progress_at = time.monotonic()
        self._open[id_] = transfer
        self._open_bytes += len(transfer.data)
        if transfer.short:
            transfer.ended = True
            self.queued_bytes -= len(transfer.data)
            self._post(frames.whole(id_, transfer.kind, transfer.reference, transfer.data))
        else:
            total = len(transfer.data)
            self._post(frames.opening(id_, transfer.kind, transfer.reference, total))

    # From the other end --------------------------------------------------------------------------
    def take(self, frame: Frame) -> None:
        """ACK, DONE or REFUSE."""
        transfer = self._open.get(frame.id)
        if transfer is None:
            raise FrameError("an answer to a transfer that is not open")
        self._heard_at = time.monotonic()
        if frame.type == frames.ACK:
            if not transfer.acknowledged < frame.number <= transfer.sent:
                raise FrameError("an acknowledgement of what was not sent, or that was known")
            transfer.acknowledged = frame.number
            transfer.progress_at = self._heard_at
        elif frame.type == frames.DONE:
            if not transfer.ended:
                raise FrameError("thanks for what it does not have yet")
            self._forget(transfer)
        else:
            self._forget(transfer)
            if KINDS[transfer.kind].ordered:
                raise TransferError(frame.code)
        self.pump()

    def _forget(self, transfer: Transfer) -> None:
        del self._open[transfer.begun_id]
        self._open_bytes -= len(transfer.data)

    def check(self) -> None:
        """Ends what stands still: a helper sends nothing without which the link could go on."""
        late = time.monotonic() - STALLED_AFTER_SECONDS
        waiting = [*self._ordered, *self._short] if self._heard_at <= late else []
        if any(one.progress_at <= late for one in (*self._open.values(), *waiting)):
            raise TransferError("stalled", "The other side did not take what was sent.")
        self.pump()
