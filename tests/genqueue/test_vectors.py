"""The histories that both queues must answer alike (tests/vectors/queue), on the database.

`tests/js/work/queue/test_vectors.py` plays the same on the queue of a room without a server.
"""

import pytest

from genqueue import transitions
from tests.genqueue.player import play
from tests.vectors import scenes, transition_table


@pytest.mark.django_db
@pytest.mark.parametrize("scene", scenes("database"), ids=str)
def test_the_database_answers_as_written(scene):
    assert play(scene.calls, checks=scene.checks) is None


def test_the_database_allows_the_moves_as_written():
    moves = {
        kind: {old: sorted(new) for old, new in table.items()}
        for kind, table in transitions.MOVES.items()
        if kind != "check"  # what is settled is no record any more in rooms without a server
    }
    assert moves == transition_table()
