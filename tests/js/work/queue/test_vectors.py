"""The histories that both queues must answer alike (tests/vectors/queue), on a RoomQueue.

`tests/genqueue/test_vectors.py` plays the same on the database.
"""

import pytest

from tests.vectors import scenes, transition_table


@pytest.mark.parametrize("scene", scenes("room"), ids=str)
def test_the_room_queue_answers_as_written(run, scene):
    body = "const { play } = await module('./player.js'); return play(...args);"
    assert run(body, scene.calls, {"checks": scene.checks}) is None


def test_the_room_queue_allows_the_moves_as_written(run):
    moves = run("return (await module('transitions.js')).MOVES;")
    sorted_moves = {
        kind: {old: sorted(new) for old, new in table.items()}
        for kind, table in moves.items()
        if kind != "check"  # what is settled is no record any more there
    }
    assert sorted_moves == transition_table()
