"""Opens and closes all outputs of a run.

During a run only JSON lines and plug-ins are written. Files of other formats are made from JSON
lines at the end: from a `.jsonl` output, else from a temporary journal next to the first file.
"""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from abhinaya.stream.errors import AbhinayaError, ConfigError, SinkError
from abhinaya.stream.sinks.base import Observer, Sink
from abhinaya.stream.sinks.export.formats import FORMATS, JSON_LINES, export, format_of
from abhinaya.stream.sinks.files import beside, is_device
from abhinaya.stream.sinks.jsonl import JsonLines
from abhinaya.stream.sinks.lines import Lines
from abhinaya.stream.sinks.live.view import View
from abhinaya.stream.sinks.plugin import PluginSink
from abhinaya.stream.sinks.screen import Screen, Terminal

ViewChoice = Literal["auto", "live", "plain"]


class Exports:
    """Files of other formats, made at the end of a run.

    They are also written at the start, empty, so that a wrong path is reported at once.

    Args:
        source: JSON lines file that they are made from.
        targets: the files.
        temporary: whether to delete the source after all files are made.

    Raises:
        SinkError: a file cannot be written.

    """

    def __init__(self, source: Path, targets: Sequence[Path], temporary: bool) -> None:
        self._source = source
        self._targets = tuple(targets)
        self._temporary = temporary
        for target in self._targets:
            if is_device(target) and not target.is_dir():
                reason = f"{target.suffix} is written at the end, not into a pipe or a device"
                raise SinkError(str(target), reason, "use .jsonl there")
            export(source, target)

    def close(self) -> None:
        """Make the files; a second call does nothing. The source must be closed.

        If a file cannot be made, SinkError names it, and the source is kept. After a signal it
        names the rest.
        """
        targets, self._targets = self._targets, ()
        failed: dict[str, str] = {}
        for number, target in enumerate(targets):
            try:
                export(self._source, target)
            except AbhinayaError as error:
                failed[str(target)] = error.reason.removeprefix("cannot be written: ")
            except KeyboardInterrupt as stopped:
                failed |= {str(rest): str(stopped) for rest in targets[number:]}
                break
        if failed:
            reason = f"cannot be written: {'; '.join(dict.fromkeys(failed.values()))}"
            remedy = f"abhinaya convert {self._source} FILE makes it later"
            raise SinkError(", ".join(failed), reason, remedy)
        if targets and self._temporary:
            self._source.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Sinks:
    """All outputs of a run, and the observer of its processes."""

    all: tuple[Sink, ...]
    observer: Observer
    after: tuple[Exports | Lines, ...] = ()
    """Outputs that get no events; they are closed last."""

    @property
    def fault(self) -> SinkError | None:
        """Error of the first output that failed; None if all work."""
        files = (s for s in self.all if isinstance(s, JsonLines | PluginSink))
        return next((file.fault for file in files if file.fault), None)

    def close(self) -> None:
        """Close every sink, even if one fails; then raise a SinkError that names those."""
        faults: dict[str, SinkError] = {}
        leave: SystemExit | KeyboardInterrupt | None = None
        for sink in (*self.all, *self.after):
            try:
                sink.close()
            except SinkError as error:
                faults[str(error)] = error
            except (SystemExit, KeyboardInterrupt) as error:
                leave = leave or error
        if len(faults) > 1:
            raise SinkError("; ".join(faults))
        for fault in (*faults.values(), leave):
            if fault is not None:
                raise fault


