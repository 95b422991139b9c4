"""Outputs of other packages. A plug-in gets each event as the JSON values of docs/events.md.

The entry point of a file suffix is a function that takes the path and returns a `Writer`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from abhinaya.models.errors import ModelError
from abhinaya.models.plugins import load_plugin
from abhinaya.stream.errors import AbhinayaError, SinkError
from abhinaya.stream.sinks.events import to_dict
from abhinaya.stream.sinks.reader import read
from abhinaya.stream.wire.messages import Event, Status


class Writer(Protocol):
    """The object that a plug-in returns for a path."""

    def put(self, values: dict[str, Any], now_unix_s: float) -> None:
        """Write one event."""
        ...

    def close(self) -> None:
        """Finish the output and release it."""
        ...


class PluginSink:
    """An output of another package. If it fails, that is reported once, and the run continues.

    Args:
        path: path of the output; its suffix is the plug-in's name.
        report: called with the error message.

    Raises:
        SinkError: the plug-in cannot be loaded, or cannot open the path.

    """

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self._path = path
        self._report = report
        self.fault: SinkError | None = None
        """The error after which nothing more is written; None before one."""
        self._writer: Writer | None = self._guarded(lambda: _open(path))
        if self.fault:
            raise self.fault

    def write(self, event: Event, now_unix_s: float) -> None:
        """Write one event, except Status, which comes twice a second."""
        if not isinstance(event, Status):
            self.put(to_dict(event, now_unix_s), now_unix_s)

    def put(self, values: dict[str, Any], now_unix_s: float) -> None:
        """Write one event, given as JSON values."""
        writer = self._writer
        if writer is not None and not self.fault:
            self._guarded(lambda: writer.put(values, now_unix_s))
            if self.fault:
                self._report(f"{self.fault}; nothing more is written there, the run goes on")

    def close(self) -> None:
        """Close the plug-in's writer; a second call does nothing.

        Raises:
            SinkError: the plug-in could not finish its output.

        """
        writer, self._writer = self._writer, None
        if writer is not None:
            before = self.fault
            self._guarded(writer.close)
            if self.fault is not before and self.fault:
                raise self.fault

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except AbhinayaError as error:
            self.fault = SinkError(str(self._path), error.reason, error.remedy)
        except Exception as error:  # another package may raise anything
            reason = f"the plug-in {self._path.suffix!r} raised {type(error).__name__}: {error}"
            self.fault = SinkError(str(self._path), reason)
        return None


def _open(path: Path) -> Writer:
    try:
        writer: Writer = load_plugin("sinks", path.suffix)(path)
    except ModelError as error:
        raise SinkError(error.subject, error.reason, error.remedy) from error
    return writer


def export(source: Path, target: Path) -> None:
    """Write the events of a JSON lines file with the plug-in of the target's suffix.

    Raises:
        SourceError: the source cannot be read.
        SinkError: the plug-in failed.

    """
    sink = PluginSink(target, lambda _: None)
    for values in read(source):
        sink.put(values, 0.0)
    sink.close()
    if sink.fault:
        raise sink.fault
