"""The form of the room page: text as typed, sentences for what is wrong, and checked settings.

What may be asked for is decided by genqueue.choices, for pages and API alike; here text becomes
numbers, and a refusal finds its field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from genqueue import choices
from genqueue.problems import Problem
from genqueue.shapes import ModelJson
from rooms.slots import number

if TYPE_CHECKING:
    from diffusion.settings import Settings

TYPED = ("prompt", "negative_prompt", "model", "size", "steps", "guidance", "seed", "num_images")
FIELD_OF_PROBLEM = {"width": "size", "height": "size"}
MORE = ("steps", "guidance", "seed", "negative_prompt", "picture_file")  # behind "More settings"
EXAMPLES = (
    "a rocket above a full moon on a black background",
    "a snowman on a blue background",
    "a cat left of a dog on a green background",
)


@dataclass
class GenerateForm:
    """values: as typed, for every field. errors: sentences by field; `form` is for no field."""

    values: dict[str, str]
    models: list[ModelJson]
    errors: dict[str, str] = field(default_factory=dict)
    status: int = 200

    @property
    def model(self) -> ModelJson | None:
        named = (model for model in self.models if model["name"] == self.values["model"])
        return next(named, self.models[0] if self.models else None)

    @property
    def sizes(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Shapes by name, each with (value, text) of the sizes worth offering, small ones first;
        the one that was asked for is among them."""
        sizes = _sizes(self.model) if self.model else set()
        asked = _size(self.values["size"])
        if asked:
            sizes.add(asked)
        shapes = (
            ("Square", [sides for sides in sizes if sides[0] == sides[1]]),
            ("Landscape", [sides for sides in sizes if sides[0] > sides[1]]),
            ("Portrait", [sides for sides in sizes if sides[0] < sides[1]]),
        )
        return [
            (
                name,
                [(f"{w}x{h}", f"{w} × {h}") for w, h in sorted(shape, key=lambda s: s[0] * s[1])],
            )
            for name, shape in shapes
            if shape
        ]

    @property
    def examples(self) -> list[str]:
        return list(self.model["examples"] if self.model else ()) or list(EXAMPLES)

    @property
    def placeholder(self) -> str:
        return self.examples[0]

    @property
    def about(self) -> str:
        model = self.model
        if model is None:
            return "There is no model on this server yet."
        known = model["vocabulary"]
        if not known or not known["names"]:
            return f"{model['title']} takes any description."
        return (
            f"{model['title']} knows {len(known['names']):,} things by name, on backgrounds of"
            " many colours, alone or two together. Type, and it completes."
        )

    @property
    def more_open(self) -> bool:
        return any(name in self.errors for name in MORE)

    @property
    def max_steps(self) -> int:
        return choices.limits().max_steps

    @property
    def max_images(self) -> int:
        return choices.limits().max_images

    def refuse(self, problem: Problem) -> None:
        """Say what was refused next to its field; the first word about a field stands."""
        name = FIELD_OF_PROBLEM.get(problem.field or "", problem.field or "form")
        self.errors.setdefault(name if name in (*TYPED, "picture_file") else "form", problem.detail)
        self.status = int(problem.status)

    def settings(self) -> "Settings | None":
        """Checked settings; None when something is wrong: `errors` then says all of it."""
        size = self._sides()
        asked = choices.Asked(
            prompt=self.values["prompt"],
            negative_prompt=self.values["negative_prompt"],
            model=self.values["model"] or None,
            width=size[0] if size else None,
            height=size[1] if size else None,
            steps=self._whole("steps"),
            guidance=self._decimal("guidance"),
            seed=self._whole("seed"),
            num_images=self._whole("num_images"),
        )
        if self.errors:
            self.status = HTTPStatus.UNPROCESSABLE_ENTITY
        try:
            settings, wrong = choices.judged_settings(**asked)
        except Problem as problem:
            self.refuse(problem)
            return None
        for refused in wrong:
            self.refuse(refused)
        return None if self.errors else settings

    def _whole(self, name: str) -> int | None:
        text = self.values[name].strip()
        if not text:
            return None
        if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 18:
            self.errors[name] = "This must be a whole number."
            return None
        return int(text)

    def _decimal(self, name: str) -> float | None:
        text = self.values[name].strip()
        try:
            return float(text) if text else None
        except ValueError:
            self.errors[name] = "This must be a number, such as 4 or 4.5."
            return None

    def _sides(self) -> tuple[int, int] | None:
        text = self.values["size"].strip()
        size = _size(text)
        if text and size is None:
            self.errors["size"] = "A size is two whole numbers, such as 256x256."
        return size


def blank_form(model_name: str = "", **values: str) -> GenerateForm:
    """A form with a model's defaults; `values` win over them."""
    models = choices.models_as_json()
    form = GenerateForm(dict.fromkeys(TYPED, "") | {"model": model_name}, models)
    model = form.model
    if model is None:
        form.errors["form"] = "This server has no model to draw with yet, so nothing can be made."
    else:
        form.values |= {
            "model": model["name"],
            "size": f"{model['default_width']}x{model['default_height']}",
            "steps": str(model["default_steps"]),
            "guidance": number(model["default_guidance"]),
        }
    form.values |= {"num_images": "1", **values}
    return form


def form_like(settings: Mapping[str, Any]) -> GenerateForm:
    """A form filled with the settings of a job or of a picture, which may come from a stranger."""
    text = {name: settings[name] for name in ("prompt", "negative_prompt", "model")}
    sides = f"{settings['width']}x{settings['height']}"
    return blank_form(
        str(text.pop("model")),
        **{name: str(value) for name, value in text.items()},
        size=sides if _size(sides) else "",
        steps=str(settings["steps"]),
        guidance=number(float(settings["guidance"])),
        seed=str(settings["seed"]),
    )


def posted_form(data: Mapping[str, str]) -> GenerateForm:
    values = {name: str(data.get(name, "")) for name in TYPED}
    return GenerateForm(values, choices.models_as_json())


def with_defaults_of_its_model(form: GenerateForm) -> GenerateForm:
    """After another model was chosen: its size, steps and guidance; the rest as typed."""
    kept = ("prompt", "negative_prompt", "seed", "num_images")
    return blank_form(form.values["model"], **{name: form.values[name] for name in kept})


def _size(text: str) -> tuple[int, int] | None:
    width, _, height = text.strip().partition("x")
    if all(side.isascii() and side.isdigit() and len(side) <= 5 for side in (width, height)):
        return int(width), int(height)
    return None


def _sizes(model: ModelJson) -> set[tuple[int, int]]:
    """The default, squares from the smallest to the largest, and 3:2 both ways at the default's
    size, half as much more and the largest."""
    default, multiple = model["default_width"], model["side_multiple"]
    smallest, largest = model["min_side"], model["max_side"]
    sizes = {(default, model["default_height"]), (smallest, smallest), (largest, largest)}
    for quarters in (1, 2, 3, 4, 6, 8):
        side = _nearest(default * quarters / 4, multiple)
        sizes.add((side, side))
    for long in (default, _nearest(default * 3 / 2, multiple), largest):
        short = _nearest(long * 2 / 3, multiple)
        sizes |= {(long, short), (short, long)}
    return {sides for sides in sizes if smallest <= min(sides) and max(sides) <= largest}


def _nearest(side: float, multiple: int) -> int:
    return round(side / multiple) * multiple
