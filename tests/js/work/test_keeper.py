"""What this browser keeps of a room: whole, by one tab at a time, and nothing else of it."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser import listen_for_errors
from tests.js.engine.package_host import PackageHost

WORDS = """
const k = await import('/static/js/work/keeper.js');
const { Blobs } = await import('/static/js/work/blobs.js');
const failed = (promise) => promise.then(() => null, ({ name, code, message }) =>
  ({ name, code, message }));
const bytes = (...numbers) => Uint8Array.from(numbers);
const state = (number) => ({ number });
"""

Tab = Callable[..., object]


@pytest.fixture(scope="module")
def host() -> Iterator[PackageHost]:
    with PackageHost({}) as host:
        yield host


@pytest.fixture
def browser_of_one(chromium: Browser, host: PackageHost) -> Iterator[BrowserContext]:
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def tab(browser_of_one: BrowserContext, host: PackageHost) -> Iterator[Callable[[], Tab]]:
    """tab(): a new one of the same browser; call it with the body of a function to run in it."""
    errors: list[str] = []

    def open_() -> Tab:
        page: Page = browser_of_one.new_page()
        listen_for_errors(page, errors)
        page.goto(host.url)

        def run(body: str, *args: object) -> object:
            return page.evaluate(f"async (args) => {{ {WORDS} {body} }}", list(args))

        run.page = page
        return run

    yield open_
    assert errors == []


def test_a_room_is_there_again_with_its_blobs_and_those_named_no_more_are_gone(tab):
    first = tab()
    names = first(
        """const keeper = window.keeper = await k.Keeper.open('kitchen');
        const blobs = new Blobs({ keeper });
        const names = [await blobs.put(bytes(1, 2)), await blobs.put(bytes(3))];
        await keeper.save(state(1), new Set(names), (name) => blobs.inMemory(name));
        const third = await blobs.put(bytes(4));
        await keeper.save(state(2), new Set([names[1], third]), (name) => blobs.inMemory(name));
        return [...names, third];"""
    )
    first.page.reload()
    result = first(
        """const keeper = await k.Keeper.open('kitchen');
        const blobs = new Blobs({ keeper });
        const found = await Promise.all(args[0].map((name) => blobs.get(name)));
        return [keeper.state, found.map((blob) => blob && [...blob]), blobs.has(args[0][0])];""",
        names,
    )
    assert result == [{"number": 2}, [None, [3], [4]], False]


def test_one_tab_of_a_browser_keeps_a_room_and_another_may_wait_for_it(tab):
    first, second = tab(), tab()
    first("window.keeper = await k.Keeper.open('kitchen'); await keeper.save(state(1), new Set());")
    refused = second("return failed(k.Keeper.open('kitchen'));")
    assert refused["code"] == "held-elsewhere"
    assert refused["message"] == "Another tab of this browser keeps this room already."
    assert second("return (await k.keptRoom('kitchen')).state;") == {"number": 1}
    assert second("return (await k.Keeper.open('hall')).state;") is None
    second("window.waiting = k.Keeper.open('kitchen', { wait: true }); waiting.catch(() => {});")
    given_up = second(
        """const controller = new AbortController();
        const error = failed(k.Keeper.open('kitchen', { wait: true, signal: controller.signal }));
        controller.abort();
        return (await error).name;"""
    )
    assert given_up == "AbortError"
    first.page.close()
    assert second("return (await waiting).state;") == {"number": 1}


def test_a_state_and_its_blobs_are_written_together_or_not_at_all(tab):
    result = tab()(
        """const keeper = await k.Keeper.open('kitchen');
        await keeper.save(state(1), new Set(['a']), () => bytes(1));
        const error = await failed(
          keeper.save(state(2), new Set(['b', 'c']),
            (name) => (name === 'b' ? bytes(2) : { slice: () => () => 'no clone' })));
        const kept = [keeper.has('a'), keeper.has('b'), [...await keeper.blob('a')]];
        await keeper.close();
        return [error.code, kept, (await k.Keeper.open('kitchen')).state];"""
    )
    assert result == ["not-kept", [True, False, [1]], {"number": 1}]


def test_a_disk_without_room_is_said_in_a_sentence_and_nothing_is_lost(tab, host):
    run = tab()
    session = run.page.context.new_cdp_session(run.page)
    origin = host.url.rstrip("/")
    session.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 300_000})
    run("window.keeper = await k.Keeper.open('kitchen'); await keeper.save(state(1), new Set());")
    result = run(
        """const troubles = [];
        const blobs = new Blobs({ keeper });
        const name = await blobs.put(crypto.getRandomValues(new Uint8Array(60000)));
        const names = [name];
        for (let i = 0; i < 40; i++) {
          names.push(await blobs.put(crypto.getRandomValues(new Uint8Array(60000))));
        }
        const saver = new k.Saver(keeper, {
          room: { blobs, state: () => state(2), names: () => new Set(names) },
          timers: { after: () => () => {} }, onTrouble: (error) => troubles.push(error),
        });
        const kept = await saver.now();
        await saver.now();
        return [kept, troubles.map(({ code, message }) => [code, message]), blobs.has(name),
                (await k.keptRoom('kitchen')).state];"""
    )
    kept, troubles, there, state = result
    assert kept is False
    [[code, message]] = troubles
    assert code == "no-room"
    assert message.startswith("This browser has no more room to keep pictures: save those you want")
    assert there
    assert state == {"number": 1}
    session.send("Storage.overrideQuotaForOrigin", {"origin": origin})
    assert run(
        """const saver = new k.Saver(keeper, {
          room: { blobs: new Blobs({ keeper }), state: () => state(3), names: () => new Set() },
          timers: { after: () => () => {} }, onTrouble: (error) => { throw error; },
        });
        return [await saver.now(), (await k.keptRoom('kitchen')).state];"""
    ) == [True, {"number": 3}]


def test_what_comes_together_is_written_once_and_who_waits_gets_what_was_before(tab):
    result = tab()(
        """const written = [];
        let number = 0;
        let finish;
        const keeper = { save: (value) => { written.push(value.number);
          return new Promise((resolve) => { finish = resolve; }); }, close: () => {} };
        const due = [];
        const saver = new k.Saver(keeper, {
          room: { blobs: new Blobs(), state: () => state(number), names: () => new Set() },
          timers: { after: (ms, run) => { due.push([ms, run]); return () => due.pop(); } },
        });
        for (number = 1; number <= 5; number++) saver.soon();
        const timers = due.length;
        const [ms, run] = due[0];
        run();                                   // the second is over: 6 is written
        await new Promise((resolve) => setTimeout(resolve));
        number = 7;
        const waiting = [saver.now(), saver.now()];
        number = 8;
        finish();
        await new Promise((resolve) => setTimeout(resolve));
        finish();
        return [timers, ms, await Promise.all(waiting), written];"""
    )
    assert result == [1, 1000, [True, True], [6, 8]]


def test_all_tabs_of_a_browser_are_one_client_and_other_browsers_are_others(
    tab, chromium: Browser, host
):
    ask = "return Promise.all([k.ownClientId(), k.ownClientId(), k.ownClientId()]);"
    first = tab()(ask)
    assert len(set(first)) == 1
    assert len(first[0]) == 32
    assert tab()(ask) == first
    label = "const c = await import('/static/js/work/clients.js'); return c.clientLabel(args[0]);"
    public = tab()(label, first[0])
    assert len(public) == 32
    assert public not in first[0]
    other = chromium.new_context()
    page = other.new_page()
    page.goto(host.url)
    theirs = page.evaluate("async () => (await import('/static/js/work/keeper.js')).ownClientId()")
    other.close()
    assert theirs != first[0]


def test_a_damaged_blob_is_none_and_bytes_have_no_other_name(tab):
    result = tab()(
        """const keeper = await k.Keeper.open('kitchen');
        const blobs = new Blobs({ keeper });
        const name = await blobs.put(bytes(1));
        await keeper.save(state(1), new Set([name]), () => bytes(2)); // a disk that errs
        const again = new Blobs({ keeper });
        return [await again.get(name), (await failed(again.adopt(name, bytes(2)))).name];"""
    )
    assert result == [None, "RangeError"]


def test_who_asks_for_a_blob_that_is_on_its_way_waits_for_it(tab):
    found, lost, again, asked = tab()(
        """const blobs = new Blobs(), name = await new Blobs().put(bytes(1, 2));
        let give, refuse, asked = 0;
        const sent = new Promise((resolve) => { give = resolve; });
        const coming = blobs.bring(name, () => { asked += 1; return sent; });
        const twice = blobs.bring(name, () => { asked += 1; });
        const early = blobs.get(name);
        give(bytes(1, 2));
        await Promise.all([coming, twice]);
        const other = '0'.repeat(64);
        const refused = failed(blobs.bring(other, () => new Promise((_, no) => { refuse = no; })));
        const none = blobs.get(other);
        refuse(new Error('the tab has gone'));
        await refused;
        const wrong = await failed(blobs.bring(other, async () => bytes(3)));
        return [[...await early], await none, wrong.name, asked];"""
    )
    assert (found, lost, again, asked) == ([1, 2], None, "RangeError", 1)


def test_memory_holds_what_is_nowhere_else_and_not_all_that_can_be_read_again(tab):
    result = tab()(
        """let now = 0;
        const kept = new Set();
        const keeper = { has: (name) => kept.has(name), blob: async () => null };
        const blobs = new Blobs({ keeper, now: () => now });
        const names = [];
        for (let i = 0; i < 10; i++) {
          const data = new Uint8Array(2 ** 23);
          data[0] = i;
          names.push(await blobs.put(data));
        }
        names.slice(0, 9).forEach((name) => kept.add(name));
        blobs.keep(new Set(names));
        const stray = await blobs.put(bytes(1));
        blobs.keep(new Set(names));
        const young = blobs.inMemory(stray) !== null;
        now = 11000;
        blobs.keep(new Set(names));
        const lost = names.filter((name) => !blobs.has(name));
        return [young, blobs.has(stray), blobs.bytes / 2 ** 23 <= 8, lost.length,
                blobs.inMemory(names[9]) !== null];"""
    )
    assert result == [True, False, True, 0, True]


HISTORY = """
const { put, delete: delete_ } = IDBObjectStore.prototype;
const log = [];
Object.assign(IDBObjectStore.prototype, {
  put(value, key) {
    if (Array.isArray(key)) log.push(`put ${key.slice(1).join(' ')}`);
    return put.call(this, value, key);
  },
  delete(key) { log.push(`delete ${key.slice(1).join(' ')}`); return delete_.call(this, key); },
});
const room = (jobs, workers = []) => ({ about: {}, queue: { jobs, workers } });
const done = (id, more) => ({ id, state: 'done', ...more });
const save = async (keeper, state) => {
  log.length = 0;
  await keeper.save(state, new Set(), () => null);
  return [...log];
};
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
"""


def test_history_is_written_once_and_is_there_with_the_state_that_names_it(tab):
    said = tab()(
        HISTORY
        + """let keeper = await k.Keeper.open('kitchen');
        const running = (step) => ({ id: 'r', state: 'running', step });
        const gone = { id: 'w', state: 'gone' };
        const said = [
          await save(keeper, room([done('a'), running(1)], [gone])),
          await save(keeper, room([done('a'), running(2)], [gone])),
          await save(keeper, room([done('a', { doubt: 'wrong' }), done('r')], [gone])),
        ];
        await keeper.close();
        keeper = await k.Keeper.open('kitchen');
        const last = room([done('a', { doubt: 'wrong' }), done('r')], [gone]);
        const other = await k.Keeper.open('hall');
        said.push(same(keeper.state, last), same((await k.keptRoom('kitchen')).state, last));
        said.push(await save(keeper, last), await save(keeper, room([done('r')])));
        said.push(other.state, await save(other, room([done('r')])));
        return said;"""
    )
    assert said == [
        ["put jobs a", "put workers w"],
        [],
        ["put jobs a", "put jobs r"],
        True,
        True,
        [],
        ["delete jobs a", "delete workers w"],
        None,
        ["put jobs r"],
    ]


def test_history_that_could_not_be_written_is_written_with_the_next_state(tab):
    said = tab()(
        HISTORY
        + """const keeper = await k.Keeper.open('kitchen');
        await save(keeper, room([done('a')]));
        const bad = { slice: () => () => 'no clone' };
        const refused = await Promise.all([
          failed(keeper.save(room([done('a'), done('b')]), new Set(['x']), () => bad)),
          failed(keeper.save(room([done('a'), done('b'), done('c')]), new Set(), () => null)),
        ]);
        const kept = await k.keptRoom('kitchen');
        return [refused.map((error) => error?.code), kept.state.queue.jobs.map(({ id }) => id)];"""
    )
    assert said == [["not-kept", None], ["a", "b", "c"]]


def test_what_is_damaged_is_not_read_and_not_written_over(tab):
    said = tab()(
        HISTORY
        + """const keeper = await k.Keeper.open('kitchen');
        await save(keeper, room([done('a')]));
        await keeper.close();
        await new Promise((resolve) => {
          const opening = indexedDB.open('p2pweb-rooms');
          opening.onsuccess = () => {
            const rooms = opening.result.transaction('rooms', 'readwrite').objectStore('rooms');
            delete_.call(rooms, ['kitchen', 'jobs', 'a']).onsuccess = () => {
              opening.result.close();
              resolve();
            };
          };
        });
        const open = () => failed(k.Keeper.open('kitchen'));
        const refused = [await open(), await open()];
        return [refused.map(({ code }) => code), refused[0].message];"""
    )
    assert said == [
        ["not-kept", "not-kept"],
        "This browser keeps nothing of this room, so it is lost when its last tab closes"
        " (a room's state: a name of no record).",
    ]


def test_a_room_that_lay_there_as_a_whole_is_read_and_kept_in_parts(tab):
    said = tab()(
        HISTORY
        + """(await k.Keeper.open('kitchen')).close(); // the database is there
        const whole = room([done('a'), { id: 'r', state: 'running' }]);
        await new Promise((resolve, reject) => {
          const opening = indexedDB.open('p2pweb-rooms');
          opening.onsuccess = () => {
            const rooms = opening.result.transaction('rooms', 'readwrite').objectStore('rooms');
            put.call(rooms, { state: whole, savedAt: 1 }, 'kitchen').onsuccess = () => {
              opening.result.close();
              resolve();
            };
          };
          opening.onerror = reject;
        });
        const keeper = await k.Keeper.open('kitchen');
        const read = same(keeper.state, whole);
        const written = await save(keeper, whole);
        return [read, written, same((await k.keptRoom('kitchen')).state, whole)];"""
    )
    assert said == [True, ["put jobs a"], True]
