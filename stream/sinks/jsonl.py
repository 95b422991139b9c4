"""Writes events as JSON lines: one event a line, each written whole before the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from abhinaya.models.text import to_json
from abhinaya.stream.errors import SinkError
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.events import alert_event, summary_event, to_dict
from abhinaya.stream.sinks.files import STDOUT, LogFile
from abhinaya.stream.sinks.summary import Summary
from abhinaya.stream.wire.messages import Activity, Event, Status, Verdict


class JsonLines:
    """Writes events to a file or standard output, and a `summary` event at the end.

    A full disk or a deleted file raises SinkError; the lines before stay whole. If the reader of
    standard output closes it, SystemExit is raised.

    Args:
        path: the file, which is overwritten; None for standard output.
        descriptor: file descriptor to use instead of standard output.
        append: whether to append to the file instead of overwriting it.
        report: called once with the message if writing fails; the run then continues. Without it,
            the error is raised.

    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        descriptor: int = STDOUT,
        append: bool = False,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._log = LogFile(path, descriptor=descriptor, append=append)
        self._report = report
        self._summary = Summary()
        self.fault: SinkError | None = None
        """The error after which nothing more is written; None before one."""

    def write(self, event: Event, now_unix_s: float) -> None:
        """Write one event, except Status, which comes twice a second."""
        if not isinstance(event, Status):
            self._summary.add(event, now_unix_s)
            self._put(to_dict(event, now_unix_s))

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Write a provisional verdict; the summary does not count it."""
        if isinstance(event, Verdict):
            self._put(to_dict(event, now_unix_s))

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Write an alert."""
        self._put(alert_event(alert))

    def close(self) -> None:
        """Write the summary and close the file; raises SinkError if the summary cannot be written.

        A second call does nothing.
        """
        if self._log.closed:
            return
        self._report = None
        try:
            self._put(summary_event(self._summary.as_dict()))
        finally:
            self._log.close()

    def _put(self, values: Mapping[str, Any]) -> None:
        try:
            self._log.append(to_json(values) + b"\n")
        except SinkError as error:
            if self._report is None:
                raise
            self.fault = error
            self._report(f"{error}; nothing more is written there, the run goes on")
