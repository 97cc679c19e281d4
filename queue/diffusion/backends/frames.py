"""Messages over a pipe between two processes of ours: a kind, values for JSON, and arrays.

A frame is the length of its JSON (u32, little-endian), the JSON, and the bytes of each array in C
order, one after another as the JSON lists them. Arrays are written from and read into their own
memory. It guards against a peer that died or wrote something else, not against a hostile one.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

_LENGTH: Final = struct.Struct("<I")
_MAX_JSON_BYTES: Final = 2**20
_MAX_ARRAY_BYTES: Final = 2**31
_DTYPES: Final[Mapping[str, type[Any]]] = {"float32": np.float32, "uint8": np.uint8}


class FrameError(EOFError):
    """The stream ended inside a frame, or holds something that is none."""


@dataclass(frozen=True)
class Message:
    """fields: values for JSON. arrays: f32 or uint8, by name."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def take_stdout() -> BinaryIO:
    """This process's stdout, for frames alone: what libraries print there goes to stderr."""
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stdout


def send(stream: BinaryIO, message: Message) -> None:
    """Write and flush one message. Raises OSError when nobody reads any more, and ValueError for
    what is no message, before anything is written."""
    arrays = {name: np.ascontiguousarray(array) for name, array in message.arrays.items()}
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"{name} is {array.dtype}, not {' or '.join(_DTYPES)}")
    head = {
        "kind": message.kind,
        "fields": dict(message.fields),
        "arrays": [[name, array.dtype.name, array.shape] for name, array in arrays.items()],
    }
    text = json.dumps(head).encode()
    if len(text) > _MAX_JSON_BYTES:
        raise ValueError(f"a message of {len(text)} bytes without its arrays")
    stream.write(_LENGTH.pack(len(text)) + text)
    for array in arrays.values():
        if array.size:
            stream.write(array.reshape(-1).view(np.uint8).data)
    stream.flush()


def receive(stream: BinaryIO) -> Message | None:
    """The next message; None where the stream ends between two. Raises FrameError."""
    prefix = stream.read(_LENGTH.size)
    if not prefix:
        return None
    if len(prefix) < _LENGTH.size:
        raise FrameError("the stream ended inside a frame")
    [length] = _LENGTH.unpack(prefix)
    if length > _MAX_JSON_BYTES:
        raise FrameError(f"no frame begins with {prefix!r}")
    text = stream.read(length)
    if len(text) < length:
        raise FrameError("the stream ended inside a frame")
    try:
        head = json.loads(text)
        kind, fields = head["kind"], head["fields"]
        listed = [(name, _DTYPES[dtype], tuple(shape)) for name, dtype, shape in head["arrays"]]
    except (ValueError, KeyError, TypeError) as error:
        raise FrameError(f"no frame: {text[:80]!r}") from error
    arrays = {name: _read_array(stream, dtype, shape) for name, dtype, shape in listed}
    return Message(kind, fields, arrays)


def _read_array(stream: BinaryIO, dtype: type[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not 0 <= size <= _MAX_ARRAY_BYTES:
        raise FrameError(f"an array of shape {shape}")
    raw = np.empty(size, np.uint8)
    # A BufferedReader goes on reading until the array is full or the stream ends
    if size and stream.readinto(raw.data) != size:  # type: ignore[attr-defined]
        raise FrameError("the stream ended inside an array")
    array: NDArray[Any] = raw.view(dtype).reshape(shape)
    return array
