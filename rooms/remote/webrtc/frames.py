"""The bytes of frames (docs/transfers.md). Twin of static/js/room/transfer/frames.js."""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

WHOLE, OPEN, BLOCK, END, CANCEL, ACK, DONE, REFUSE = range(1, 9)
HEAD_BYTES: Final = 20
DIGEST_BYTES: Final = 32
FRAME_BYTES: Final = 2**16
BLOCK_BYTES: Final = FRAME_BYTES - HEAD_BYTES
REASONS: Final = ("cancelled", "stalled", "too-large", "over-budget", "unexpected", "corrupt")

_HEAD: Final = struct.Struct("<HBBIIII")  # magic, type, detail, id, number, size, CRC-32
_MAGIC: Final = 0x5754
_CRC_AT: Final = 16
# How many bytes follow the head; of the others as many as it says.
_FOLLOWING: Final = {OPEN: 4, END: DIGEST_BYTES, CANCEL: 0, ACK: 0, DONE: 0, REFUSE: 0}


class TransferError(Exception):
    """A transfer or a whole link has ended so. code: of docs/transfers.md, or the other end's."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


class FrameError(TransferError):
    """Bytes that no peer sends, or not at this moment: the link ends."""

    def __init__(self, why: str) -> None:
        super().__init__("bad-frame", f"The other side sent what cannot be: {why}.")


@dataclass(frozen=True, slots=True)
class Frame:
    """detail: kind or reason. number: reference, index or blocks. size: bytes, as the head says.
    following: what came after the head."""

    type: int
    id: int
    detail: int = 0
    number: int = 0
    size: int = 0
    following: bytes = b""

    @property
    def code(self) -> str:
        """Of CANCEL and REFUSE."""
        return REASONS[self.detail - 1]


def write(frame: Frame) -> bytes:
    crc = _crc(frame, _head(frame, 0))
    return _head(frame, crc) + frame.following


def whole(id_: int, kind: int, reference: int, data: bytes) -> bytes:
    return write(Frame(WHOLE, id_, kind, reference, len(data), data))


def opening(id_: int, kind: int, reference: int, total: int) -> bytes:
    """total: bytes of all blocks, each but the last of BLOCK_BYTES."""
    return write(Frame(OPEN, id_, kind, reference, total, struct.pack("<I", BLOCK_BYTES)))


def block(id_: int, index: int, data: bytes) -> bytes:
    return write(Frame(BLOCK, id_, 0, index, len(data), data))


def end(id_: int, digest: bytes) -> bytes:
    return write(Frame(END, id_, following=digest))


def ack(id_: int, blocks: int) -> bytes:
    return write(Frame(ACK, id_, number=blocks))


def done(id_: int) -> bytes:
    return write(Frame(DONE, id_))


def cancel(id_: int, code: str) -> bytes:
    return write(Frame(CANCEL, id_, REASONS.index(code) + 1))


def refuse(id_: int, code: str) -> bytes:
    return write(Frame(REFUSE, id_, REASONS.index(code) + 1))


def block_bytes(opened: Frame) -> int:
    """That an OPEN announces."""
    return int(struct.unpack("<I", opened.following)[0])


def parse(data: object) -> Frame:
    """One message of the channel. Raises FrameError."""
    if not isinstance(data, bytes):
        raise FrameError("a message that is not of bytes")
    if len(data) < HEAD_BYTES:
        raise FrameError("a frame that ends in its head")
    magic, type_, detail, id_, number, size, crc = _HEAD.unpack_from(data)
    if magic != _MAGIC or not WHOLE <= type_ <= REFUSE:
        raise FrameError("a frame of no type that is known here")
    frame = Frame(type_, id_, detail, number, size, data[HEAD_BYTES:])
    if crc != _crc(frame, data[:_CRC_AT]):
        raise FrameError("a damaged frame")
    if len(frame.following) != _FOLLOWING.get(type_, size):
        raise FrameError("a frame of another length than it says")
    if type_ in (CANCEL, REFUSE) and not 1 <= detail <= len(REASONS):
        raise FrameError("an ending without a reason")
    return frame


def _head(frame: Frame, crc: int) -> bytes:
    return _HEAD.pack(_MAGIC, frame.type, frame.detail, frame.id, frame.number, frame.size, crc)


def _crc(frame: Frame, head: bytes) -> int:
    """Of the head and, because SHA-256 covers blocks, of what follows anything else."""
    before = zlib.crc32(head[:_CRC_AT])
    return before if frame.type == BLOCK else zlib.crc32(frame.following, before)
