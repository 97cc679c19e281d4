"""One reader a room: what it does when a page leaves in the middle."""

import pytest
from autobahn.exception import Disconnected

from rooms.feed import Feed

pytestmark = pytest.mark.django_db(transaction=True)


class Page:
    def __init__(self, *, leaves: bool = False) -> None:
        self.leaves = leaves
        self.heard: list[str] = []

    async def show_room(self, now: object) -> None:
        self._hear("room")

    async def show_peers(self, peers: object) -> None:
        self._hear("peers")

    def _hear(self, what: str) -> None:
        if self.leaves:  # as Daphne's socket does after its page began to close it
            raise Disconnected("Attempt to send on a closed protocol")
        self.heard.append(what)


async def test_a_page_that_is_leaving_keeps_no_other_from_hearing(kitchen):
    feed = Feed(kitchen)
    pages = [Page() for _ in range(8)]
    for page in [*pages[:4], Page(leaves=True), *pages[4:]]:
        feed._subscribers.add(page)
    feed.hint(room=True, peers=True)
    await feed._reader.read_now()
    assert [page.heard for page in pages] == [["room", "peers"]] * 8
