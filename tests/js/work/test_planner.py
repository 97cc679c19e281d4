"""The planner never chooses what would lose: against a simulation of two tabs in virtual time."""

import heapq
import random
from collections.abc import Callable
from typing import Any

import pytest

Plan = dict[str, Any]
SITUATION: Plan = {
    "setting": "auto", "guidance": 4, "steps": 20, "aloneS": 1.0, "halfS": 0.5, "setupS": 0,
    "others": 1, "busy": 0, "candidates": [{"id": "bob", "halfS": 0.5, "crossingS": 0.01}],
}  # fmt: skip


@pytest.fixture
def planner(module_page) -> Callable[..., Any]:
    """planner(body, *args): a function body with the module's exports as `m`."""
    return lambda body, *args: module_page.evaluate(
        "async (args) => { const m = await import('/static/js/work/planner.js');"
        f" return (() => {{ {body} }})(); }}",
        list(args),
    )


def situation(**changes: Any) -> Plan:
    peer = {"id": "bob", "halfS": 0.5, "crossingS": 0.01}
    peer |= {
        name: changes.pop(name) for name in ("peerS", "crossingS", "checks") if name in changes
    }
    if "peerS" in peer:
        peer["halfS"] = peer.pop("peerS")
    return {**SITUATION, "candidates": [peer], **changes}


def simulated(steps: int, own: float, peer: float, crossing: float, setup: float) -> float:
    """Seconds until the holder has done all steps: events in order of time, each tab begins a step
    when it has both velocities of the one before."""
    seconds = {"here": own, "there": peer}
    have = {"here": {(-1, "own"), (-1, "other")}, "there": {(-1, "own"), (-1, "other")}}
    events: list[tuple[float, str, int, str]] = [
        (setup, "here", 0, "begin"),
        (setup + crossing, "there", 0, "begin"),
    ]
    heapq.heapify(events)
    while events:
        now, tab, step, what = heapq.heappop(events)
        other = "there" if tab == "here" else "here"
        if what == "begin":
            heapq.heappush(events, (now + seconds[tab], tab, step, "computed"))
            continue
        have[tab].add((step, "own" if what == "computed" else "other"))
        if what == "computed":
            heapq.heappush(events, (now + crossing, other, step, "arrived"))
        if {(step, "own"), (step, "other")} <= have[tab]:
            if step + 1 == steps:
                if tab == "here":
                    return now
            else:
                heapq.heappush(events, (now, tab, step + 1, "begin"))
    raise AssertionError("it never ended")


def cases(count: int, seed: int) -> list[Plan]:
    chance = random.Random(seed)
    return [
        {
            "steps": chance.randint(1, 60),
            "aloneS": chance.choice([0.01, 0.2, 1, 30]) * chance.uniform(0.5, 2),
            "ratio": chance.uniform(0.4, 1.0),
            "peer": chance.choice([0.3, 1, 1, 1, 3]) * chance.uniform(0.7, 1.4),
            "crossing": chance.choice([0, 0.01, 0.1, 0.5, 2]) * chance.uniform(0.5, 1.5),
            "setup": chance.choice([0, 0, 0.5, 3]) * chance.random(),
        }
        for _ in range(count)
    ]


def test_what_it_expects_is_what_happens_and_no_losing_split_is_chosen(planner) -> None:
    situations, took = [], []
    for case in cases(3000, 11):
        own = case["aloneS"] * case["ratio"]
        peer, crossing = own * case["peer"], case["aloneS"] * case["crossing"]
        setup = case["aloneS"] * case["setup"]
        situations.append(
            situation(
                steps=case["steps"], aloneS=case["aloneS"], halfS=own, setupS=setup,
                peerS=peer, crossingS=crossing,
            )
        )  # fmt: skip
        took.append(simulated(case["steps"], own, peer, crossing, setup))
    chosen = planner("return args[0].map((each) => m.choose(each));", situations)
    strategies = {choice["strategy"] for choice in chosen}
    assert strategies == {"alone", "halves"}
    for asked, seconds, choice in zip(situations, took, chosen, strict=True):
        gain = asked["steps"] * asked["aloneS"] / seconds
        assert choice["expected"] == pytest.approx(gain)
        # at the very boundary rounding decides
        if gain > 1.1 + 1e-9:
            assert (choice["strategy"], choice["why"]) == ("halves", "gain")
        elif gain < 1.1 - 1e-9:
            assert choice["strategy"] == "alone"
            assert choice["why"] in {"slow-link", "slow-tab", "short"}


def test_a_long_split_takes_what_the_slowest_way_round_takes_for_a_step(planner) -> None:
    """Each half by itself, or there and back: the greater one."""
    for own, peer, crossing in [(1, 1, 0), (1, 0.5, 0.1), (0.5, 2, 0.1), (1, 1, 0.5)]:
        body = """const [ownS, peerS, crossingS] = args;
          const seconds = (steps) => m.splitSeconds({ steps, ownS, peerS, crossingS });
          return (seconds(1000) - seconds(900)) / 100;"""
        step = max(own, peer, (own + peer) / 2 + crossing)
        assert planner(body, own, peer, crossing) == pytest.approx(step)


