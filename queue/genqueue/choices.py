"""What can be asked for, and from what was asked to settings that are right.

The API and the pages both go through `checked_settings`, so both refuse alike. Ranges and the
model's own demands are checked by `diffusion.settings`; here is what needs the site: which models
there are, and what stands in for a field that was left out.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Required, TypedDict, Unpack

from django.conf import settings as site

from diffusion.model_folder import ModelFolder, find_models
from diffusion.settings import Limits, Settings, SettingsError, refusals
from genqueue.problems import Problem
from genqueue.shapes import ModelJson, VocabularyJson

FOLDERS_KNOWN_FOR_SECONDS = 5.0


def limits() -> Limits:
    """The site's limits; a model may narrow the sides further."""
    allowed = site.P2PWEB_LIMITS
    return Limits(
        prompt_characters=allowed["prompt_characters"],
        max_steps=allowed["steps"],
        max_images=allowed["num_images"],
        max_side=allowed["side"],
    )


def _kept(look: Callable[[], dict[str, ModelFolder]]) -> Callable[[], dict[str, ModelFolder]]:
    """Remembers the answer for a few seconds, for these model roots."""
    known: dict[tuple[str, ...], tuple[float, dict[str, ModelFolder]]] = {}

    def answer() -> dict[str, ModelFolder]:
        roots = tuple(str(root) for root in site.MODEL_ROOTS)
        looked_at, folders = known.get(roots, (0.0, {}))
        now = time.monotonic()
        if not folders or now - looked_at > FOLDERS_KNOWN_FOR_SECONDS:
            folders = look()
            known[roots] = (now, folders)
        return folders

    return answer


@_kept
def models() -> dict[str, ModelFolder]:
    """The model folders of this site by name. New folders are noticed within seconds."""
    return find_models(*site.MODEL_ROOTS)


def default_model() -> str:
    """The name of the model used when none is named. Problem 503 `no-model` without any."""
    names = models()
    if site.DEFAULT_MODEL in names:
        return str(site.DEFAULT_MODEL)
    if not names:
        raise Problem(
            "no-model",
            HTTPStatus.SERVICE_UNAVAILABLE,
            "This server has no model to draw with: put a folder into P2PWEB_MODELS_DIR.",
        )
    return min(names)


class Asked(TypedDict, total=False):
    """What somebody asked for. None, or left out, is the model's default, or a random seed."""

    prompt: Required[str]
    negative_prompt: str | None
    model: str | None
    width: int | None
    height: int | None
    steps: int | None
    guidance: float | None
    seed: int | None
    num_images: int | None


def checked_settings(**asked: Unpack[Asked]) -> Settings:
    """Complete and correct settings.

    Raises Problem 422 `unknown-model` or with the first code of `diffusion.settings.refusals`;
    503 `no-model` when there is no model at all.
    """
    settings, wrong = judged_settings(**asked)
    for problem in wrong:
        raise problem
    return settings


def judged_settings(**asked: Unpack[Asked]) -> tuple[Settings, list[Problem]]:
    """Complete settings and all that is wrong with them, for a form that says everything at once.

    Raises Problem 422 `unknown-model` and 503 `no-model`: then nothing else can be said.
    """
    model = asked.get("model")
    name = default_model() if model is None else model
    folder = models().get(name)
    if folder is None:
        raise Problem(
            "unknown-model",
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "There is no such model here. There are: " + ", ".join(sorted(models())) + ".",
            field="model",
        )
    defaults = Settings(
        prompt="",
        model=name,
        width=folder.default_width,
        height=folder.default_height,
        steps=folder.default_steps,
        guidance=folder.default_guidance,
        seed=secrets.randbits(32),
    )
    given = {key: value for key, value in asked.items() if value is not None}
    settings = Settings(**{**defaults.as_dict(), **given, "model": name})
    settings = replace(settings, guidance=float(settings.guidance))
    return settings, [problem_of_settings(error) for error in refusals(settings, folder, limits())]


def problem_of_settings(error: SettingsError) -> Problem:
    """What diffusion refuses, said in the site's way; the codes are diffusion's."""
    return Problem(
        error.code, HTTPStatus.UNPROCESSABLE_ENTITY, str(error), field=error.field or None
    )


def models_as_json() -> list[ModelJson]:
    """All models, the default one first."""
    if not models():
        return []
    first = default_model()
    folders = sorted(models().items(), key=lambda item: (item[0] != first, item[0]))
    return [_model(name, folder, name == first) for name, folder in folders]


def _model(name: str, folder: ModelFolder, default: bool) -> ModelJson:
    vocabulary = folder.vocabulary
    largest = limits().max_side // folder.side_multiple * folder.side_multiple
    return ModelJson(
        name=name,
        title=folder.title,
        default=default,
        side_multiple=folder.side_multiple,
        min_side=folder.min_side,
        max_side=min(folder.max_side, largest),
        default_width=folder.default_width,
        default_height=folder.default_height,
        default_steps=folder.default_steps,
        default_guidance=folder.default_guidance,
        examples=list(folder.examples),
        vocabulary=None
        if vocabulary is None
        else VocabularyJson(
            names=list(vocabulary.names),
            colours=list(vocabulary.colours),
            relations=list(vocabulary.relations),
            words=list(vocabulary.words),
        ),
    )
