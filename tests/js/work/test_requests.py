"""What may be asked for in a room without a server is what the server would take, and no more."""

import json

import pytest
from pydantic import ValidationError

from diffusion.model_folder import ModelFolder, read_model_folder
from diffusion.settings import Limits, Settings, refusals
from genqueue.api.errors import problem_of_validation
from genqueue.api.schemas import JobRequest
from tests.studio import write_model

RIGHT = {"prompt": "a rocket", "seed": 7}
CASES = [
    {},
    {"negative_prompt": "rain", "width": 128, "height": 256, "steps": 3, "guidance": 1.5},
    {"model": "tiny", "num_images": 16, "seed": 2**32 - 1, "guidance": 20},
    {"negative_prompt": None, "model": None, "width": None, "steps": None, "seed": 0},
    # Texts
    {"prompt": ""},
    {"prompt": " \u2003\n"},
    {"prompt": "漢字"},
    {"prompt": "https://example.org/a.png"},
    {"prompt": "x" * 2000},
    {"prompt": "x" * 2001},
    {"prompt": "🚀" * 2000},
    {"prompt": "🚀" * 2001},
    {"prompt": "a\0b"},
    {"prompt": "a \ud83d b"},
    {"negative_prompt": "\udc00"},
    {"negative_prompt": "y" * 2001},
    # Numbers
    {"width": 65},
    {"width": 48, "height": 528},
    {"height": 0},
    {"width": -16},
    {"steps": 0},
    {"steps": 101},
    {"guidance": 0},
    {"guidance": 0.123456789012},
    {"guidance": 20.0000001},
    {"guidance": 1e300},
    {"guidance": -1e-7},
    {"num_images": 0},
    {"num_images": 17},
    {"seed": -1},
    {"seed": 2**32},
    {"seed": 10**12},
    # Several at once
    {"prompt": "", "width": 65, "steps": 0, "guidance": 50, "seed": -3, "num_images": 99},
    # Types
    {"prompt": None},
    {"prompt": 7},
    {"steps": "8"},
    {"steps": 8.5},
    {"steps": True},
    {"guidance": "4"},
    {"guidance": False},
    {"seed": []},
    {"model": {}},
    {"negative_prompt": 1, "width": "x", "height": None},
    {"colour": "red"},
    {"prompt": 1, "size": 4, "token": None},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> ModelFolder:
    root = tmp_path_factory.mktemp("models")
    write_model(root)
    return read_model_folder(root / "tiny")


def by_the_server(folder: ModelFolder, asked: dict) -> object:
    """Settings, or what is wrong with them, as the API's code, sentence and field."""
    try:
        given = JobRequest(**asked).model_dump()
    except ValidationError as error:
        located = [{**entry, "loc": ("body", "job", *entry["loc"])} for entry in error.errors()]
        wrong = problem_of_validation(located).extra["errors"]
        return [[entry["code"], entry["detail"], entry["field"]] for entry in wrong]
    defaults = {
        "model": folder.name, "width": folder.default_width, "height": folder.default_height,
        "steps": folder.default_steps, "guidance": folder.default_guidance,
    }  # fmt: skip
    settings = Settings(
        **{**defaults, **{name: value for name, value in given.items() if value is not None}}
    )
    wrong = list(refusals(settings, folder, Limits()))
    if wrong:
        return [[error.code, str(error), error.field] for error in wrong]
    return settings.as_dict()


ASK = """async ([model, asked]) => {
  const { checkedSettings } = await import('/static/js/work/requests.js');
  return asked.map((one) => {
    try {
      return checkedSettings(JSON.parse(one), [model]);
    } catch (error) {
      return [error, ...error.others].map(({ code, message, field }) => [code, message, field]);
    }
  }); }"""


def model_json(folder: ModelFolder) -> dict:
    fields = ("name", "side_multiple", "min_side", "max_side", "default_width", "default_height",
              "default_steps", "default_guidance")  # fmt: skip
    return {field: getattr(folder, field) for field in fields} | {"default": True}


def test_every_request_is_taken_or_refused_with_the_servers_codes_and_sentences(
    module_page, folder
):
    requests = [RIGHT | case for case in CASES]
    answers = module_page.evaluate(ASK, [model_json(folder), [json.dumps(one) for one in requests]])
    for asked, answer in zip(requests, answers, strict=True):
        assert answer == by_the_server(folder, asked), asked


def test_a_prompt_is_required_and_a_model_must_be_there(module_page, folder):
    answers = module_page.evaluate(
        ASK, [model_json(folder), ["{}", "[]", "null", '{"prompt": "a cat", "model": "large"}']]
    )
    assert answers[0] == by_the_server(folder, {})
    assert (
        answers[1] == answers[2] == [["not-an-object", "The request must be a JSON object.", None]]
    )
    sentence = "There is no such model here. There are: tiny."
    assert answers[3] == [["unknown-model", sentence, "model"]]


def test_what_is_left_out_is_the_models_default_and_a_random_seed(module_page, folder):
    asked = ['{"prompt": "a cat"}'] * 3
    answers = module_page.evaluate(ASK, [model_json(folder), asked])
    assert len({answer["seed"] for answer in answers}) == 3
    assert {answer["width"] for answer in answers} == {folder.default_width}
