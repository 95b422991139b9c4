"""The file of the history: its one writer, its readers, and its log of changes (WAL)."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from abhinaya.stream.errors import StoreError
from abhinaya.stream.serve.store.schema import open_reader, open_writer, store_error

MAX_READERS: Final = 8
"""Connections for reading that are kept open."""


class HistoryFile:
    """The connections to the file. Any thread may read and write; writers take turns.

    Args:
        path: the file; made if it is missing.

    Raises:
        StoreError: the file cannot be opened, is damaged, of a newer version, or in use.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        """Held during a write."""
        self._readers: deque[sqlite3.Connection] = deque()
        self._side_lock = threading.Lock()
        self._guard = _guard(path)
        try:
            self._db = open_writer(path)
            self._side = open_writer(path)
            self._side.execute("PRAGMA busy_timeout=0")
        except BaseException:
            self._guard.close()
            raise

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the writer in a transaction; it is rolled back if the body raises.

        Raises:
            StoreError: the file cannot be written.

        """
        with self.lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise store_error(error, self.path) from error
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for reading.

        Raises:
            StoreError: the file cannot be read.

        """
        connection = None
        try:
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = open_reader(self.path)
            yield connection
        except (sqlite3.Error, zlib.error) as error:
            raise store_error(error, self.path) from error
        finally:
            if connection is not None:
                self._give_back(connection)

    def checkpoint(self) -> None:
        """Write the log of changes into the file. The writer goes on meanwhile."""
        self._checkpoint("PASSIVE")

    def empty_log(self) -> bool:
        """Empty the log of changes; return False if a reader still needs it. The writer waits."""
        self.checkpoint()  # most of the work, before the writer has to wait
        with self.lock:
            return self._checkpoint("TRUNCATE")

    @property
    def log_bytes(self) -> int:
        """Size of the log of changes."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return log.stat().st_size if log.exists() else 0

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._guard.closed

    def close(self) -> None:
        """Close all connections; a second call does nothing."""
        with self.lock:
            if self.closed:
                return
            while self._readers:
                self._readers.pop().close()
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()
            with self._side_lock:
                self._side.close()
            self._guard.close()

    def _checkpoint(self, kind: str) -> bool:
        with self._side_lock:
            try:
                busy, _, _ = self._side.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
            except sqlite3.Error as error:
                raise store_error(error, self.path) from error
            return not busy

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self.closed or len(self._readers) >= MAX_READERS:
            connection.close()
        else:
            self._readers.append(connection)


def _guard(path: Path) -> IO[bytes]:
    """Make sure that no second program writes to this file; the lock ends with the process."""
    try:
        file = path.with_name(f"{path.name}.lock").open("ab")
    except OSError as error:
        reason = f"cannot be opened: {error.strerror}"
        raise StoreError(path, reason, "check the folder and its permissions") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        remedy = "end that one, or use another folder with --data"
        raise StoreError(path, "another gateway writes to it", remedy) from error
    return file
