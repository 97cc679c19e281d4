"""Unit tests of the page's modules, inside Chromium, without a room."""

import json

import pytest

from rooms.export import PUBLIC_RELAYS


@pytest.fixture
def run(open_page, alice):
    """run(module, body, *args): a function body with the module's exports as `m`."""
    page = open_page(alice, "/")

    def run_(module: str, body: str, *args):
        return page.evaluate(
            "async ([module, args]) => { const m = await import(`page/${module}.js`);"
            f" return (async (...args) => {{ {body} }})(...args); }}",
            [module, list(args)],
        )

    return run_


def test_libraries_load_through_the_pages_import_map(open_page, alice):
    loaded = """async () => {
      const { loadTrystero } = await import('room/trystero.js');
      return (await loadTrystero()).nostr.selfId.length;
    }"""
    assert open_page(alice, "/").evaluate(loaded) == 20


def test_the_public_relays_of_exported_pages_are_those_that_trystero_takes(open_page, alice):
    """The policy of such a page lets it connect to these and to no others."""
    chosen = """async () => {
      const { loadTrystero } = await import('room/trystero.js');
      return (await loadTrystero()).publicRelays();
    }"""
    assert open_page(alice, "/").evaluate(chosen) == list(PUBLIC_RELAYS)


# slots ----------------------------------------------------------------------------------------
def test_values_become_text_and_never_markup(run):
    html = run(
        "slots",
        """const div = document.createElement('div');
           div.dataset.slots = 'title=a hidden=b lang=c';
           const span = document.createElement('span');
           span.dataset.slot = 'text';
           div.append(span);
           m.fill(div, { a: '"><b>', b: true, c: 'en', text: '<img src=x onerror=alert(1)>' });
           const first = [div.title, div.hidden, div.lang, span.children.length, span.textContent];
           m.fill(div, {});
           return [first, div.hasAttribute('title'), div.hidden, span.textContent];""",
    )
    assert html == [['"><b>', True, "en", 0, "<img src=x onerror=alert(1)>"], False, False, ""]


def test_a_list_is_reconciled_without_touching_what_stays(run):
    result = run(
        "slots",
        """const template = document.createElement('template');
           template.dataset.partialOf = 'entry';
           template.innerHTML = '<li data-slots="id=id"><input></li>';
           document.body.append(template);
           const list = document.createElement('ul');
           document.body.append(list);
           const show = (...ids) => m.reconcile(list, 'entry', ids.map((id) => ({ id })))
             .map(({ id }) => id);
           const fresh = [show('a', 'b', 'c')];
           const b = document.getElementById('b');
           b.firstChild.focus();
           fresh.push(show('d', 'b', 'a'));
           const order = [...list.children].map(({ id }) => id);
           return [fresh, order, document.getElementById('b') === b,
                   document.activeElement === b.firstChild];""",
    )
    assert result == [[["a", "b", "c"], ["d"]], ["d", "b", "a"], True, True]


# room -----------------------------------------------------------------------------------------
def test_the_room_notices_a_message_that_was_lost(run):
    job = {"id": "j", "created_at": "1", "state": "queued", "images": []}
    head = {"room": "r", "workers": []}
    state = {"type": "room.state", "revision": 5, "room": head, "jobs": [job], "peers": [],
             "peer": "p"}  # fmt: skip
    changed = {"type": "room.changed", "since": 5, "revision": 7, "room": head,
               "jobs": [{**job, "id": "k", "created_at": "0"}], "gone": []}  # fmt: skip
    result = run(
        "room",
        """const [state, changed] = args;
           const room = new m.Room();
           const right = [room.apply(state), room.apply({ ...changed, since: 6 }),
                          room.apply(changed), room.apply({ type: 'peer.beat', revision: 7 }),
                          room.apply({ type: 'peer.beat', revision: 8 }),
                          room.apply({ type: 'from.the.future' })];
           const ids = room.jobs.map(({ id }) => id);
           room.apply({ ...changed, since: 7, jobs: [], gone: ['j'] });
           return [right, ids, room.jobs.map(({ id }) => id), room.waiting.length];""",
        state,
        changed,
    )
    assert result == [[True, False, True, True, False, True], ["k", "j"], ["k"], 1]


