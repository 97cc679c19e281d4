"""What the tab that holds a queue sends the others: copies of the room, and files of pictures."""

import pytest
from playwright.sync_api import Page

VISITORS = """async (arg) => {
  const { Visitors } = await import('/static/js/work/visitors.js');
  const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const queue = { jobs: [], workers: [] };
  const host = { state: () => ({ queue }), attach: (_wire, { peer }) => ({ peer, close() {} }) };
  const visitors = new Visitors({
    host, term: () => 1, keepers: () => ['b', 'c'], entered() {},
    timers: { after(ms, run) { const id = setTimeout(run, ms); return () => clearTimeout(id); } },
  });
  const log = [];
  // Somebody whose tab answers a question for a file as told: 'keeps', 'refuses' or 'sleeps'.
  const enter = (peer, does) => {
    const link = {
      send: ({ type }) => log.push(`${peer} ${type}`),
      request: ({ name }) => {
        log.push(`${peer} ${name}`);
        if (does === 'sleeps') return rest(3000).then(() => { throw new Error('timeout'); });
        return does === 'keeps' ? Promise.resolve({}) : Promise.reject(new Error('not-kept'));
      },
      close() {},
    };
    visitors.enter(link, { peer, client: '0'.repeat(32), name: peer, copies: true });
  };
  BODY
}"""


def visited(page: Page, body: str, arg: object = None) -> object:
    return page.evaluate(VISITORS.replace("BODY", body), arg)


def test_what_was_asked_for_goes_at_once_pictures_in_a_moment_and_together(module_page: Page):
    copies = visited(
        module_page,
        """enter('b', 'keeps');
           const counts = [];
           const count = (call) => { log.length = 0; call(); counts.push(log.length); };
           count(() => visitors.changed());
           count(() => { for (let n = 0; n < 8; n++) visitors.finished(); visitors.changed(); });
           log.length = 0;
           await rest(250);
           counts.push(log.length);
           count(() => { visitors.copyNow(); visitors.copyNow(); });
           count(() => visitors.changed());
           log.length = 0;
           await rest(250);
           counts.push(log.length);
           await rest(400);
           counts.push(log.length);
           return counts;""",
    )
    assert copies == [1, 0, 1, 2, 0, 0, 1]


def test_how_far_the_work_has_come_is_told_most_often_to_those_that_would_take_over(module_page):
    copies = visited(
        module_page,
        """for (const peer of 'abc') enter(peer, 'keeps');
           log.length = 0;
           const until = performance.now() + 3500;
           while (performance.now() < until) {
             visitors.changed();
             await rest(20);
           }
           await rest(2000);
           return log;""",
    )
    # At once, after 2 s, and once more when nothing changes any more.
    assert copies.count("a replica.state") == 3
    assert copies[-3:] == ["a replica.state", "b replica.state", "c replica.state"]
    for keeper in "bc":
        assert 6 <= copies.count(f"{keeper} replica.state") <= 9


def test_history_goes_to_each_once(module_page: Page):
    log = visited(
        module_page,
        """queue.jobs = [{ id: 'old', state: 'done', revision: 1 }];
           enter('a', 'keeps');
           visitors.copyNow();
           enter('b', 'keeps');
           queue.jobs = [...queue.jobs, { id: 'new', state: 'done', revision: 2 }];
           visitors.copyNow();
           return log;""",
    )
    assert log == [
        "a replica.part", "a replica.state",
        "a replica.state",
        "b replica.part", "b replica.state",
        "a replica.part", "a replica.state", "b replica.part", "b replica.state",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tabs", "asked"),
    [
        ({"a": "keeps", "b": "keeps"}, ["b file"]),  # who would fetch it anyway
        ({"a": "keeps", "b": "refuses"}, ["b file", "a file"]),
        ({"a": "keeps", "b": "sleeps"}, ["b file", "a file"]),
        ({"a": "refuses", "b": "refuses"}, ["b file", "a file"]),
        ({"a": "keeps"}, ["a file"]),
        ({"b": "refuses"}, ["b file"]),
        ({}, []),
    ],
    ids=str,
)
def test_a_file_goes_to_one_tab_or_where_that_does_not_take_it_to_another(module_page, tabs, asked):
    log = visited(
        module_page,
        """for (const [peer, does] of Object.entries(arg)) enter(peer, does);
           log.length = 0;
           const began = performance.now();
           await visitors.share('file');
           return [log, performance.now() - began];""",
        tabs,
    )
    assert log[0] == asked
    assert log[1] < 1000
