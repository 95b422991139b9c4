"""Writes events as JSON lines: one event a line, each written whole before the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from abhinaya.models.text import to_json
from abhinaya.stream.errors import SinkError
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.events import alert_event, summary_event, to_dict
from abhinaya.stream.sinks.files import STDOUT, DiskFullError, LogFile
from abhinaya.stream.sinks.summary import Summary
from abhinaya.stream.wire.messages import Activity, Event, Remark, Status, Verdict

WAITING_BYTES: Final = 8 << 20
"""Maximum memory for lines that wait for room on the disk: an hour of a few streams."""


class JsonLines:
    """Writes events to a file or standard output, and a `summary` event at the end.

    After a failure the lines before stay whole. If the reader of standard output closes it,
    SystemExit is raised.

    Args:
        path: the file, which is overwritten; None for standard output.
        descriptor: file descriptor to use instead of standard output.
        append: whether to append to the file instead of overwriting it.
        report: called with the message if writing fails; the run then continues. Without it, the
            error is raised. What a full disk does not take waits in memory, up to `WAITING_BYTES`,
            and is written when there is room; what was too much is counted in a `remark`.

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
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._missing = 0
        """Number of lines that were too many to wait for room."""
        self.fault: SinkError | None = None
        """Why the output is not complete; None if it is."""

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
        """Write the summary and close the file; a second call does nothing.

        Raises:
            SinkError: the end cannot be written.

        """
        if self._log.closed:
            return
        self._report = None
        try:
            self._put(summary_event(self._summary.as_dict()))
        finally:
            self._log.close()

    def _put(self, values: Mapping[str, Any]) -> None:
        if self._log.closed:
            return
        line = to_json(values) + b"\n"
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        try:
            self._write_waiting()
        except SinkError as error:
            waits = isinstance(error, DiskFullError)
            if self._report is None:
                self._log.close()
                count = self._missing + len(self._waiting)
                reason = f"lacks its last {count} events: {error.reason}" if waits else error.reason
                self.fault = SinkError(error.subject, reason, error.remedy)
                raise self.fault from error
            if not (waits and isinstance(self.fault, DiskFullError)):
                then = (
                    "is written there when there is room" if waits else "is written there no more"
                )
                self._report(f"{error}; the run goes on, and what comes {then}")
            self.fault = error

    def _write_waiting(self) -> None:
        while self._waiting_bytes > WAITING_BYTES:
            self._waiting_bytes -= len(self._waiting.popleft())
            self._missing += 1
        if self._missing:
            text = f"{self._missing} events are missing here: the disk was full"
            self._log.append(to_json(to_dict(Remark(source="output", text=text), 0.0)) + b"\n")
            self.fault, self._missing = SinkError(self._log.subject, text), 0
            if self._report:
                self._report(str(self.fault))
        while self._waiting:
            self._log.append(self._waiting[0])
            self._waiting_bytes -= len(self._waiting.popleft())
        if isinstance(self.fault, DiskFullError):
            self.fault = None
            if self._report:
                self._report(f"{self._log.subject}: there is room again, and nothing is missing")
