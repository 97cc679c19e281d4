"""Tensors in the browser are those of Python's safetensors, both ways."""

import base64

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from diffusion.tensors import Pixels, from_bytes

TENSORS = {
    "negative": np.zeros((0, 6), np.float32),
    "latent": np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32),
    "preview": np.random.default_rng(1).integers(0, 256, (3, 5, 3), np.uint8),
}
FROM_BASE64 = "const bytes = Uint8Array.from(atob(args[0]), (c) => c.charCodeAt(0));"


@pytest.fixture(scope="module")
def run(engine_page):
    def run_(body: str, *args):
        return engine_page.evaluate(
            "async (args) => { const m = await import('/static/js/engine/safetensors.js'); "
            + body
            + " }",
            list(args),
        )

    return run_


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_what_python_wrote_is_read(run):
    found = run(
        FROM_BASE64
        + """return Object.entries(m.fromBytes(bytes)).map(
               ([name, { shape, data }]) => [name, shape, data.constructor.name, [...data]]);""",
        encoded(safetensors_numpy.save(TENSORS)),
    )
    assert {name for name, *_ in found} == set(TENSORS)
    for name, shape, kind, numbers in found:
        assert tuple(shape) == TENSORS[name].shape
        assert kind == ("Uint8Array" if name == "preview" else "Float32Array")
        assert numbers == TENSORS[name].ravel().tolist()


def test_what_is_written_python_reads(run):
    text = run(
        FROM_BASE64 + "return btoa(String.fromCharCode(...m.toBytes(m.fromBytes(bytes))));",
        encoded(safetensors_numpy.save(TENSORS)),
    )
    expect = {"negative": (0, 6), "latent": (3, 2, 5), "preview": Pixels((3, 5, 3))}
    back = from_bytes(base64.b64decode(text), expect)
    assert all(np.array_equal(back[name], TENSORS[name]) for name in TENSORS)


def file_of(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


ENTRY = b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, %d]}}'

TWO = ENTRY[:-1] % 8 + b', "y": {"dtype": "F32", "shape": [2], "data_offsets": [%d, %d]}}'


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 7, b"\xff" * 64, (2**40).to_bytes(8, "little"), file_of(b"{")[:8],
        file_of(b"no json"), file_of(b'{"x": null}'), file_of(b'{"x": {"dtype": "F32"}}'),
        file_of(b'{"x": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}', bytes(8)),
        file_of(b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', bytes(4)),
        file_of(b'{"x": {"dtype": "F32", "shape": [0.5], "data_offsets": [0, 2]}}', bytes(4)),
        file_of(b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', bytes(4)),
        file_of(b'{"x": {"dtype": "F32", "shape": [9007199254740993], "data_offsets": [0, 4]}}'),
        file_of(ENTRY % 8, bytes(9)), file_of(b"{}", b"x"), file_of(TWO % (0, 8), bytes(8)),
        file_of(TWO % (12, 20), bytes(20)), file_of(ENTRY % 8, bytes(7)),
        file_of(ENTRY % 4, bytes(8)), file_of(b"\xff\xfe{}"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_tensors_are_refused(run, data):
    said = run(
        FROM_BASE64
        + "try { m.fromBytes(bytes); return 'taken'; } catch (error) { return error.name; }",
        encoded(data),
    )
    assert said == "TensorError"


def test_python_and_the_browser_refuse_the_same_headers(run):
    """Headers with one number or letter changed: what one takes the other takes, or it is of a type
    that only Python knows."""
    random = np.random.default_rng(5)
    whole = safetensors_numpy.save(TENSORS)
    length = 8 + int.from_bytes(whole[:8], "little")
    files = []
    for _ in range(300):
        data = bytearray(whole)
        data[random.integers(8, length)] = random.choice(list(b'0123456789[]{},:"FUax '))
        files.append(bytes(data))
    taken = run(
        """return args.map((text) => {
          const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
          try { m.fromBytes(bytes); return true; } catch (error) {
            if (error.name !== 'TensorError') throw error;
            return false;
          }
        });""",
        *map(encoded, files),
    )
    for data, here in zip(files, taken, strict=True):
        try:
            safetensors_numpy.load(data)
            there = True
        except Exception:
            there = False
        assert here == there, data[8:length]
    assert 0 < sum(taken) < 300
