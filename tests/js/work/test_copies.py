"""A room's state without what the other end has: history goes once."""

import pytest
from playwright.sync_api import Page

# `job(id, state, revision)`; `over(states)` is what an end has after each, and how much came
COPIES = """async (arg) => {
  const { CopyReader, CopySender } = await import('/static/js/work/copies.js');
  const job = (id, state, revision, more = {}) => ({ id, state, revision, ...more });
  const worker = (id, state, more = {}) => ({ id, state, ...more });
  const room = (jobs, workers = []) => ({ about: { title: 'x' }, queue: { jobs, workers } });
  const refused = (take) => {
    try { take(); return null; } catch ({ name, message }) { return `${name}: ${message}`; } };
  const over = (states, options) => {
    const sender = new CopySender(options);
    const reader = new CopyReader();
    return states.map((whole) => {
      const [parts, state] = JSON.parse(JSON.stringify(Object.values(sender.pack(whole))));
      for (const part of parts) reader.add(part);
      const arrived = JSON.stringify(reader.whole(state)) === JSON.stringify(whole);
      const sent = parts.flatMap(({ records }) => records.map(({ id }) => id));
      return [sent, arrived];
    });
  };
  BODY
}"""


def copied(page: Page, body: str, arg: object = None) -> object:
    return page.evaluate(COPIES.replace("BODY", body), arg)


def test_what_has_ended_goes_once_and_again_when_it_is_another_one(module_page: Page):
    assert copied(
        module_page,
        """const running = (revision) => job('r', 'running', revision);
           return over([
             room([job('a', 'done', 1), running(2)], [worker('w', 'gone'), worker('v', 'ready')]),
             room([job('a', 'done', 1), running(3)], [worker('w', 'gone'), worker('v', 'ready')]),
             room([job('a', 'done', 4), job('r', 'failed', 5)], [worker('w', 'ready')]),
             room([job('a', 'done', 4)], [worker('w', 'gone', { valid: 1 })]),
             room([job('r', 'failed', 5)], [worker('w', 'gone', { valid: 1 })]),
           ], { oneHolder: true });""",
    ) == [
        [["a", "w"], True],
        [[], True],
        [["a", "r"], True],
        [["w"], True],
        [["r"], True],  # which was not in the one before
    ]


def test_of_several_holders_what_differs_goes_whatever_its_revision_is(module_page: Page):
    states = """const states = [1, 2].map((n) => room([job('a', 'done', 7, { n })]));
                return over(states, arg);"""
    assert copied(module_page, states, {"oneHolder": False}) == [[["a"], True]] * 2
    assert copied(module_page, states, {"oneHolder": True})[1] == [[], False]


def test_a_long_history_goes_in_pieces_that_nothing_waits_long_for(module_page: Page):
    sizes, one = copied(
        module_page,
        """const jobs = Array.from({ length: 500 }, (_, n) =>
             job(`${n}`, 'done', n, { prompt: 'x'.repeat(n === 9 ? 300_000 : 1000) }));
           const { parts } = new CopySender().pack(room(jobs));
           const [{ list, records }] = parts;
           return [parts.map((part) => JSON.stringify(part).length), [list, records[0].id]];""",
    )
    assert 5 <= len(sizes) <= 8
    assert sorted(sizes)[-2] < 2**17 + 1000
    assert sum(sizes) > 799_000
    assert one == ["jobs", "0"]


BAD = [
    ("reader.whole(room(['a']))", "a name of no record"),
    ("reader.whole(room([], ['w']))", "a name of no record"),
    ("reader.add({ list: 'jobs' })", "a part without records"),
    ("reader.add({ list: 'constructor', records: [] })", "a part without records"),
    ("reader.add({ list: 'chunks', records: [] })", "a part without records"),
    ("reader.add({ list: 'jobs', records: [null] })", "a record without an id"),
    ("reader.add({ list: 'jobs', records: [{ id: 7 }] })", "a record without an id"),
    (
        "for (let n = 0; n < 40; n++) reader.add("
        "{ list: 'jobs', records: [{ id: `${n}`, prompt: 'x'.repeat(2 ** 20) }] })",
        "more than one room holds",
    ),
]


@pytest.mark.parametrize(("take", "says"), BAD, ids=[says for _, says in BAD])
def test_what_names_nothing_or_is_too_much_is_refused(module_page: Page, take: str, says: str):
    said = copied(
        module_page, f"const reader = new CopyReader(); return refused(() => {{ {take}; }});"
    )
    assert said == f"SnapshotError: a room's state: {says}"


def test_what_no_state_names_any_more_is_not_held(module_page: Page):
    assert copied(
        module_page,
        """const reader = new CopyReader();
           for (let n = 0; n < 100; n++) { // in all more than one room holds
             reader.add({ list: 'jobs', records: [{ id: `${n}`, prompt: 'x'.repeat(2 ** 20) }] });
             reader.whole(room([`${n}`]));
           }
           return ['99', '98'].map((id) => refused(() => reader.whole(room([id]))));""",
    ) == [None, "SnapshotError: a room's state: a name of no record"]


@pytest.mark.parametrize("state", ["null", "7", "{}", "{ queue: 7 }", "{ queue: { jobs: {} } }"])
def test_what_is_no_state_is_left_to_who_reads_it(module_page: Page, state: str):
    assert copied(
        module_page,
        f"return JSON.stringify(new CopyReader().whole({state})) === JSON.stringify({state});",
    )
