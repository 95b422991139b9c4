"""Which format a file name asks for: the one registry of suffixes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from abhinaya.stream.errors import ConfigError
from abhinaya.stream.sinks import cues, parquet, textgrid
from abhinaya.stream.sinks.base import Sink
from abhinaya.stream.sinks.events import to_dict
from abhinaya.stream.sinks.jsonl import JsonLines, JsonLog
from abhinaya.stream.sinks.table import CsvFile
from abhinaya.stream.sinks.whole import Render, WholeFile
from abhinaya.stream.wire.messages import Event, Status

JSON_LINES: Final = ".jsonl"


class Writer(Protocol):
    """A file that takes events as the values of docs/events.md."""

    def put(self, values: dict[str, Any], now_unix_s: float) -> None:
        """Take one event, at `now_unix_s` in Unix seconds.

        Raises:
            SinkError: it cannot be written.

        """
        ...

    def close(self) -> None:
        """Write what belongs at the end, and let go; a second call does nothing."""
        ...


WHOLE: Final[Mapping[str, Callable[[Path], Render]]] = {
    ".parquet": parquet.renderer,
    ".TextGrid": lambda path: textgrid.render,
}
"""What is written as a whole, by suffix."""

LOGS: Final[Mapping[str, Callable[[Path], Writer]]] = {
    JSON_LINES: JsonLog,
    ".csv": CsvFile,
    ".vtt": cues.vtt,
    ".srt": cues.srt,
    ".rttm": cues.rttm,
    ".txt": cues.audacity,
}
"""What grows record by record, by suffix."""

SUFFIXES: Final = (*LOGS, *WHOLE)
"""All that a file name may end in, in capitals or not."""


class Output:
    """A sink that writes one of the formats."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, event: Event, now_unix_s: float) -> None:
        """Write one event; Status, which comes twice a second, is for eyes only.

        Raises:
            SinkError: it cannot be written.

        """
        if not isinstance(event, Status):
            self._writer.put(to_dict(event, now_unix_s), now_unix_s)

    def close(self) -> None:
        """Write what belongs at the end, and close the file.

        Raises:
            SinkError: it cannot be written.

        """
        self._writer.close()


def format_of(path: Path) -> str:
    """Give the suffix, as the registry spells it, of the format that a name asks for.

    A pipe or a device without a suffix takes JSON lines.

    Raises:
        ConfigError: no format has it.

    """
    by_case = {suffix.lower(): suffix for suffix in SUFFIXES}
    wanted = path.suffix.lower()
    if wanted in by_case:
        return by_case[wanted]
    if not wanted and path.exists() and not path.is_file():
        return JSON_LINES
    near = difflib.get_close_matches(wanted, by_case, n=1)
    hint = f"did you mean {by_case[near[0]]}? " if near else ""
    known = ", ".join(SUFFIXES)
    raise ConfigError(
        str(path),
        f"no format is called {path.suffix}" if wanted else "its name has no suffix",
        f"{hint}The suffix chooses the format: {known}",
    )


def open_output(path: Path, *, goes_on: bool = False) -> Sink:
    """Open a file that follows a run, in the format of its suffix.

    Args:
        path: the file, which is begun anew.
        goes_on: whether to go on at its end instead.

    Raises:
        ConfigError: no format has the suffix, or one that cannot go on.
        SinkError: it cannot be opened.

    """
    suffix = format_of(path)
    if suffix == JSON_LINES:
        return JsonLines(path, goes_on=goes_on)
    if goes_on:
        remedy = f"append to FILE{JSON_LINES}, and make the other of it by abhinaya convert"
        raise ConfigError(f"--append with {path}", f"{suffix} cannot go on", remedy)
    if suffix in WHOLE:
        return Output(WholeFile(path, WHOLE[suffix](path)))
    return Output(LOGS[suffix](path))
