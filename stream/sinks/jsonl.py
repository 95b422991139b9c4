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


class JsonLog:
    """Writes the values of events, a line each.

    Raises:
        SinkError: the file cannot be opened.

    """

    def __init__(
        self, path: Path | None = None, *, descriptor: int = STDOUT, goes_on: bool = False
    ) -> None:
        self._log = LogFile(path, descriptor=descriptor, goes_on=goes_on)

    @property
    def closed(self) -> bool:
        """Whether nothing more is written."""
        return self._log.closed

    def put(self, values: Mapping[str, Any], now_unix_s: float) -> None:
        """Write one event.

        Raises:
            SinkError: the disk is full, or the file was deleted; whole lines stay.
            SystemExit: the reader of standard output has enough.

        """
        self._log.append(msgspec.json.encode(values) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._log.close()


class JsonLines:
    """Writes events to a file, or to standard output; a `summary` event at the end.

    Args:
        path: the file, which is begun anew; None for standard output.
        descriptor: what to write to instead of standard output.
        goes_on: whether to go on at the end of the file instead.

    Raises:
        SinkError: the file cannot be opened.

    """

    def __init__(
        self, path: Path | None = None, *, descriptor: int = STDOUT, goes_on: bool = False
    ) -> None:
        self._log = JsonLog(path, descriptor=descriptor, goes_on=goes_on)
        self._summary = Summary()

    def write(self, event: Event, now_unix_s: float) -> None:
        """Write one event; Status, which comes twice a second, is for eyes only.

        Raises:
            SinkError: the disk is full, or the file was deleted; whole lines stay.
            SystemExit: the reader of standard output has enough.

        """
        if isinstance(event, Status):
            return
        self._summary.add(event, now_unix_s)
        self._log.put(to_dict(event, now_unix_s), now_unix_s)

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Write a provisional verdict, which the summary does not count.

        Raises:
            SinkError: the disk is full, or the file was deleted; whole lines stay.
            SystemExit: the reader of standard output has enough.

        """
        if isinstance(event, Verdict):
            self._log.put(to_dict(event, now_unix_s), now_unix_s)

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Write an alert.

        Raises:
            SinkError: the disk is full, or the file was deleted; whole lines stay.
            SystemExit: the reader of standard output has enough.

        """
        self._log.put(alert_event(alert), now_unix_s)

    def close(self) -> None:
        """Write the summary and close the file.

        Raises:
            SinkError: the summary cannot be written.

        """
        if self._log.closed:
            return
        try:
            self._log.put(summary_event(self._summary.as_dict()), 0.0)
        finally:
            self._log.close()
