"""A history that cannot be opened or written: the monitor goes on, and says what is missing."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zlib

import history_made as made
import pytest
from places import ROOT

from abhinaya.stream.errors import StoreError
from abhinaya.stream.serve.store import packed, queries, schema
from abhinaya.stream.serve.store import store as store_module
from abhinaya.stream.serve.store.queries import Filter
from abhinaya.stream.serve.store.store import Store

RANDOM = random.Random(3)

WRITER = """
import random, sys
from pathlib import Path
import history_made as made
from abhinaya.stream.serve.store import store as module
module.KEEP_S = 0.01
store = module.Store(Path(sys.argv[1]))
made_by = random.Random()
begun = {"schema": "abhinaya.event/1", "type": "stream_started", "stream": "call/agent"}
store.append(begun | {"run": sys.argv[2], "source": "x", "live": True})
segment = 0
while True:
    number = store.append(made.verdict(made_by, "call/agent", segment) | {"run": sys.argv[2]})
    print(number, segment, flush=True)
    segment += 1
"""


def test_killed_at_any_moment_it_opens_again_with_all_that_was_confirmed(tmp_path):
    path, confirmed = tmp_path / "history.sqlite", {}
    for number in range(4):
        with subprocess.Popen(
            [sys.executable, "-P", "-c", WRITER, str(path), f"run-{number}"],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(ROOT / "tests"), "PATH": ""},
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline(), "it did not start"
            time.sleep(0.03 + 0.1 * number)
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout.read().splitlines():
                if len(line.split()) == 2:
                    of, segment = map(int, line.split())
                    confirmed[of] = f"run-{number}", segment
        store = Store(path)
        kept = [json.loads(body) for _, _, body in store.events(0, None, 10**6)]
        assert [event["number"] for event in kept] == list(range(1, len(kept) + 1))
        found = {e["number"]: (e["run"], e["segment"]) for e in kept if e["type"] == "verdict"}
        assert confirmed.items() <= found.items()
        assert (kept[-1]["type"], kept[-1]["reason"]) == (
            "stream_ended",
            "the gateway stopped before this stream ended",
        )
        store.keep()
        rows = queries.segments(store.file, Filter(), 10**6)["segments"]
        assert len(rows) == len(found)
        with store.file.reading() as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("SELECT count(*) FROM words_docsize").fetchone() == (len(rows),)
        store.close()
    assert len(confirmed) > 100


class Clock:
    now = made.BEGAN

    def __call__(self):
        return self.now


@pytest.fixture
def said():
    return []


@pytest.fixture
def store(tmp_path, said):
    opened = Store(tmp_path / "history.sqlite", said.append, Clock())
    yield opened
    opened.close()


def full(store, pages):
    """The disk has room for so many pages: 0 for enough."""
    with store.file.writing() as db:
        used = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={used + pages if pages else 10**9}")


def forbidden(store, yes):
    store.file._db.execute(f"PRAGMA query_only={int(yes)}")


def test_while_the_disk_is_full_the_events_wait_and_then_get_their_numbers(store, said):
    assert store.append(made.verdict(RANDOM, "call/agent", 0)) == 1
    full(store, 1)
    for segment in range(1, 200):
        Clock.now += 2.0
        last = store.append(made.verdict(RANDOM, "call/agent", segment))
    assert last == 0
    assert "the disk is full; free some space; the monitor goes on" in said[0]
    assert store.fault is not None
    full(store, 0)
    store.retry()
    assert store.fault is None
    assert said[1].endswith("the history is written again; nothing is missing")
    kept = [json.loads(body) for _, _, body in store.events(0, None, 999)]
    assert [(e["number"], e["segment"]) for e in kept] == [(n + 1, n) for n in range(200)]
    assert len(said) == 2


def test_what_does_not_fit_into_memory_is_counted(store, said, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_WAITING", 5)
    forbidden(store, True)
    numbers = [store.append(made.verdict(RANDOM, "call/agent", s)) for s in range(12)]
    assert numbers == [0] * 12
    assert "check the permissions" in said[0]
    stream = store.stream_id("", "call/agent")
    with pytest.raises(StoreError, match="cannot be opened or written"):
        store.correct(stream, 0, "sad", "ann", others=True)
    forbidden(store, False)
    Clock.now += 2.0
    assert store.append(made.verdict(RANDOM, "call/agent", 12)) == 7
    kept = [json.loads(body) for _, _, body in store.events(0, None, 99)]
    assert kept[0]["text"] == "7 events are missing here: the history could not be written"
    assert [(e["stream_id"], e["segment"]) for e in kept[1:]] == [(stream, n) for n in range(7, 13)]
    assert said[1].endswith("7 events are missing")


def newer(path):
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={schema.VERSION + 1}")


def foreign(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs(x)")


def of_text(path):
    path.write_text("this is not a database " * 500)


def torn(path):
    store = Store(path)
    for segment in range(50):
        store.append(made.verdict(RANDOM, "call/agent", segment))
    store.close()
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xff" * 3996
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (newer, "has version 2, this program knows versions up to 1; use the newer program"),
        (foreign, "is a database of another program; use another folder"),
        (of_text, "is damaged: file is not a database; move it and history.sqlite-wal away"),
        (torn, "is damaged: .*; move it and"),
        (lambda path: path.mkdir(), "cannot be opened or written: unable to open"),
    ],
)
def test_a_file_that_cannot_be_opened_says_why_and_what_to_do(tmp_path, damage, message):
    path = tmp_path / "history.sqlite"
    damage(path)
    for _ in range(2):
        with pytest.raises(StoreError, match=message):
            Store(path)


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(StoreError, match="No such file or directory; check the folder"):
        Store(tmp_path / "missing" / "history.sqlite")


def test_damage_in_an_old_page_is_found_when_it_is_read_and_new_events_are_kept(store):
    for segment in range(300):
        store.append(made.verdict(RANDOM, "call/agent", segment))
    with store.file.writing() as db:
        db.execute("UPDATE events SET body = x'ffff' WHERE number = 7")
    with pytest.raises(StoreError, match="is damaged"):
        store.events(0, None, 9)
    assert store.append(made.verdict(RANDOM, "call/agent", 300)) == 301
    assert len(store.events(7, None, 999)) == 294
    store.keep()
    assert len(queries.segments(store.file, Filter(), 999)["segments"]) == 300


def test_the_sample_of_the_packing_is_part_of_the_version():
    """Another sample cannot read what this one has packed: raise schema.VERSION with it."""
    assert (schema.VERSION, zlib.crc32(packed._SAMPLE)) == (1, 3333704541)
    assert packed.unpack(packed.pack(b'{"schema":1}')) == b'{"schema":1}'
