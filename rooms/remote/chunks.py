"""A leased chunk's tensors in, its result out, and what stays at hand between chunks.

What a server sends is held against the model before it is used, as a server holds what it is sent.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion.backends import Backend, Conditioning, guided_halves
from diffusion.model_folder import ModelFolder
from diffusion.noise import initial_noise
from diffusion.preview import Previews
from diffusion.tensors import Expected, TensorError, from_bytes
from genqueue.runner import remember

Array = NDArray[np.float32]
# (steps done, latent f32 [C, h, w], preview u8 [h, w, 3])
OnStep = Callable[[int, Array, NDArray[np.uint8]], None]
ImageKey = tuple[str, int]  # job, index


class AtHand:
    """What has been computed or sent of the newest jobs, so that it need not be sent again."""

    def __init__(self) -> None:
        self.conditionings: OrderedDict[str, Conditioning] = OrderedDict()
        self.latents: OrderedDict[ImageKey, tuple[int, Array]] = OrderedDict()

    def claim(self) -> dict[str, Any]:
        """As `work.claim` says it."""
        return {
            "conditionings": list(self.conditionings),
            "latents": [[job, image, step] for (job, image), (step, _) in self.latents.items()],
        }

    def keep_conditioning(self, job: str, conditioning: Conditioning) -> None:
        remember(self.conditionings, job, conditioning)

    def keep_latent(self, job: str, image: int, step: int, latent: Array) -> None:
        remember(self.latents, (job, image), (step, latent))


class Chunk:
    """One lease, as `work.lease` describes it, with the tensors that came along.

    Raises TensorError when they are not what this chunk needs, ValueError for a lease that makes no
    sense.
    """

    def __init__(self, lease: dict[str, Any], data: bytes, folder: ModelFolder, at: AtHand) -> None:
        self.kind: str = lease["kind"]
        self.job, self.image = str(lease["job"]), lease["image"]
        self.start, self.stop = int(lease["start"]), int(lease["stop"])
        self.seed = lease["seed"]
        self.settings: dict[str, Any] = lease["settings"]
        self._folder, self._at = folder, at
        self._shape = folder.latent_shape(self.settings["width"], self.settings["height"])
        if lease.get("fresh"):
            self._at = AtHand()  # of this chunk alone
        self._take(data)

    def _take(self, data: bytes) -> None:
        expected: dict[str, Any] = {}
        if self.kind == "denoise" and self.job not in self._at.conditionings:
            expected |= self._texts()
        if self._first_step() and not self._has_latent():
            expected["latent"] = self._shape
        sent = from_bytes(data, expected) if expected or data else {}
        latent = sent.pop("latent", None)
        if sent:
            self._at.keep_conditioning(self.job, sent)
        if latent is not None:
            self._at.keep_latent(self.job, self.image, self._first_step(), latent)

    def _texts(self) -> Expected:
        halves = guided_halves(self.settings["guidance"])
        return dict.fromkeys(halves, self._folder.conditioning_shape)

    def _first_step(self) -> int:
        """Of the latent that it starts from; 0 without one."""
        if self.kind == "encode":
            return 0
        return self.start if self.kind == "denoise" else int(self.settings["steps"])

    def _has_latent(self) -> bool:
        known = self._at.latents.get((self.job, self.image))
        return known is not None and known[0] == self._first_step()

    def compute(self, backend: Backend, on_step: OnStep) -> dict[str, NDArray[Any]]:
        """The tensors of the result. `on_step` may raise to stop it."""
        match self.kind:
            case "encode":
                wanted = self.settings
                texts = backend.encode(
                    wanted["prompt"], wanted["negative_prompt"], wanted["guidance"]
                )
                self._at.keep_conditioning(self.job, texts)
                return dict(texts)
            case "denoise":
                return {"latent": self._denoise(backend, on_step)}
            case "decode":
                return {"picture": backend.decode(self._latent())}
        raise ValueError(f"There is no chunk of the kind {self.kind!r}.")

    def _denoise(self, backend: Backend, on_step: OnStep) -> Array:
        noisy = self._latent()
        previews = Previews(self._folder, self.settings["steps"], noisy)
        latent = backend.denoise(
            self._at.conditionings[self.job],
            noisy,
            steps=self.settings["steps"],
            guidance=self.settings["guidance"],
            start=self.start,
            stop=self.stop,
            on_step=lambda step, now: on_step(step, now, previews.pixels_after(step, now)),
        )
        self._at.keep_latent(self.job, self.image, self.stop, latent)
        return latent

    def _latent(self) -> Array:
        if not self._first_step():
            return initial_noise(self.seed, self._shape)
        if not self._has_latent():
            raise TensorError("the latent that this chunk starts from was not sent")
        return self._at.latents[self.job, self.image][1]
