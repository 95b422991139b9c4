"""An output that may fail alone: the run and the other outputs go on without it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from abhinaya.stream.errors import SinkError
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.base import ShowsAlerts, Sink
from abhinaya.stream.wire.messages import Event


class Guarded:
    """Passes events on until the sink fails; that is said once, and nothing is written any more.

    Args:
        sink: what may fail.
        report: told of it.

    """

    def __init__(self, sink: Sink, report: Callable[[str], None]) -> None:
        self._sink = sink
        self._report = report
        self.fault: SinkError | None = None
        """Why nothing is written any more."""

    def write(self, event: Event, now_unix_s: float) -> None:
        """Take one event, at `now_unix_s` in Unix seconds."""
        with self._watched():
            if self.fault is None:
                self._sink.write(event, now_unix_s)

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Take an alert, if the sink has a place for it."""
        with self._watched():
            if self.fault is None and isinstance(self._sink, ShowsAlerts):
                self._sink.alert(alert, now_unix_s)

    def close(self) -> None:
        """Write what belongs at the end, and let go.

        Raises:
            SinkError: that cannot be written.

        """
        if self.fault is None:
            self._sink.close()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except SinkError as error:
            self.fault = error
            with contextlib.suppress(SinkError):
                self._sink.close()
            self._report(f"{error}; nothing more is written there, the run goes on")
