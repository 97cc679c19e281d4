"""The embedded broker's folder: every message once, whatever was killed in the middle of what."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection

from p2pweb import file_broker
from tests.genqueue.processes import ROOT, until


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "broker").mkdir()
    return tmp_path / "broker"


def open_channel(folder):
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder)}
    options["control_folder"] = str(folder)
    connection = Connection(
        "filesystem://localhost",
        transport="p2pweb.file_broker:Transport",
        transport_options=options,
    )
    return connection.channel()


@pytest.fixture
def channel(folder):
    with closing(open_channel(folder)) as channel:
        yield channel


def taken(channel, queue="work") -> list:
    found = []
    while True:
        try:
            found.append(channel._get(queue))
        except Empty:
            return found


def test_messages_come_in_order_and_leave_nothing_behind(channel, folder):
    for number in range(3):
        channel._put("work", {"number": number})
    channel._put("other-work", {})
    assert taken(channel) == [{"number": number} for number in range(3)]
    assert [path.name.partition(".")[2] for path in folder.iterdir()] == ["other-work.msg"]


def test_each_message_is_taken_by_one_of_many(channel, folder):
    for number in range(200):
        channel._put("work", {"number": number})
    channels = [open_channel(folder) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(taken, channels))
    numbers = sorted(message["number"] for share in shares for message in share)
    assert numbers == list(range(200))


def test_a_message_that_was_cut_off_is_lost_and_stops_nobody(channel, folder):
    (folder / "1-first.work.msg").write_text("")
    channel._put("work", {"number": 2})
    assert taken(channel) == [{"number": 2}]
    assert list(folder.iterdir()) == []


def test_what_was_abandoned_is_removed_by_the_next_one(folder):
    long_ago = time.time() - 2 * file_broker.ABANDONED_SECONDS
    for name in ("1-a.work.draft", "1-b.work.msg.taken", "1-c.work.msg", "notes.txt"):
        for age, written_at in (("old", long_ago), ("new", time.time())):
            path = folder / f"{age}-{name}"
            path.write_text("{}")
            os.utime(path, (written_at, written_at))
    open_channel(folder).close()
    left = sorted(path.name for path in folder.iterdir())
    assert left == [
        "new-1-a.work.draft", "new-1-b.work.msg.taken", "new-1-c.work.msg",
        "new-notes.txt", "old-notes.txt",
    ]  # fmt: skip


def test_a_sender_that_is_killed_leaves_complete_messages_only(channel, folder):
    sender = subprocess.Popen(
        [sys.executable, "-c",
         "import sys\n"
         "from pathlib import Path\n"
         "from tests.genqueue.test_file_broker import open_channel\n"
         "channel = open_channel(Path(sys.argv[1]))\n"
         "while True: channel._put('work', {'text': 'x' * 100_000})", str(folder)],
        cwd=ROOT,
    )  # fmt: skip
    until(lambda: len(list(folder.glob("*.msg"))) > 5, 30, "the first messages")
    sender.send_signal(signal.SIGKILL)
    sender.wait()
    messages = taken(channel)
    assert len(messages) > 5
    assert {len(message["text"]) for message in messages} == {100_000}
    assert len(list(folder.iterdir())) <= 1  # the draft it was at


def test_a_queue_is_declared_without_a_file_that_could_be_cut_off(channel, folder):
    channel.exchange_declare("work")
    channel.queue_declare("work")
    channel.queue_bind("work", "work", "work")
    assert list(folder.iterdir()) == []
