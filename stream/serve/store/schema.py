"""The tables of the history, how its file is opened, and what its errors mean.

WAL mode: readers see the last commit and never wait for the writer. `synchronous=NORMAL`: a commit
is in the operating system's cache, so no kill of the process can lose it, and it costs 30 us, not
the milliseconds that a disk needs to flush. Only a power cut can lose what was written since the
last checkpoint: `Keeper` makes one every 2 s, and the file stays intact.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from pathlib import Path
from typing import Final

from abhinaya.stream.errors import StoreError

VERSION: Final = 1
"""Of the tables; a program refuses a file with a higher one."""
APPLICATION: Final = 0x41424831
"""Marks the file as a history of this program: "ABH1"."""

BUSY_MS: Final = 2000

TABLES: Final = """
CREATE TABLE streams(
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, name TEXT NOT NULL,
    call TEXT NOT NULL, party TEXT NOT NULL, source TEXT NOT NULL DEFAULT '',
    live INTEGER NOT NULL DEFAULT 0, facts TEXT NOT NULL DEFAULT '{}',
    begun INTEGER NOT NULL DEFAULT 0, started REAL NOT NULL, ended REAL,
    duration_s REAL, reason TEXT NOT NULL DEFAULT '',
    sound TEXT NOT NULL DEFAULT '', UNIQUE(run, name));
CREATE INDEX streams_by_start ON streams(started);
CREATE INDEX streams_by_name ON streams(name);
CREATE INDEX streams_by_call ON streams(call);
CREATE INDEX streams_by_party ON streams(party, started);

CREATE TABLE events(
    number INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL, at REAL NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX events_of_stream ON events(stream, number);
CREATE TABLE followed(number INTEGER NOT NULL);
INSERT INTO followed VALUES(0);

CREATE TABLE segments(
    id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, segment INTEGER NOT NULL,
    party TEXT NOT NULL, at REAL NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL,
    label TEXT NOT NULL, confidence REAL, revision INTEGER NOT NULL, first INTEGER NOT NULL,
    event INTEGER NOT NULL, text TEXT NOT NULL, corrected TEXT, UNIQUE(stream, segment));
CREATE INDEX segments_by_time ON segments(at);
CREATE INDEX segments_by_label ON segments(label, at);
CREATE INDEX segments_corrected ON segments(at) WHERE corrected IS NOT NULL;
CREATE INDEX segments_by_party ON segments(party, at);

CREATE TABLE totals(
    day INTEGER NOT NULL, stream INTEGER NOT NULL, label TEXT NOT NULL,
    segments INTEGER NOT NULL, speech_s REAL NOT NULL, PRIMARY KEY(day, stream, label)
    ) WITHOUT ROWID;
CREATE INDEX totals_of_stream ON totals(stream);

CREATE TABLE alerts(
    number INTEGER PRIMARY KEY, stream INTEGER NOT NULL, at REAL NOT NULL, rule TEXT NOT NULL,
    label TEXT NOT NULL, segment INTEGER NOT NULL, who TEXT, acknowledged REAL);
CREATE INDEX alerts_of_stream ON alerts(stream);
CREATE INDEX alerts_open ON alerts(number) WHERE acknowledged IS NULL;

CREATE TABLE corrections(
    id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL, segment INTEGER NOT NULL,
    at REAL NOT NULL, who TEXT NOT NULL, judged TEXT NOT NULL, label TEXT NOT NULL,
    note TEXT NOT NULL);
CREATE INDEX corrections_of_segment ON corrections(stream, segment);

CREATE VIRTUAL TABLE words USING fts5(text, content='segments', content_rowid='id',
    tokenize="unicode61 remove_diacritics 2");
"""

_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FORBIDDEN: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for its only writer; make it if it is missing.

    Raises:
        StoreError: it cannot be opened, is damaged, or is of a newer version.

    """
    with contextlib.suppress(OSError):  # SQLite says below what is wrong
        path.touch(0o600)  # it holds what people said; SQLite's other files get the same mode
    try:
        connection = _connect(f"{path.resolve().as_uri()}?mode=rw")
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            _create(connection, path)
        elif _application(connection) != APPLICATION:
            raise _foreign(path)
        elif version > VERSION:
            raise StoreError(
                path,
                f"has version {version}, this program knows versions up to {VERSION}",
                "use the newer program, or another folder with --data",
            )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return connection
    except sqlite3.Error as error:
        connection.close()
        raise store_error(error, path) from error
    except StoreError:
        connection.close()
        raise


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading only. Raises sqlite3.Error."""
    return _connect(f"{path.resolve().as_uri()}?mode=ro")


def store_error(error: sqlite3.Error | zlib.error, path: Path) -> StoreError:
    """Return an error of SQLite or of a damaged event as one that names the file and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _CORRUPT or isinstance(error, zlib.error):
        reason = f"is damaged: {error}"
        remedy = f"move it and {path.name}-wal away; `sqlite3 {path.name} .recover` may save a part"
        return StoreError(path, reason, remedy)
    if code == sqlite3.SQLITE_FULL:
        return StoreError(path, "cannot be written: the disk is full", "free some space")
    if code in _FORBIDDEN:
        remedy = "check the permissions of the file and of its folder"
        return StoreError(path, f"cannot be opened or written: {error}", remedy)
    if code in _LOCKED:
        reason = "another program keeps it locked"
        return StoreError(path, reason, "end that program, or use another folder with --data")
    return StoreError(path, f"cannot be used: {error}", "check the disk, or move the file away")


def _connect(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten with zeros
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA cache_size=-16000")
    return connection


def _create(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise _foreign(path)
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.executescript(
        f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id={APPLICATION};"
        f"PRAGMA user_version={VERSION}; COMMIT;"
    )


def _application(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def _foreign(path: Path) -> StoreError:
    return StoreError(path, "is a database of another program", "use another folder with --data")
