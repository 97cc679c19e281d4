"""Random histories (histories.js): whatever happens, no image is lost, no result comes twice, and
every job ends. The same histories give the same on the database.

HISTORIES=10000 in the environment plays so many in the page, DATABASE_HISTORIES so many on the
database, from FIRST_DATABASE_HISTORY on, and half as many with checks.
"""

import os

import pytest

from tests.genqueue.player import play

HISTORIES = int(os.environ.get("HISTORIES", "1000"))
DATABASE_HISTORIES = int(os.environ.get("DATABASE_HISTORIES", "10"))
FIRST = int(os.environ.get("FIRST_DATABASE_HISTORY", "0"))
A_CALL = 100


def test_what_must_hold_does_after_every_call_of_every_history(run):
    gave: dict[str, int] = {}
    for first in range(0, HISTORIES, A_CALL):
        counted = run(
            """const { history } = await module('./histories.js');
               const counted = {};
               for (let seed = args[0]; seed < args[0] + args[1]; seed++) {
                 try {
                   for (const { call, gives = 'ok' } of history(seed)) {
                     const chunk = typeof gives === 'string' && gives.includes(' ');
                     const seen = typeof gives === 'object' && gives;
                     const name = `${call} ${chunk ? 'a chunk' : seen ? 'a job' : gives}`;
                     counted[name] = (counted[name] ?? 0) + 1;
                   }
                 } catch (error) {
                   const calls = error.calls?.map((call) => JSON.stringify(call)).join('\\n');
                   throw new Error(`${error.message}\\n${calls}`);
                 }
               }
               return counted;""",
            first,
            min(A_CALL, HISTORIES - first),
        )
        for name, number in counted.items():
            gave[name] = gave.get(name, 0) + number
    # They are about something: each of these has happened, the rarest every 500 histories.
    for name in (
        "complete ok", "complete lost", "fail ok", "fail lost", "step ok", "step lost",
        "release ok", "renew ok", "renew lost", "sweep 1", "restore ok", "cancel true",
        "cancel false", "remove true", "remove not-finished", "dismiss true", "leave ok",
        "claim null",
    ):  # fmt: skip
        assert gave.get(name, 0) >= HISTORIES / 500, (name, gave)


def test_with_checks_no_lie_is_shown_as_right_and_nobody_honest_is_shut_out(run):
    """The same must hold as without, and besides: what Watch says of lies, and of who checks."""
    seen: dict[str, int] = {}
    for first in range(0, HISTORIES // 4, A_CALL):
        counted = run(
            """const { history } = await module('./histories.js');
               const seen = { checks: 0, refused: 0, pictures: 0 };
               for (let seed = args[0]; seed < args[0] + args[1]; seed++) {
                 for (const { call, gives } of history(seed, { checks: true })) {
                   if (call === 'claim' && gives?.startsWith('check ')) seen.checks += 1;
                   if (call === 'arrive' && gives === 'shut-out') seen.refused += 1;
                   for (const image of (call === 'look' && gives?.images) || []) {
                     seen.pictures += image.includes(' is ') ? 1 : 0;
                   }
                 }
               }
               return seen;""",
            first,
            min(A_CALL, HISTORIES // 4 - first),
        )
        for name, number in counted.items():
            seen[name] = seen.get(name, 0) + number
    for name, number in seen.items():  # each has happened
        assert number >= HISTORIES / 1000, (name, seen)


@pytest.mark.parametrize("checks", [False, True])
def test_two_halves_of_a_split_room_become_one_and_lose_no_picture(run, checks):
    count = HISTORIES // (8 if checks else 4)
    for first in range(0, count, A_CALL):
        run(
            """const { splitHistory } = await module('./histories.js');
               const [first, count, checks] = args;
               for (let seed = first; seed < first + count; seed++) {
                 splitHistory(seed, { checks });
               }""",
            first,
            min(A_CALL, count - first),
            checks,
        )


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(FIRST, FIRST + DATABASE_HISTORIES))
def test_a_history_gives_the_same_on_the_database(run, seed):
    calls = run(
        "const { history } = await module('./histories.js');"
        " return history(args[0], { calls: 50, restarts: false });",
        seed,
    )
    assert play(calls) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    "seed", [6 * (FIRST // 2 + number) for number in range(1, DATABASE_HISTORIES // 2 + 1)]
)
def test_a_history_with_checks_gives_the_same_on_the_database(run, seed):
    """Of those in which nobody lies, so that nobody is refused, and nobody is trusted."""
    calls = run(
        "const { history } = await module('./histories.js');"
        " return history(args[0], { calls: 50, restarts: false, checks: true });",
        seed,
    )
    assert play(calls, checks=True) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    "factors", [[1, 1.5, 2, 2.5, 4], [1, 1, 2, 2, 2], [0.4, 0.4, 0.5, 3, 7]], ids=str
)
def test_the_end_of_a_batch_is_the_same_on_the_database(run, factors):
    """Who leaves which image to whom follows from numbers that both must compute alike."""
    told = run(
        "const { batch } = await module('./tails.js'); return batch(1, args[0]);",
        {"factors": factors, "images": 6, "steps": 12},
    )
    assert told["calls"][-1]["gives"]["state"] == "done"
    assert told["moved"] >= 3
    assert play(told["calls"]) is None
