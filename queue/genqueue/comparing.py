"""What a checker computed, held against what others had handed in: files in, a distance out."""

import io
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from diffusion import likeness
from diffusion.backends import guided_halves
from diffusion.model_folder import ModelFolder
from diffusion.noise import initial_noise
from diffusion.tensors import TensorError, from_bytes
from genqueue import choices, files
from genqueue.check_models import Check
from genqueue.checks import Finding
from genqueue.kinds import ChunkKind
from genqueue.models import Job


class NotComparableError(Exception):
    """What was to be compared is lost, or the model is."""


def compare(check: Check, computed: bytes, variant: str) -> tuple[Finding, Finding | None]:
    """What the checker found of the result and of the second one, if there is one. variant: its
    `checks.precision`. Raises NotComparableError.
    """
    folder = choices.models().get(check.job.model)
    if folder is None:
        raise NotComparableError(f"the model {check.job.model} is gone")
    try:
        measure = _Measure(check, folder)
        ours = measure.read(computed)
        first = measure.finding(check.result, ours, check.variant, variant)
        if not check.second:
            return first, None
        return first, measure.finding(check.second, ours, check.second_variant, variant)
    except (OSError, TensorError) as error:
        raise NotComparableError(str(error)) from error


class _Measure:
    """One kind of result of one job."""

    def __init__(self, check: Check, folder: ModelFolder) -> None:
        self._check, self._folder = check, folder
        self._stage = cast(likeness.Stage, str(ChunkKind(check.kind).value))

    def finding(self, name: str, ours: Any, *variants: str) -> Finding:
        theirs = self.read(files.read(name))
        return Finding(self._distance(theirs, ours), likeness.limit(self._stage, *variants))

    def read(self, data: bytes) -> Any:
        job = self._check.job
        if self._stage == "decode":
            with Picture.open(io.BytesIO(data)) as picture:
                return np.asarray(picture)
        if self._stage == "encode":
            halves = guided_halves(job.guidance)
            return from_bytes(data, dict.fromkeys(halves, self._folder.conditioning_shape))
        return from_bytes(data, {"latent": self._shape(job)})["latent"]

    def _distance(self, theirs: Any, ours: Any) -> float:
        if self._stage == "decode":
            return likeness.distance_of_pictures(theirs, ours)
        if self._stage == "encode":
            return likeness.distance_of_texts(theirs, ours)
        return likeness.distance_of_steps(self._given(), theirs, ours)

    def _given(self) -> NDArray[np.float32]:
        check = self._check
        if check.given:
            given: NDArray[np.float32] = self.read(files.read(check.given))
            return given
        assert check.image is not None
        return initial_noise(check.image.seed, self._shape(check.job))

    def _shape(self, job: Job) -> tuple[int, int, int]:
        return self._folder.latent_shape(job.width, job.height)
