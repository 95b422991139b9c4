"""The sinks that a person asked for, opened together and closed together."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from abhinaya.stream.errors import AbhinayaError, ConfigError, SinkError
from abhinaya.stream.run.supervisor import Stage
from abhinaya.stream.sinks.base import Sink
from abhinaya.stream.sinks.formats import format_of, open_output
from abhinaya.stream.sinks.guarded import Guarded
from abhinaya.stream.sinks.jsonl import JsonLines
from abhinaya.stream.sinks.lines import Lines
from abhinaya.stream.sinks.live.view import View
from abhinaya.stream.sinks.screen import Screen, Terminal

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

    @property
    def fault(self) -> SinkError | None:
        """Why an output has nothing more written to it; the first, if there are several."""
        return next((s.fault for s in self.all if isinstance(s, Guarded) and s.fault), None)

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
    format: Literal["lines", "jsonl"],
    outputs: Sequence[Path] = (),
    view: ViewChoice = "auto",
    *,
    append: bool = False,
) -> Sinks:
    """Open standard output in a format, and files beside it, each in the format of its suffix.

    A file that fails later does so alone; standard output takes the run with it. With JSON lines on
    standard output, what the supervisor sees goes to standard error.

    Args:
        format: of standard output.
        outputs: files.
        view: of lines on a terminal: `plain` for lines only, `live` for the live view, `auto` for
            the live view as soon as a live stream begins.
        append: whether files go on at their end instead of being begun anew.

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
    if format == "jsonl":
        if view == "live":
            raise ConfigError("--live", "shows no JSON", "write it with --output FILE.jsonl")
        errors = Lines(Terminal(stderr=True))
        return Sinks((*_open_all(outputs, errors, append), JsonLines()), errors, (errors,))
    lines = _lines_or_view(view)
    return Sinks((*_open_all(outputs, lines, append), lines), lines)


def _lines_or_view(view: ViewChoice) -> Lines | View:
    """Open what shows events to people.

    Raises:
        ConfigError: the live view was asked for where nothing can be taken back.

    """
    console = Terminal()
    draws = console.encoding.startswith("utf")
    if not draws and isinstance(sys.stdout, io.TextIOWrapper):
        # a word in another script must not end the run
        sys.stdout.reconfigure(errors="replace")
    able = draws and Screen(console).can_change
    if view == "live" and not able:
        raise ConfigError(
            "--live",
            "needs a terminal with UTF-8 that can move its cursor",
            "leave --live out, or use a terminal other than TERM=dumb",
        )
    return View(console, always=view == "live") if able and view != "plain" else Lines(console)


def _open_all(outputs: Sequence[Path], observer: Observer, append: bool) -> tuple[Sink, ...]:
    files: list[Sink] = []
    try:
        for path in outputs:
            files.append(Guarded(open_output(path, goes_on=append), observer.trouble))
    except AbhinayaError:
        for file in files:
            file.close()
        raise
    return tuple(files)
