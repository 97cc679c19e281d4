"""The child's side of the wgpu backend: `python -m diffusion.backends.wgpu_child`.

It answers the messages that child_backend.py describes, over what were its stdin and stdout. An
error that is not the request's ends it, with a traceback on stderr: after a lost device or a
refused command nothing of wgpu can be relied upon, and a new process is the one clean start.
"""

import os
import queue
import sys
import threading
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Never

import numpy as np
from numpy.typing import NDArray

from diffusion.backends import VelocityOf
from diffusion.backends.child_backend import CROSSING
from diffusion.backends.frames import FrameError, Message, receive, send, take_stdout
from diffusion.backends.wgpu_backend import WgpuBackend, open_wgpu
from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_trial import choose_variants
from diffusion.bands import Moments, Rows
from diffusion.model_folder import read_model_folder
from diffusion.plan.variants import read_variants


class StoppedError(Exception):
    """The parent has seen enough of this run."""


class Request:
    """A message to be answered, and what the parent says of its steps meanwhile."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self._stopped = False
        self._ahead = threading.Semaphore(1)  # steps that may begin before the last one is seen
        self._replies: queue.SimpleQueue[Message | None] = queue.SimpleQueue()

    def seen(self) -> None:
        self._ahead.release()

    def stop(self) -> None:
        self._stopped = True
        self._ahead.release()
        self._replies.put(None)

    def replied(self, message: Message) -> None:
        self._replies.put(message)

    def reply(self) -> Message:
        """What the parent replies to what it was just told. Raises StoppedError."""
        message = self._replies.get()
        if message is None:
            raise StoppedError
        return message

    def wait_for_parent(self) -> None:
        """Returns when the next step may begin. Raises StoppedError."""
        self._ahead.acquire()
        if self._stopped:
            raise StoppedError


class Child:
    """Answers one request after another, the first of which opens a model."""

    def __init__(self, to: BinaryIO) -> None:
        self._to = to
        self._backend: WgpuBackend | None = None
        self._half = ExitStack()  # one at a time
        self._velocity: VelocityOf | None = None

    def answer(self, request: Request) -> None:
        try:
            answer = self._compute(request)
        except StoppedError:
            answer = Message("stopped")
        except tuple(CROSSING.values()) as error:
            kind = next(name for name, crossing in CROSSING.items() if isinstance(error, crossing))
            answer = Message("failed", {"error": kind, "message": str(error)})
        except BrokenPipeError:
            raise
        except OSError as error:  # files that the model consists of
            answer = Message("failed", {"error": "ModelFolderError", "message": str(error)})
        send(self._to, answer)

    def _compute(self, request: Request) -> Message:
        message = request.message
        fields = message.fields
        if message.kind == "open":
            return self._open(message)
        assert self._backend is not None, "a model is opened first"
        match message.kind:
            case "encode":
                return Message("done", {}, self._backend.encode(**fields))
            case "denoise":
                return self._denoise(self._backend, request)
            case "half":
                self._half.close()
                shape = tuple(fields["shape"])
                velocities = self._backend.velocities(
                    message.arrays["text"], shape, steps=fields["steps"]
                )
                self._velocity = self._half.enter_context(velocities)
                return Message("done")
            case "velocity":
                assert self._velocity is not None, "a half is begun first"
                found = self._velocity(message.arrays["latent"], fields["step"])
                return Message("done", {}, {"velocity": found})
            case "half_over":
                self._half.close()
                return Message("done")
            case "decode":
                pixels = self._backend.decode(message.arrays["latent"])
                return Message("done", {}, {"pixels": pixels})
            case "bands":
                return self._decode_bands(self._backend, request)
            case unknown:
                raise AssertionError(f"nothing is called {unknown}")

    def _open(self, message: Message) -> Message:
        fields = message.fields
        folder = read_model_folder(Path(fields["folder"]))
        shaders = Path(fields["shaders"])
        device = Device(
            shaders, memory_limit=fields["memory_limit"], variants=read_variants(shaders)
        )
        trials = fields["trials"]
        kernels = choose_variants(device, shaders, None if trials is None else Path(trials))
        # f16 is half the memory and traffic; a processor that plays a GPU gains nothing by it
        variant: str = fields["precision"] or ("f32" if device.software else "f16")
        self._backend = open_wgpu(folder, device, variant=variant)
        described = f"wgpu {device.description}, {variant}"
        said = {"device": described, "kernels": str(kernels), "precision": variant}
        return Message("opened", said)

    def _denoise(self, backend: WgpuBackend, request: Request) -> Message:
        fields = dict(request.message.fields)
        arrays = request.message.arrays

        def tell(step: int, latent: NDArray[np.float32]) -> None:
            send(self._to, Message("step", {"step": step}, {"latent": latent}))
            request.wait_for_parent()

        texts = {
            name.removeprefix("text."): array
            for name, array in arrays.items()
            if name.startswith("text.")
        }
        on_step = tell if fields.pop("tell_steps") else None
        latent = backend.denoise(texts, arrays["latent"], on_step=on_step, **fields)
        return Message("done", {}, {"latent": latent})

    def _decode_bands(self, backend: WgpuBackend, request: Request) -> Message:
        def exchange(norm: int, parts: list[Moments]) -> Moments | None:
            moments = {f"moments.{number}": part for number, part in enumerate(parts)}
            send(self._to, Message("moments", {"norm": norm}, moments))
            return request.reply().arrays.get("moments")

        bands = [Rows(*band) for band in request.message.fields["bands"]]
        found = backend.decode_bands(request.message.arrays["latent"], bands, exchange)
        if found is None:
            return Message("alone")
        pixels = {f"pixels.{number}": part for number, part in enumerate(found)}
        return Message("done", {}, pixels)


def listen(stream: BinaryIO, requests: "queue.SimpleQueue[Request]") -> Never:
    """Sorts what the parent says. Its end, also in the middle of a frame, is the end of this
    process, whatever the main thread is computing."""
    request: Request | None = None
    try:
        while (message := receive(stream)) is not None:
            match message.kind:
                case "seen" if request is not None:
                    request.seen()
                case "stop" if request is not None:
                    request.stop()
                case "together" | "alone" if request is not None:
                    request.replied(message)
                case _:
                    request = Request(message)
                    requests.put(request)
    except FrameError:
        os._exit(0)
    except BaseException:
        _die()
    os._exit(0)


def _die() -> Never:
    """At once: with a broken device, or a thread that computes, an orderly exit may never end."""
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    outgoing = take_stdout()
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    child = Child(outgoing)
    try:
        while True:
            child.answer(requests.get())
    except BrokenPipeError:  # nobody listens any more
        os._exit(0)
    except BaseException:
        _die()


if __name__ == "__main__":
    main()
