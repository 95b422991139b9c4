"""The sinks that a person asked for, opened together and closed together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from abhinaya.stream.errors import AbhinayaError, ConfigError, SinkError
from abhinaya.stream.sinks.base import Sink
from abhinaya.stream.sinks.formats import format_of, open_output
from abhinaya.stream.sinks.jsonl import JsonLines
from abhinaya.stream.sinks.lines import Lines
from abhinaya.stream.sinks.live.view import View
from abhinaya.stream.sinks.screen import Screen, Terminal
from abhinaya.stream.supervisor import Stage

ViewChoice = Literal["auto", "live", "plain"]


class Observer(Protocol):
    """Who is told what the supervisor sees."""

    def loading(self, stages: Mapping[str, Stage]) -> None:
        """Show which processes are not ready yet."""
        ...

    def trouble(self, message: str) -> None:
        """Show that a process died."""
        ...


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where events go, and who shows what the supervisor sees."""

    all: tuple[Sink, ...]
    observer: Observer
    extra: tuple[Lines, ...] = ()
    """What shows no events, but must be closed."""

    def close(self) -> None:
        """Close every sink, even if one fails.

        Raises:
            SinkError: of the first that failed.

        """
        first: SinkError | SystemExit | None = None
        for sink in (*self.all, *self.extra):
            try:
                sink.close()
            except (SinkError, SystemExit) as error:
                first = first or error
        if first is not None:
            raise first


def open_sinks(
    format: Literal["lines", "jsonl"], outputs: Sequence[Path] = (), view: ViewChoice = "auto"
) -> Sinks:
    """Open standard output in a format, and files beside it, each in the format of its suffix.

    With JSON lines on standard output, what the supervisor sees goes to standard error.

    Args:
        format: of standard output.
        outputs: files.
        view: of lines on a terminal: `plain` for lines only, `live` for the live view, `auto` for
            the live view as soon as a live stream begins.

    Raises:
        ConfigError: a suffix is of no format, or the live view cannot be shown.
        SinkError: a file cannot be opened, or is named twice.

    """
    seen: set[Path] = set()
    for path in outputs:
        if path.resolve() in seen:
            raise SinkError(str(path), "is named twice", "give each --output its own file")
        seen.add(path.resolve())
        format_of(path)  # a misspelt suffix must not empty the files before it
    files = _open_all(outputs)
    if format == "jsonl":
        if view == "live":
            raise ConfigError("--view", "shows no JSON", "write it with --output FILE.jsonl")
        errors = Lines(Terminal(stderr=True))
        return Sinks((*files, JsonLines()), errors, (errors,))
    lines = _lines_or_view(view)
    return Sinks((*files, lines), lines)


def _lines_or_view(view: ViewChoice) -> Lines | View:
    """Open what shows events to people.

    Raises:
        ConfigError: the live view was asked for where nothing can be taken back.

    """
    console = Terminal()
    if view == "live" and not Screen(console).can_change:
        raise ConfigError(
            "--view",
            "needs a terminal that can move its cursor",
            "leave --view out, or use a terminal other than TERM=dumb",
        )
    if view == "plain" or not Screen(console).can_change:
        return Lines(console)
    return View(console, always=view == "live")


def _open_all(outputs: Sequence[Path]) -> tuple[Sink, ...]:
    files: list[Sink] = []
    try:
        for path in outputs:
            files.append(open_output(path))
    except AbhinayaError:
        for file in files:
            file.close()
        raise
    return tuple(files)
