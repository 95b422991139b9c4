"""Deletes what is older than `compliance.retention_days`: history, audit log, kept logs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SinkError
from abhinaya.stream.run.directory import remove_old
from abhinaya.stream.serve.audit import Audit
from abhinaya.stream.serve.store.store import Store

EVERY_S: Final = 3600.0


class Retention:
    """A thread that deletes at the start and each hour; with 0 days it does nothing."""

    def __init__(
        self,
        days: int,
        store: Store,
        audit: Audit,
        report: Callable[[str], None],
        clock: Callable[[], float] = unix_time,
    ) -> None:
        self._days, self._store, self._audit = days, store, audit
        self._report, self._clock = report, clock
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        if days:
            self._thread.start()

    def apply(self) -> None:
        """Delete what is too old now; an error is reported, and tried again in an hour."""
        now = self._clock()
        steps: tuple[Callable[[], object], ...] = (
            lambda: self._store.expire(self._days, now),
            lambda: self._audit.expire(self._days, now),
            lambda: remove_old(self._days, now),
        )
        for step in steps:
            try:
                step()
            except SinkError as error:
                self._report(f"retention of {self._days} days: {error}")

    def close(self) -> None:
        """End the thread, after the deletion that it may be in."""
        self._closing.set()
        if self._days:
            self._thread.join()

    def _run(self) -> None:
        self.apply()
        while not self._closing.wait(EVERY_S):
            self.apply()
