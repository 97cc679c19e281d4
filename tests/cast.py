"""The cast of all tests: alice owns the room, bob is in it too, charlie is a stranger."""

from dataclasses import dataclass

import pytest
from django.test import Client

from genqueue import clients


@dataclass(frozen=True)
class Person:
    """A browser: its client id, its public label and a Django test client with its cookie."""

    client_id: str
    label: str
    browser: Client


def person(digit: str) -> Person:
    client_id = digit * 32
    browser = Client()
    browser.cookies[clients.COOKIE_NAME] = clients.signed(client_id)
    return Person(client_id, clients.client_label(client_id), browser)


@pytest.fixture
def alice() -> Person:
    return person("a")


@pytest.fixture
def bob() -> Person:
    return person("b")


@pytest.fixture
def charlie() -> Person:
    return person("c")