def open_sinks(
    format: Literal["lines", "jsonl"],
    outputs: Sequence[Path] = (),
    view: ViewChoice = "auto",
    *,
    append: bool = False,
) -> Sinks:
    """Open standard output in `format`, and each output file in the format of its suffix.

    If a file fails later, the run continues; if standard output fails, the run ends. With JSON
    lines on standard output, the state of the processes goes to standard error.

    Args:
        format: format of standard output.
        outputs: paths of the output files.
        view: display on a terminal: `plain` for lines only, `live` for the live view, `auto` for
            the live view as soon as a live stream begins.
        append: whether to append to the files instead of overwriting them.

    Raises:
        ConfigError: a suffix is unknown, or the live view cannot be shown.
        SinkError: a file cannot be opened, or is named twice.

    """
    live, exported = _divided(outputs, append)
    if format == "jsonl":
        if view == "live":
            raise ConfigError("--live", "shows no JSON", "write it with --output FILE.jsonl")
        errors = Lines(Terminal(stderr=True))
        files, exports = _open_files(live, exported, errors, append)
        return Sinks((*files, JsonLines()), errors, (*exports, errors))
    lines = _lines_or_view(view)
    files, exports = _open_files(live, exported, lines, append)
    return Sinks((*files, lines), lines, exports)


def _divided(outputs: Sequence[Path], append: bool) -> tuple[list[Path], list[Path]]:
    """Return the outputs written during the run, and those written at its end."""
    live: list[Path] = []
    exported: list[Path] = []
    seen: set[Path] = set()
    for path in outputs:
        if path.resolve() in seen:
            raise SinkError(str(path), "is named twice", "give each --output its own file")
        seen.add(path.resolve())
        suffix = format_of(path)
        (exported if suffix in FORMATS and suffix != JSON_LINES else live).append(path)
        if append and suffix != JSON_LINES:
            remedy = f"append to FILE{JSON_LINES}, then convert it: abhinaya convert"
            raise ConfigError(f"--append with {path}", f"{suffix} cannot be appended to", remedy)
    return live, exported


def _lines_or_view(view: ViewChoice) -> Lines | View:
    """Open the display on standard output.

    Raises:
        ConfigError: `--live` was given, but the terminal cannot show the live view.

    """
    console = Terminal()
    draws = console.encoding.startswith("utf")
    if not draws and isinstance(sys.stdout, io.TextIOWrapper):
        # a character that cannot be encoded must not end the run
        sys.stdout.reconfigure(errors="replace")
    able = draws and Screen(console).can_change
    if view == "live" and not able:
        raise ConfigError(
            "--live",
            "needs a terminal with UTF-8 that can move its cursor",
            "leave --live out, or use a terminal other than TERM=dumb",
        )
    return View(console, always=view == "live") if able and view != "plain" else Lines(console)


def _open_files(
    live: Sequence[Path], exported: Sequence[Path], observer: Observer, append: bool
) -> tuple[tuple[JsonLines | PluginSink, ...], tuple[Exports, ...]]:
    files: list[JsonLines | PluginSink] = []
    journal: Path | None = None
    try:
        for path in live:
            own = format_of(path) == JSON_LINES
            report = observer.trouble
            files.append(
                JsonLines(path, append=append, report=report) if own else PluginSink(path, report)
            )
        if not exported:
            return tuple(files), ()
        logs = (path for path in live if format_of(path) == JSON_LINES and path.is_file())
        source = next(logs, None)
        if source is None:
            source = journal = _journal(exported[0], observer)
            files.append(JsonLines(journal, report=_of_journal(exported, observer)))
        return tuple(files), (Exports(source, exported, temporary=journal is not None),)
    except (AbhinayaError, KeyboardInterrupt):
        for file in files:
            file.close()
        if journal is not None:
            journal.unlink(missing_ok=True)
        raise


def _of_journal(targets: Sequence[Path], observer: Observer) -> Callable[[str], None]:
    """Return a function that reports a failure of the journal as one of the files made from it."""
    names = ", ".join(map(str, targets))
    return lambda text: observer.trouble(f"{names}: {text}")


def _journal(target: Path, observer: Observer) -> Path:
    """Return the path of the journal; the journal of a killed run is renamed first."""
    journal = beside(target, f".journal{JSON_LINES}")
    if journal.exists():
        names = (beside(target, f".journal-{i}{JSON_LINES}") for i in itertools.count(1))
        kept = next(name for name in names if not name.exists())
        journal.rename(kept)
        observer.trouble(f"{journal} of a run that was killed is kept as {kept}")
    return journal
