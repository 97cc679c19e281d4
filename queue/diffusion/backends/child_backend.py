"""A backend whose computing happens in a child process, which may die: the parent's side.

The conversation (frames.py); the child's side is wgpu_child.py:

    parent                                     child
    open(folder, ...)                          opened(device, kernels, precision) | failed
    encode(prompt, negative_prompt, guidance)  done + the texts' features | failed
    denoise(...) + features and latent         step(step) + latent, ...; done + latent
                                                 | stopped | failed
      seen | stop, in answer to each step
    half(steps, shape) + a text's features     done | failed
    velocity(step) + latent, after half        done + velocity | failed
    half_over(), after half                    done
    decode() + latent                          done + pixels | failed
    bands(bands) + latent                      moments(norm) + each band's, ...;
                                                 done + each band's pixels | alone | stopped
                                                 | failed
      together + moments | alone | stop, in answer to each

The child computes at most one step ahead of what the parent has seen, so that the device does not
wait for the parent's writes and little is computed in vain when it stops. What the child fails
with is raised here as the type that it was; errors that leave a device in doubt end the child.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diffusion.backends import Conditioning, OnStep, VelocityOf, check_range
from diffusion.backends.child_process import ChildProcess
from diffusion.backends.errors import (
    BackendDiedError,
    BackendError,
    NoAdapterError,
    TooLargeError,
)
from diffusion.backends.frames import Message
from diffusion.bands import Exchange, Rows
from diffusion.model_folder import ModelFolder, ModelFolderError
from diffusion.plan.expressions import PlanError

log = logging.getLogger(__name__)

# The errors that cross: the request or the folder is wrong, and the child can go on. The first
# whose instance an error is names it.
CROSSING: Final[Mapping[str, type[Exception]]] = {
    error.__name__: error
    for error in (
        TooLargeError,
        MemoryError,
        ModelFolderError,
        NoAdapterError,
        PlanError,
        ValueError,
    )
}
Reply = Callable[[Message], Message]  # to what the child says before its answer

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 5.0  # a worker that is asked to stop waits no longer than that


class ChildBackend:
    """See `diffusion.backends.Backend`. opening: the fields of the message that opens the model.

    A child that died is started again by the next call, at once after a first death, later and
    later while no call succeeds in between.
    """

    def __init__(
        self, folder: ModelFolder, name: str, module: str, opening: Mapping[str, Any]
    ) -> None:
        self.folder = folder
        self.name = name
        self._module = module
        self._opening = Message("open", {**opening, "folder": str(folder.path)})
        self._deaths = 0  # without a call that succeeded in between
        self._died_at = 0.0
        self._child: ChildProcess | None = None
        self.device = ""
        self.kernels = ""
        self.precision = ""
        self._start()

    def encode(self, prompt: str, negative_prompt: str, guidance: float) -> Conditioning:
        fields = {"prompt": prompt, "negative_prompt": negative_prompt, "guidance": guidance}
        return dict(self._ask(Message("encode", fields)).arrays)

    def denoise(
        self,
        conditioning: Conditioning,
        latent: NDArray[np.float32],
        *,
        steps: int,
        guidance: float,
        start: int,
        stop: int,
        on_step: OnStep | None = None,
    ) -> NDArray[np.float32]:
        check_range(start, stop, steps)
        fields = {
            "steps": steps,
            "guidance": guidance,
            "start": start,
            "stop": stop,
            "tell_steps": on_step is not None,
        }
        texts = {f"text.{half}": features for half, features in conditioning.items()}
        asked = Message("denoise", fields, {**texts, "latent": latent})

        def seen(step: Message) -> Message:
            assert on_step is not None, "it was asked to tell nobody"
            on_step(step.fields["step"], step.arrays["latent"])
            return Message("seen")

        return self._ask(asked, seen).arrays["latent"]

    @contextmanager
    def velocities(
        self, text: NDArray[np.float32], shape: tuple[int, ...], *, steps: int
    ) -> Iterator[VelocityOf]:
        fields = {"steps": steps, "shape": list(shape)}
        self._ask(Message("half", fields, {"text": text}))
        child = self._child

        def velocity(latent: NDArray[np.float32], step: int) -> NDArray[np.float32]:
            if self._child is not child:
                raise BackendDiedError("The process that computed this half has ended.")
            asked = Message("velocity", {"step": step}, {"latent": latent})
            return self._ask(asked).arrays["velocity"]

        try:
            yield velocity
        finally:
            if self._child is child and child is not None and child.alive:
                self._ask(Message("half_over"))

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        return self._ask(Message("decode", {}, {"latent": latent})).arrays["pixels"]

    def decode_bands(
        self, latent: NDArray[np.float32], bands: Sequence[Rows], exchange: Exchange
    ) -> list[NDArray[np.uint8]] | None:
        """See `PlanBackend.decode_bands`."""

        def reply(asked: Message) -> Message:
            own = [asked.arrays[f"moments.{number}"] for number in range(len(bands))]
            together = exchange(asked.fields["norm"], own)
            if together is None:
                return Message("alone")
            return Message("together", {}, {"moments": together})

        fields = {"bands": [list(band) for band in bands]}
        answer = self._ask(Message("bands", fields, {"latent": latent}), reply)
        if answer.kind == "alone":
            return None
        return [answer.arrays[f"pixels.{number}"] for number in range(len(bands))]

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    @property
    def pid(self) -> int | None:
        """Of the child that runs now."""
        return None if self._child is None else self._child.pid

    def _ask(self, message: Message, reply: Reply | None = None) -> Message:
        if self._child is not None and not self._child.alive:
            log.warning("the process of the %s backend ended while it was idle", self.name)
            self._bury()
        child = self._child or self._start()
        try:
            answer, stopped_by = _converse(child, message, reply)
        except BaseException:  # it died, or the conversation broke off in the middle
            self._bury()
            raise
        self._deaths = 0
        if stopped_by is not None:
            raise stopped_by
        if answer.kind == "failed":
            raise _error_of(answer)
        return answer

    def _start(self) -> ChildProcess:
        """A child with the model open. Raises what it fails with."""
        if self._deaths > 1:
            pause = min(_FIRST_PAUSE_SECONDS * 2 ** (self._deaths - 2), _LONGEST_PAUSE_SECONDS)
            time.sleep(max(0.0, self._died_at + pause - time.monotonic()))
        try:
            self._child = ChildProcess(self._module)
        except OSError as error:
            raise BackendError(f"No process to compute in could be started: {error}") from error
        try:
            answer, _ = _converse(self._child, self._opening, None)
        except BaseException:
            self._bury()
            raise
        if answer.kind == "failed":
            self.close()
            raise _error_of(answer)
        self.device = str(answer.fields["device"])
        self.kernels = str(answer.fields["kernels"])
        self.precision = str(answer.fields["precision"])
        return self._child

    def _bury(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None
        self._deaths += 1
        self._died_at = time.monotonic()


def _converse(
    child: ChildProcess, message: Message, reply: Reply | None
) -> tuple[Message, Exception | None]:
    """The last answer to `message`, and what `reply` raised, if it did.

    Raises BackendDiedError; also for a `reply` that raised and a child that then died, what `reply`
    raised.
    """
    stopped_by: Exception | None = None
    child.send(message)
    while True:
        try:
            answer = child.receive()
            if answer.kind not in ("step", "moments"):
                return answer, stopped_by
            said = Message("stop")
            if stopped_by is None and reply is not None:
                try:
                    said = reply(answer)
                except Exception as error:
                    stopped_by = error
            child.send(said)
        except BackendDiedError as death:
            raise stopped_by or death from None


def _error_of(answer: Message) -> Exception:
    return CROSSING[answer.fields["error"]](answer.fields["message"])
