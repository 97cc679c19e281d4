"""The whole loop of a helper with a tab that keeps the queue: leases in, results out. What is
computed is no model's: torch's is in tests/js/test_exported_helper.py."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from diffusion.model_folder import read_model_folder
from rooms.remote.exported import Package
from rooms.remote.helper import DismissedError, Helper, Models
from tests.genqueue.processes import until
from tests.rooms.remote.test_line import bare_relay, holder, presence

__all__ = ["bare_relay", "holder", "presence"]

SETTINGS = {
    "prompt": "a \x1b[2Jrocket", "negative_prompt": "", "model": "theirs", "width": 64,
    "height": 64, "steps": 4, "guidance": 1.0, "seed": 7, "num_images": 1,
}  # fmt: skip
LEASE = {
    "type": "work.lease", "chunk": 5, "attempt": 1, "kind": "encode", "job": "6f0c",
    "image": None, "seed": None, "start": 0, "stop": 0, "settings": SETTINGS, "bytes": 0,
}  # fmt: skip


@pytest.fixture
def helping(presence, model):
    """The helper, and what it said; ended: what ended it."""
    folder = read_model_folder(model)
    texts = {"prompt": np.ones((2, folder.text_dim), np.float32)}
    backend = SimpleNamespace(
        encode=lambda *_: texts, close=lambda: None, device="Test CPU", kernels="few 64x64x4",
        precision="f32",
    )  # fmt: skip
    entry = presence.entry([Package("theirs", "a" * 64, "b" * 64)])
    said: list[str] = []
    models = Models({"a" * 64: folder}, lambda _: backend)
    models.backend("a" * 64)
    helper = Helper(models, lambda: entry, presence.connect, said.append)
    found = SimpleNamespace(said=said, texts=texts, ended=None, backend=backend)

    def run() -> None:
        try:
            helper.run()
        except DismissedError as error:
            found.ended = error

    thread = threading.Thread(target=run)
    thread.start()
    yield found
    helper.stop()
    thread.join(20)
    assert not thread.is_alive()


def types(there) -> list[str]:
    return [one["type"] for one in there.heard if isinstance(one, dict)]


def test_a_lease_is_computed_and_handed_in_and_a_wrong_one_is_told(helping, holder):
    there = holder()
    until(lambda: "work.hello" in types(there), 20)
    there.call(lambda: there.link.send({"type": "work.welcome", "worker": "w"}))
    until(lambda: "work.claim" in types(there))
    there.call(lambda: there.link.send(LEASE))
    until(lambda: types(there).count("work.claim") == 2)  # right behind the result
    complete, result, _ = there.heard[-3:]
    assert complete["type"] == "work.complete"
    handed = safetensors_numpy.load(result)
    assert np.array_equal(handed["prompt"], helping.texts["prompt"])
    assert "Reading the prompt “a [2Jrocket”." in helping.said
    there.call(lambda: there.link.send({"type": "work.done", "chunk": 5, "attempt": 1}))

    wrong = {**LEASE, "chunk": 6, "settings": {**SETTINGS, "width": 10**9}}
    there.call(lambda: there.link.send(wrong))
    until(lambda: "work.fail" in types(there))
    until(lambda: types(there).count("work.claim") == 3)
    there.call(lambda: there.link.send({"type": "work.dismissed", "detail": "Go\nhome."}))
    until(lambda: helping.ended is not None)
    assert str(helping.ended) == "Go home."


def test_a_chunk_without_a_name_ends_the_conversation_and_it_comes_back(helping, holder):
    there = holder()
    until(lambda: "work.hello" in types(there), 20)
    there.call(lambda: there.link.send({**LEASE, "chunk": "5"}))
    until(lambda: types(there).count("work.hello") == 2, 20)
    assert "The connection is gone; trying again." in helping.said


def test_it_says_with_which_kernels_it_computes_and_when_these_are_others(helping, holder):
    there = holder()
    until(lambda: "work.hello" in types(there), 20)
    [hello] = [one for one in there.heard if one["type"] == "work.hello"]
    computes = {"device": "Test CPU", "software": True, "kernels": "few 64x64x4", "stores": "f32"}
    assert {name: hello[name] for name in computes} == computes
    there.call(lambda: there.link.send({"type": "work.welcome", "worker": "w"}))
    until(lambda: "work.claim" in types(there))

    def encode(*_):  # its process was started again
        helping.backend.kernels = "few 64x128x16f16"
        return helping.texts

    helping.backend.encode = encode
    there.call(lambda: there.link.send(LEASE))
    until(lambda: types(there).count("work.claim") == 2)
    told, complete, _result, _claim = there.heard[-4:]
    assert told == {"type": "work.device", **computes, "kernels": "few 64x128x16f16"}
    assert complete["type"] == "work.complete"
    there.call(lambda: there.link.send({"type": "error", "code": "later", "detail": "Later."}))
    until(lambda: types(there).count("work.hello") == 2, 20)
    assert there.heard[-1]["kernels"] == "few 64x128x16f16"
    assert types(there).count("work.device") == 1
