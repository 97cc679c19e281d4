"""Who holds the queue of a room without a server: from what tabs announce, whoever they are."""

import pytest
from playwright.sync_api import Page

from rooms.remote.webrtc import strangers

SAID = {
    "old": {"holds": True, "term": 1, "copy": -1},
    "phone": {"holds": True, "term": 2, "copy": -1, "capable": False},
    "first": {"holds": True, "term": 2, "copy": -1, "capable": True},
    "later": {"holds": True, "term": 2, "copy": -1},
    "guest": {"holds": False, "term": 9, "copy": 2, "capable": True},
    "phone guest": {"holds": False, "term": 9, "copy": 2, "capable": False},
    "late guest": {"holds": False, "term": 9, "copy": 1},
}
STRANGE = [None, [], {}, {"queue": 1}, {"queue": {"capable": 0}}, {"queue": {"capable": "no"}}]
ABOUT = [*({"queue": said} for said in SAID.values()), *STRANGE]

CALL = """async ([name, abouts]) => {
  const m = await import('/static/js/work/claims.js');
  const claims = abouts.map(([id, about]) => m.readClaim(id, about));
  return name === 'readClaim' ? claims : m[name](claims);
}"""


def call(page: Page, name: str, **abouts: object) -> object:
    return page.evaluate(CALL, [name, list(abouts.items())])


def of(*names: str, ids: str) -> dict[str, object]:
    return {id_: {"queue": SAID[name]} for id_, name in zip(ids, names, strict=True)}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["old", "later"], "b"),  # the highest term
        (["old", "phone"], "b"),  # whoever has it
        (["later", "first"], "a"),  # of equal ones the lowest id
        (["phone", "first"], "b"),  # of a capable one
        (["guest", "late guest"], None),  # nobody holds one
    ],
    ids=str,
)
def test_everybody_follows_the_same_one_tabs_and_helpers(module_page, names, chosen):
    claims = of(*names, ids="ab")
    found = call(module_page, "rightful", **claims)
    assert (found and found["id"]) == chosen
    theirs = strangers.rightful([strangers.read_claim(*one) for one in claims.items()])
    assert (theirs and theirs.id) == chosen


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["late guest", "guest"], "ba"),  # the newest copy
        (["late guest", "phone guest"], "ba"),  # whoever has it
        (["guest", "guest"], "ab"),  # of equal ones the lowest id
        (["phone guest", "guest"], "ba"),  # of a capable one
        (["phone guest", "guest", "phone guest", "guest"], "bdac"),
    ],
    ids=str,
)
def test_who_takes_over(module_page, names, order):
    claims = of(*names, ids="abcd"[: len(names)])
    assert call(module_page, "successors", **claims) == list(order)


def test_tabs_and_helpers_read_the_same(module_page):
    claims = call(module_page, "readClaim", **{f"p{n}": one for n, one in enumerate(ABOUT)})
    for number, (claim, about) in enumerate(zip(claims, ABOUT, strict=True)):
        theirs = strangers.read_claim(f"p{number}", about)
        read = (claim["holds"], claim["term"], claim["capable"])
        assert read == (theirs.holds, theirs.term, theirs.capable), about
