"""Who is in a room."""

from datetime import timedelta

import pytest
from django.utils import timezone

from genqueue import presence as counts
from rooms import presence
from rooms.models import Peer

pytestmark = pytest.mark.django_db


def test_tabs_are_listed_in_the_order_they_came_and_counted(alice, bob, kitchen):
    presence.join(kitchen, "one", alice.label)
    presence.join(kitchen, "two", bob.label)
    assert presence.peers(kitchen) == [
        {"id": "one", "client": alice.label, "owner": True, "worker": None, "status": None},
        {"id": "two", "client": bob.label, "owner": False, "worker": None, "status": None},
    ]
    assert counts.peers(kitchen) == 2
    presence.leave(kitchen, "one")
    assert [peer["id"] for peer in presence.peers(kitchen)] == ["two"]
    assert counts.peers(kitchen) == 1


def test_tabs_of_a_site_process_that_died_are_forgotten(bob):
    presence.join("den", "alive", bob.label)
    presence.join("den", "dead", bob.label)
    long_ago = timezone.now() - timedelta(seconds=13)
    Peer.objects.filter(pk="dead").update(site="another", seen_at=long_ago)
    assert [peer["id"] for peer in presence.peers("den")] == ["alive"]
    presence.repeat()
    assert [row.pk for row in Peer.objects.all()] == ["alive"]
