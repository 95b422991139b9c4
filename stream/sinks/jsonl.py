"""One event a line, as JSON: whole lines only, each on the disk before the next is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from abhinaya.stream.errors import SinkError
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.events import alert_event, summary_event, to_dict
from abhinaya.stream.sinks.files import STDOUT, LogFile
from abhinaya.stream.sinks.summary import Summary
from abhinaya.stream.wire.messages import Activity, Event, Status, Verdict


class JsonLines:
    """Writes events to a file, or to standard output; a `summary` event at the end.

    A full disk or a deleted file is a SinkError (whole lines stay), a reader of standard output
    that has gone a SystemExit. A file may fail alone: then that is reported once, and the run and
    the other outputs go on.

    Args:
        path: the file, which is begun anew; None for standard output.
        descriptor: what to write to instead of standard output.
        goes_on: whether to go on at the end of the file instead.
        report: gets the message if writing fails; without it the error is raised.

    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        descriptor: int = STDOUT,
        goes_on: bool = False,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._log = LogFile(path, descriptor=descriptor, goes_on=goes_on)
        self._report = report
        self._summary = Summary()
        self.fault: SinkError | None = None
        """Why nothing more is written."""

    def write(self, event: Event, now_unix_s: float) -> None:
        """Write one event; Status, which comes twice a second, is left out."""
        if not isinstance(event, Status):
            self._summary.add(event, now_unix_s)
            self._put(to_dict(event, now_unix_s))

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Write a provisional verdict, which the summary does not count."""
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
            self._log.append(msgspec.json.encode(values) + b"\n")
        except SinkError as error:
            if self._report is None:
                raise
            self.fault = error
            self._report(f"{error}; nothing more is written there, the run goes on")
