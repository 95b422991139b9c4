"""One event a line, as JSON: whole lines only, each on the disk before the next is taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.events import alert_event, summary_event, to_dict
from abhinaya.stream.sinks.files import STDOUT, LogFile
from abhinaya.stream.sinks.summary import Summary
from abhinaya.stream.wire.messages import Activity, Event, Status, Verdict


class JsonLines:
    """Writes events to a file, or to standard output; a `summary` event at the end.

    Every method raises SinkError if the disk is full or the file was deleted (whole lines stay),
    and SystemExit if the reader of standard output has gone.

    Args:
        path: the file, which is begun anew; None for standard output.
        descriptor: what to write to instead of standard output.
        goes_on: whether to go on at the end of the file instead.

    """

    def __init__(
        self, path: Path | None = None, *, descriptor: int = STDOUT, goes_on: bool = False
    ) -> None:
        self._log = LogFile(path, descriptor=descriptor, goes_on=goes_on)
        self._summary = Summary()

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
        """Write the summary and close the file; a second call does nothing."""
        if self._log.closed:
            return
        try:
            self._put(summary_event(self._summary.as_dict()))
        finally:
            self._log.close()

    def _put(self, values: Mapping[str, Any]) -> None:
        self._log.append(msgspec.json.encode(values) + b"\n")
