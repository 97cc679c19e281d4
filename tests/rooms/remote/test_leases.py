"""A queue that asks for what none of ours asks for."""

from typing import Any

import pytest

from diffusion.model_folder import read_model_folder
from rooms.remote.conversation import LineClosedError
from rooms.remote.leases import LeaseError, check_lease, model_of, name_of, plain, renew_seconds

RIGHT: dict[str, Any] = {
    "kind": "denoise", "job": "6f0c", "image": 0, "seed": 7, "start": 0, "stop": 2,
    "settings": {
        "prompt": "a rocket", "negative_prompt": "", "model": "theirs", "width": 64, "height": 64,
        "steps": 4, "guidance": 4.0, "seed": 7, "num_images": 1, "more": "is passed over",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(model):
    return read_model_folder(model)


@pytest.mark.parametrize(
    "more",
    [{}, {"kind": "encode", "image": None, "seed": None, "stop": 0},
     {"kind": "decode", "seed": None, "start": 4, "stop": 4}],
)  # fmt: skip
def test_what_queues_ask_for_is_taken(folder, more):
    check_lease({**RIGHT, **more}, folder)
    assert model_of(RIGHT) == "theirs"


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "train"}, {"kind": ["denoise"]}, {"job": 7}, {"job": "x" * 65}, {"image": -1},
        {"image": True}, {"image": 10**6}, {"seed": None}, {"seed": -1}, {"seed": 2**32},
        {"start": 3}, {"stop": 5}, {"start": -1}, {"start": 0.5}, {"stop": None},
    ],
)  # fmt: skip
def test_chunks_of_nothing_are_refused(folder, more):
    with pytest.raises(LeaseError):
        check_lease({**RIGHT, **more}, folder)


@pytest.mark.parametrize(
    "more",
    [
        {"width": 10**9}, {"width": 65}, {"height": "64"}, {"steps": 10**6}, {"steps": 0},
        {"guidance": float("nan")}, {"guidance": "4"}, {"prompt": "x" * 10**6}, {"prompt": None},
        {"num_images": 0},
    ],
)  # fmt: skip
def test_settings_that_no_room_allows_are_refused(folder, more):
    with pytest.raises(LeaseError):
        check_lease({**RIGHT, "settings": {**RIGHT["settings"], **more}}, folder)


def test_settings_that_are_not_whole_are_refused(folder):
    with pytest.raises(LeaseError, match="not whole"):
        check_lease({**RIGHT, "settings": {"model": "theirs"}}, folder)
    for settings in (None, [], {}, {"model": 1}):
        with pytest.raises(LeaseError, match="no model"):
            model_of({"settings": settings})


@pytest.mark.parametrize("name", [{}, {"chunk": 1}, {"chunk": "1", "attempt": 1}, {"chunk": -1}])
def test_what_has_no_name_ends_the_conversation(name):
    with pytest.raises(LineClosedError):
        name_of(name)
    assert name_of({"chunk": 1, "attempt": 2}) == (1, 2)


@pytest.mark.parametrize("said", [None, 0, -1, 31, "10", 10.5, True])
def test_leases_are_renewed_in_time_whatever_is_said(said):
    assert 1 <= renew_seconds({"renew_seconds": said}) <= 10


def test_what_a_terminal_shows_is_one_plain_line():
    assert plain("a\x1b[2J rocket\n\u202eevil") == "a [2J rocket evil"
    assert len(plain("x" * 1000)) == 200
