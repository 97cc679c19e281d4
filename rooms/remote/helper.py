"""The loop of a helper: joins, connects, claims, computes, hands in; and again.

- One thread listens, one keeps leases and the connection alive, the caller's computes.
- A chunk that is lost (cancelled, taken back, the connection gone) stops at its next step.
- It says what it computes with, and when that is another backend: how strictly its results are
  checked follows from it.
- Asked to stop, it hands in the newest latent, says goodbye and leaves: nothing is lost.
- When the connection breaks it comes back, soon at first and then less often.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final, Generic, Protocol, TypeVar

from numpy.typing import NDArray
from safetensors import numpy as safetensors_numpy

from diffusion.backends import Backend
from diffusion.model_folder import ModelFolder
from genqueue.equipment import Equipment, of_backend
from genqueue.faults import Fault
from genqueue.runner import fault_of
from rooms.messages import BEAT_SECONDS
from rooms.remote.address import NotLetInError
from rooms.remote.chunks import AtHand, Chunk
from rooms.remote.conversation import Conversation, LineClosedError, Message
from rooms.remote.leases import Name, check_lease, model_of, name_of, plain, renew_seconds

CHECKPOINT_SECONDS: Final = 2.0
SHOWN_SECONDS: Final = 0.125  # steps of a fast device
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.3, 15.0
LONGEST_DETAIL: Final = 500

Say = Callable[[str], None]


class Admitted(Protocol):
    """models: what the room calls those that this helper has, with their ids. hello: what it says
    of itself when the conversation begins, where nobody was told before."""

    @property
    def models(self) -> Mapping[str, str]: ...

    @property
    def hello(self) -> Message: ...


A = TypeVar("A", bound=Admitted)


class DismissedError(Exception):
    """The server wants this helper no more; str() says why."""


class _StopComputing(Exception):  # noqa: N818  (no error)
    """The chunk is not ours any more, or the helper was asked to stop."""


class Models:
    """The folders of this machine by id, one of them open."""

    def __init__(
        self, folders: Mapping[str, ModelFolder], open_backend: Callable[[ModelFolder], Backend]
    ) -> None:
        self.folders = folders
        self._open_backend = open_backend
        self._open: tuple[str, Backend] | None = None
        self._equipment: Equipment | None = None

    def backend(self, model_id: str) -> Backend:
        if self._open is None or self._open[0] != model_id:
            self.close()
            self._open = model_id, self._open_backend(self.folders[model_id])
        return self._open[1]

    @property
    def equipment(self) -> Equipment | None:
        """Of the model that was opened last; it may be another one after every call."""
        if self._open is not None:
            self._equipment = of_backend(self._open[1])
        return self._equipment

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


class Helper(Generic[A]):
    """join: asks for an admission. say: one line for whoever started it."""

    def __init__(
        self,
        models: Models,
        join: Callable[[], A],
        connect: Callable[[A], Conversation],
        say: Say,
    ) -> None:
        self.models, self._join, self._connect, self.say = models, join, connect, say
        self.stopping = threading.Event()
        self.at_hand = AtHand()
        self._said = ""

    def stop(self) -> None:
        """Ask it to leave after the step at hand; from any thread."""
        self.stopping.set()

    def run(self) -> None:
        """Until `stop`. Raises NotLetInError when asking again would not help, DismissedError."""
        admission: A | None = None
        retry_seconds = FIRST_RETRY_SECONDS
        while not self.stopping.is_set():
            try:
                admission = admission or self._join()
                with self._connect(admission) as line:
                    retry_seconds, self._said = FIRST_RETRY_SECONDS, ""
                    _Visit(self, admission, line).work()
            except NotLetInError as error:
                if error.final:
                    raise
                self._say_once(str(error))
            except LineClosedError as error:
                if error.refused:
                    admission = None  # forgotten: join anew
                self._say_once("The connection is gone; trying again.")
            if self.stopping.wait(retry_seconds * random.uniform(0.5, 1)):  # noqa: S311
                return
            retry_seconds = min(2 * retry_seconds, LONGEST_RETRY_SECONDS)

    def _say_once(self, why: str) -> None:
        """Not again with every try."""
        if why != self._said:
            self.say(why)
        self._said = why


class _Visit(Generic[A]):
    """As long as one connection lasts."""

    def __init__(self, helper: Helper[A], admission: A, line: Conversation) -> None:
        self._helper, self._admission, self.line = helper, admission, line
        self._inbox: queue.SimpleQueue[tuple[Message, bytes] | None] = queue.SimpleQueue()
        self.held: Name | None = None  # chunk and attempt, while they are ours
        self._over = threading.Event()
        self._renew_seconds = 10
        self._told: Equipment | None = None

    def work(self) -> None:
        """Until the connection ends (LineClosedError), or the helper is asked to stop."""
        threads = [
            threading.Thread(target=run, daemon=True) for run in (self._listen, self._keep_alive)
        ]
        for thread in threads:
            thread.start()
        try:
            self._say_hello()
            self._serve()
        finally:
            self._over.set()
            self.line.close()
            for thread in threads:
                thread.join()

    # The other threads ---------------------------------------------------------------------------
    def _listen(self) -> None:
        with suppress(LineClosedError):
            while True:
                message, data = self.line.hear()
                if message["type"] == "work.lost" and name_of(message) == self.held:
                    self.held = None
                if message["type"] == "error" and message.get("code") == "later":
                    break  # what it computes with was not taken: it comes again and says it anew
                self._inbox.put((message, data))
        self.held = None
        self._inbox.put(None)

    def _keep_alive(self) -> None:
        renewed_at = time.monotonic()
        with suppress(LineClosedError):
            while not self._over.wait(BEAT_SECONDS):
                self.line.say({"type": "peer.beat", "revision": 0})
                held = self.held
                if held and time.monotonic() - renewed_at >= self._renew_seconds:
                    self.line.say(_message("work.renew", held))
                    renewed_at = time.monotonic()

    # The caller's --------------------------------------------------------------------------------
    def _say_hello(self) -> None:
        self._told = self._helper.models.equipment
        with_what = {} if self._told is None else asdict(self._told)
        self.line.say({"type": "work.hello", **self._admission.hello, **with_what})

    def tell_equipment(self) -> None:
        """Before anything is handed in that was computed with it."""
        now = self._helper.models.equipment
        if now is not None and now != self._told:
            self.line.say({"type": "work.device", **asdict(now)})
            self._told = now

    def _serve(self) -> None:
        while not self._helper.stopping.is_set():
            try:
                heard = self._inbox.get(timeout=0.2)
            except queue.Empty:
                continue
            if heard is None:
                raise LineClosedError("The connection has ended.")
            self._take(*heard)
        self.line.say({"type": "work.goodbye"})

    def _take(self, message: Message, data: bytes) -> None:
        match message["type"]:
            case "work.welcome":
                self._renew_seconds = renew_seconds(message)
                self._helper.say("Ready: waiting for work.")
                self._claim()
            case "work.lease":
                if not self._compute(message, data) and not self._helper.stopping.is_set():
                    self._claim()
            case "work.dismissed":
                raise DismissedError(plain(message.get("detail")))
            case "error":
                self._helper.say(f"It was not understood: {plain(message.get('detail'))}")

    def _claim(self) -> None:
        self.line.say({"type": "work.claim", **self._helper.at_hand.claim()})

    def _compute(self, lease: Message, data: bytes) -> bool:
        """Whether it has claimed what is next."""
        name = name_of(lease)
        self.held = name
        began = time.monotonic()
        try:
            model_id = self._admission.models[model_of(lease)]
            folder = self._helper.models.folders[model_id]
            check_lease(lease, folder)
            self._helper.say(_sentence(lease))
            chunk = Chunk(lease, data, folder, self._helper.at_hand)
            backend = self._helper.models.backend(model_id)
            self.tell_equipment()
            result = chunk.compute(backend, _Steps(self, lease))
        except _StopComputing:
            return False
        except LineClosedError:
            raise
        except Exception as error:
            self._fail(name, error)
            return False
        if self.held != name:
            return False
        seconds = time.monotonic() - began
        self.tell_equipment()
        said = {**_message("work.complete", name), "seconds": seconds}
        self.line.say(said, safetensors_numpy.save(result))
        # Messages are taken in order: what is next comes without waiting for `work.done` first.
        goes_on = not self._helper.stopping.is_set()
        if goes_on:
            self._claim()
        self._await_done(name)
        return goes_on

    def _await_done(self, name: Name) -> None:
        """The server takes the result before it deals with a claim; a lost lease is known by
        itself."""
        while self.held == name:
            heard = self._inbox.get()
            if heard is None:
                raise LineClosedError("The connection has ended.")
            message, data = heard
            if message["type"] == "work.done" and name_of(message) == name:
                self.held = None
            elif message["type"] != "work.lost":
                self._take(message, data)

    def _fail(self, name: Name, error: Exception) -> None:
        said = f"{type(error).__name__}: {error}"
        self._helper.say(f"It failed: {plain(said)}")
        if self.held != name:
            return
        self.held = None
        fault = fault_of(error)
        if fault not in (Fault.OUT_OF_MEMORY, Fault.MODEL_UNREADABLE, Fault.WORKER_LOST):
            fault = Fault.COMPUTATION_FAILED
        failed = {"fault": fault.value, "detail": said[:LONGEST_DETAIL]}
        self.line.say({**_message("work.fail", name), **failed})


class _Steps:
    """Called after every step of a chunk: shows it, saves it now and then, stops it when lost."""

    def __init__(self, visit: _Visit[Any], lease: Message) -> None:
        self._visit, self._name, self._stop = visit, name_of(lease), lease["stop"]
        self._shown_at = self._saved_at = time.monotonic()

    def __call__(self, step: int, latent: NDArray[Any], preview: NDArray[Any]) -> None:
        if self._visit.held != self._name:
            raise _StopComputing
        now = time.monotonic()
        last = step == self._stop
        stopping = self._visit._helper.stopping.is_set() and not last
        save = not last and (stopping or now - self._saved_at >= CHECKPOINT_SECONDS)
        if save or now - self._shown_at >= SHOWN_SECONDS:
            self._say(step, latent if save else None, preview)
            self._shown_at = now
            self._saved_at = now if save else self._saved_at
        if stopping:
            raise _StopComputing

    def _say(self, step: int, latent: NDArray[Any] | None, preview: NDArray[Any]) -> None:
        tensors = {"preview": preview}
        if latent is not None:
            tensors["latent"] = latent
        said = {"step": step, "latent": latent is not None, "preview": True}
        self._visit.tell_equipment()
        message = {**_message("work.step", self._name), **said}
        self._visit.line.say(message, safetensors_numpy.save(tensors))


def _message(kind: str, name: Name) -> Message:
    return {"type": kind, "chunk": name[0], "attempt": name[1]}


def _sentence(lease: Message) -> str:
    prompt = plain(lease["settings"]["prompt"])
    match lease["kind"]:
        case "encode":
            return f"Reading the prompt “{prompt}”."
        case "decode":
            return f"Finishing “{prompt}”."
    steps = lease["settings"]["steps"]
    return f"Steps {lease['start'] + 1} to {lease['stop']} of {steps} of “{prompt}”."