# socket ---------------------------------------------------------------------------------------
FAKE = """
class Fake {
  constructor(url) { this.url = url; this.sent = []; this.readyState = 0; made.push(this); }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.closed = true; this.readyState = 3; }
  opens() { this.readyState = 1; this.onopen(); }
  says(message) { this.onmessage({ data: JSON.stringify(message) }); } }
const made = [], heard = [], timers = [];
window.setTimeout = (run, ms) => timers.push({ run, ms });
const now = { ms: 1000 };
Date.now = () => now.ms;
const tick = () => timers.pop().run();
const socket = new m.RoomSocket('ws://x/', { revision: () => 4, open: () => heard.push('open'),
  closed: () => heard.push('closed'), message: (message) => heard.push(message.type) },
  (url) => new Fake(url));
socket.connect();
"""


def test_the_socket_beats_with_its_revision(run):
    sent = run("socket", FAKE + "made[0].opens(); tick(); tick(); return [made[0].sent, heard];")
    assert sent == [[{"type": "peer.beat", "revision": 4}] * 2, ["open"]]


def test_a_silent_server_is_left_after_10_seconds_and_met_again(run):
    result = run(
        "socket",
        FAKE
        + """made[0].opens(); made[0].says({ type: 'room.state' });
           now.ms += m.GONE_AFTER_MS + 1; tick(); tick(); made[1].opens();
           return [heard, made.length, made[0].closed];""",
    )
    assert result == [["open", "room.state", "closed", "open"], 2, True]


def test_retries_come_less_and_less_often_and_soon_again_after_a_word(run):
    waits = run(
        "socket",
        FAKE
        + """const waits = [];
           for (let i = 0; i < 7; i++) {
             made.at(-1).onclose(); waits.push(timers.at(-1).ms); tick();
           }
           made.at(-1).opens(); made.at(-1).says({ type: 'room.state' }); made.at(-1).onclose();
           waits.push(timers.at(-1).ms);
           return waits;""",
    )
    assert all(150 * 2**n <= wait <= 300 * 2**n for n, wait in enumerate(waits[:4]))
    assert max(waits) <= 4000
    assert waits[-1] <= 300


def test_a_stopped_socket_stays_away_and_an_old_one_says_nothing(run):
    result = run(
        "socket",
        FAKE
        + """made[0].opens(); const old = made[0];
           old.onclose(); tick(); old.says({ type: 'late' });
           socket.stop(); made[1].onclose(); return [heard, made.length, made[1].closed];""",
    )
    assert result == [["open", "closed"], 2, True]


# words ----------------------------------------------------------------------------------------
VOCABULARY = {
    "names": ["rocket", "full moon", "full moon face", "person rowing boat", "cat"],
    "colours": ["blue"],
    "relations": ["above", "left of"],
    "words": ["a", "on", "background"],
}


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("a ro", ["rocket"]),
        ("a rocket above a Full Mo", ["full moon", "full moon face"]),
        ("full moon", ["full moon face"]),
        ("a boat", ["person rowing boat"]),
        ("rocket", []),
        ("a", []),
        ("", []),
        ("rock, ", []),
        ("the (ro", ["rocket"]),
        ("zz", []),
    ],
)
def test_names_are_completed_from_what_was_typed(run, typed, options):
    body = "return new m.Words(args[0]).complete(args[1], args[1].length);"
    found = run("later/words", body, VOCABULARY, typed)
    assert found["options"] == options
    if options:
        assert typed[found["start"] :].lower().strip() in options[0]


HINT = "return m.hint('Tiny', new m.Words(args[0]), args[1], 'a cat');"
NONE_OF_IT = "Tiny knows none of this and will guess. It reads English: try “a cat”."


