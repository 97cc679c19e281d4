"""Messages between a backend's two processes, over real pipes."""

import io
import os
import threading

import numpy as np
import pytest

from diffusion.backends.frames import FrameError, Message, receive, send


def written(*messages: Message) -> bytes:
    stream = io.BytesIO()
    for message in messages:
        send(stream, message)
    return stream.getvalue()


def test_what_is_sent_arrives_through_a_pipe_smaller_than_it() -> None:
    reading, writing = os.pipe()
    pixels = np.arange(3 * 700 * 700, dtype=np.uint8).reshape(700, 700, 3)
    latent = np.random.default_rng(0).standard_normal((16, 80, 80)).astype(np.float32)
    sent = [
        Message("step", {"step": 3, "text": "Grüße 🦊"}, {"latent": latent, "pixels": pixels}),
        Message("done", {}, {"every other": latent[:, ::2], "none": latent[:0]}),
    ]

    def write() -> None:
        with os.fdopen(writing, "wb") as stream:
            for message in sent:
                send(stream, message)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as stream:
        for message in sent:
            arrived = receive(stream)
            assert arrived is not None
            assert (arrived.kind, arrived.fields) == (message.kind, message.fields)
            assert list(arrived.arrays) == list(message.arrays)
            for name, array in message.arrays.items():
                assert arrived.arrays[name].dtype == array.dtype
                assert np.array_equal(arrived.arrays[name], array)
        assert receive(stream) is None, "the end of the stream"
    thread.join()


def test_a_stream_that_ends_within_a_frame_is_no_message() -> None:
    whole = written(Message("done", {"step": 1}, {"latent": np.ones((2, 3), np.float32)}))
    for end in range(1, len(whole)):
        with pytest.raises(FrameError):
            receive(io.BytesIO(whole[:end]))


@pytest.mark.parametrize(
    "odd",
    [
        b"thread 'main' panicked at src/lib.rs",
        b"\x02\x00\x00\x00{}",
        b"\x03\x00\x00\x00[1]",
        b'\x38\x00\x00\x00{"kind":"x","fields":{},"arrays":[["a","float64",[1]]]}  ',
        b'\x38\x00\x00\x00{"kind":"x","fields":{},"arrays":[["a","uint8",[-1]]]}   ',
    ],
)
def test_what_is_no_frame_is_refused(odd: bytes) -> None:
    with pytest.raises(FrameError):
        receive(io.BytesIO(odd))


def test_types_that_the_other_side_would_refuse_are_not_sent() -> None:
    stream = io.BytesIO()
    with pytest.raises(ValueError, match="float64"):
        send(stream, Message("done", {}, {"latent": np.ones(3)}))
    assert stream.getvalue() == b""