@pytest.mark.parametrize(
    ("changes", "strategy", "why"),
    [
        ({}, "halves", "gain"),
        # the boundary itself: 1.1 times as fast, without a link, is a split; less is none
        ({"crossingS": 0, "aloneS": 1.1, "halfS": 1, "peerS": 1}, "halves", "gain"),
        ({"crossingS": 0, "aloneS": 1.0999, "halfS": 1, "peerS": 1}, "alone", "slow-tab"),
        ({"setting": "alone"}, "alone", "forced"),
        ({"setting": "bands"}, "alone", "forced"),
        ({"setting": "halves", "crossingS": 50}, "halves", "forced"),
        ({"setting": "halves", "aloneS": None}, "halves", "forced"),
        ({"setting": "halves", "guidance": 1}, "alone", "unguided"),
        ({"setting": "halves", "candidates": []}, "alone", "nobody"),
        ({"guidance": 1}, "alone", "unguided"),
        ({"candidates": [], "others": 0}, "alone", "nobody"),
        ({"candidates": [], "others": 0, "guidance": 1}, "alone", "nobody"),
        ({"candidates": [], "others": 2, "busy": 1}, "alone", "busy"),
        ({"candidates": [], "others": 2}, "alone", "nobody"),
        ({"aloneS": None}, "alone", "unmeasured"),
        ({"crossingS": 1}, "alone", "slow-link"),
        ({"peerS": 3}, "alone", "slow-tab"),
        ({"setupS": 3, "steps": 4}, "alone", "short"),
        ({"checks": 1, "steps": 1}, "alone", "short"),  # the first time its half is computed here
        ({"checks": 1, "steps": 12}, "halves", "gain"),
        ({"steps": 0}, "alone", "short"),  # the last one is under way
        # until they were measured, halves are taken for halves
        ({"halfS": None, "peerS": None}, "halves", "gain"),
        ({"halfS": None, "peerS": 2}, "alone", "slow-tab"),
    ],
)  # fmt: skip
def test_what_is_chosen_and_why(planner, changes: Plan, strategy: str, why: str) -> None:
    chosen = planner("return m.choose(args[0]);", situation(**changes))
    assert (chosen["strategy"], chosen["why"]) == (strategy, why)


def test_the_best_of_several_tabs_is_taken(planner) -> None:
    candidates = [
        {"id": "far", "halfS": 0.4, "crossingS": 0.4},
        {"id": "near", "halfS": 0.5, "crossingS": 0.01},
        {"id": "slow", "halfS": 0.9, "crossingS": 0.01},
    ]
    chosen = planner("return m.choose(args[0]);", situation(candidates=candidates))
    assert chosen["peer"] == "near"


def test_a_split_is_judged_by_its_steps(planner) -> None:
    body = """return args.map((split) => m.goesOn({ setting: 'auto', aloneS: 1, ...split }));"""
    splits = [
        {"stepS": 5, "measured": 2}, {"stepS": 0.99, "measured": 3}, {"stepS": 1, "measured": 3},
        {"stepS": 5, "measured": 3, "setting": "halves"},
        {"stepS": 5, "measured": 9, "aloneS": None},
    ]  # fmt: skip
    assert planner(body, *splits) == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ({"strategy": "halves", "expected": 1.84, "real": None},
         "Computed by two: 1.8\u00a0× as fast expected."),
        ({"strategy": "halves", "expected": 1.84, "real": 1.67},
         "Computed by two: 1.7\u00a0× as fast (1.8\u00a0× expected)."),
        ({"strategy": "halves", "expected": None, "real": None}, "Computed by two."),
        ({"strategy": "bands", "rows": [6, 6], "expected": 1.53, "real": None},
         "Decoded by two: 1.5\u00a0× as fast expected."),
        ({"strategy": "bands", "rows": [5, 4, 3], "expected": 2.2, "real": 1.9},
         "Decoded by three: 1.9\u00a0× as fast (2.2\u00a0× expected)."),
        ({"why": "slow-link", "expected": 0.714},
         "Alone: the link is too slow to share one picture (it would take 1.4\u00a0× as long)."),
        ({"why": "slow-tab", "expected": 1.05},
         "Alone: the other tab is too slow to share one picture"
         " (it would be only 1.05\u00a0× as fast)."),
        ({"why": "nobody"}, ""),
        ({"why": "forced"}, ""),
        ({"why": "gain", "ended": "gone"}, "Alone: the other tab has gone."),
    ],
)  # fmt: skip
def test_people_read_one_sentence_of_it(module_page, strategy: Plan, said: str) -> None:
    full = {"strategy": "alone", "why": "gain", "peer": "bob", "expected": None, "real": None,
            "ended": None, "name": "", **strategy}  # fmt: skip
    found = module_page.evaluate(
        "async (strategy) => (await import('/static/js/work/strategy-words.js'))"
        ".strategySentence(strategy)",
        full,
    )
    assert found == said


def test_and_one_of_helping(module_page) -> None:
    found = module_page.evaluate(
        "async (all) => all.map((await import('/static/js/work/strategy-words.js'))"
        ".helpingSentence)",
        [{"step": 2, "steps": 8}, {"step": 8, "steps": 8}, {"band": {"first": 0, "rows": 4}}],
    )
    assert found == [
        "Helping another tab with its picture: step 3 of 8.",
        "Helping another tab with its picture: step 8 of 8.",
        "Helping another tab to finish its picture.",
    ]