@pytest.mark.parametrize(
    ("prompt", "hint"),
    [
        ("", ""),
        ("A ROCKET above a cat", ""),
        ("A ROCKET above a zorp, l'été Zorp", "has not learned “zorp”, “l'été”: it will guess."),
        ("a b c d e f g", "has not learned “b”, “c”, “d”, “e” and 2 more: it will guess."),
        ("a " + "x" * 2000, f"has not learned “{'x' * 24}…”: it will guess."),
        ("a rocket 🚀", "has not learned “🚀”: it will guess."),
        ("a कुत्ता", "has not learned “कुत्ता”: it will guess."),
        ("ねこ", NONE_OF_IT),
        ("ロケットとねこ", NONE_OF_IT),
        ("собака", NONE_OF_IT),
        ("🚀🌕", NONE_OF_IT),
        ("!?", NONE_OF_IT),
    ],
)
def test_words_it_has_not_learned_are_named_gently(run, prompt, hint):
    said = run("later/words", HINT, VOCABULARY, prompt)
    assert said == (f"Tiny {hint}" if hint.startswith("has") else hint)


def test_a_word_that_may_become_a_known_one_is_not_called_unknown(run):
    body = "return args.map(m.withoutUnfinishedWord);"
    assert run("later/words", body, "a zor", "a l'ét", "a zorp ", "ねこ", "a ねこ") == [
        "a ", "a ", "a zorp ", "ねこ", "a ねこ",
    ]  # fmt: skip


# title, recent, remember -------------------------------------------------------------------------
def test_the_title_tells_how_far_the_work_is(run):
    body = "return args.map((jobs) => m.titleOf(jobs, 'Room'));"
    running = {"state": "running", "images": [{"step": 3, "steps": 8}, {"step": 0, "steps": 8}]}
    assert run("title", body, [], [{"state": "queued"}], [running, {"state": "queued"}]) == [
        "Room", "1 waiting · Room", "18 % · Room",
    ]  # fmt: skip
    paused = "return args.map((jobs) => m.titleOf(jobs, 'Room', true));"
    assert run("title", paused, [], [running]) == ["Room", "Paused · Room"]


def test_the_password_of_a_private_room_stays_with_it_until_it_is_forgotten(run):
    assert run(
        "recent",
        """m.visit('ours', 'Ours', { key: 'k' });
           m.visit('kitchen', 'Kitchen');
           m.visit('ours', 'Renamed');
           const kept = m.recentRooms().map(({ id, key = null }) => [id, key]);
           m.forget();
           return [kept, m.keyOf('ours')];""",
    ) == [[["ours", "k"], ["kitchen", None]], None]


def test_a_batch_is_announced_in_one_sentence(run):
    assert run("title", "return [[], ['a'], ['a', 'b']].map(m.announcement);") == [
        "", "Picture finished: a", "2 pictures finished, the last one: b",
    ]  # fmt: skip


def test_recent_rooms_are_kept_newest_first_and_nonsense_in_the_store_is_harmless(run):
    result = run(
        "recent",
        """for (let i = 0; i < 15; i++) m.visit(`room${i}`, 'name', { now: i });
           m.visit('room12', 'again', { now: 99 });
           const ids = m.recentRooms().map(({ id }) => id);
           localStorage.setItem('p2pweb.rooms', '[{"id": "../evil"}, {"id": "fine"}]');
           const safe = m.recentRooms().map(({ id }) => id);
           localStorage.setItem('p2pweb.rooms', '{broken');
           const broken = m.recentRooms();
           m.forget();
           return [ids.length, ids.slice(0, 2), safe, broken, m.ago(0, 59e3), m.ago(0, 61e3),
                   m.ago(0, 7.3e6), m.ago(0, 9e7), m.ago(0, 2e8)];""",
    )
    assert result == [
        12, ["room12", "room14"], ["fine"], [], "just now", "1 min ago", "2 h ago", "yesterday",
        "2 days ago",
    ]  # fmt: skip


def test_file_names_are_plain(run):
    body = "return args.map(m.fileStem);"
    prompts = ["A Rocket!", "画", "x" * 99, "../../etc"]
    from rooms.slots import file_stem

    assert run("view", body, *prompts) == [file_stem(prompt) for prompt in prompts]
    assert json.dumps(run("view", body, *prompts)) == json.dumps(
        ["a-rocket", "picture", "x" * 48, "etc"]
    )


@pytest.mark.parametrize("room", ["tuesday-lunch", "x" * 20, "x" * 21, "x" * 64])
def test_a_room_is_called_the_same_whoever_renders_it(run, room):
    from rooms.page import name_of

    for title in ("", "Tuesday <lunch>"):
        assert run("title", "return m.nameOf(...args);", title, room) == name_of(title, room)
