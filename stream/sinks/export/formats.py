"""The table of output formats by suffix, and the export of a file to a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from abhinaya.models.errors import near_miss
from abhinaya.models.plugins import plugins
from abhinaya.models.text import to_json
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.sinks import plugin
from abhinaya.stream.sinks.export import cues, parquet, table, textgrid
from abhinaya.stream.sinks.files import is_device, replacing
from abhinaya.stream.sinks.reader import read, row_of

JSON_LINES: Final = ".jsonl"


def _copy(source: Path, target: Path) -> None:
    """Copy the events; leave out provisional verdicts and a cut-off last line."""
    with target.open("wb") as file:
        for number, values in enumerate(read(source), start=1):
            row_of(values, f"{source}, event {number}")
            file.write(to_json(values) + b"\n")


FORMATS: Final[Mapping[str, Callable[[Path, Path], None]]] = {
    JSON_LINES: _copy,
    ".csv": table.export,
    ".vtt": cues.vtt,
    ".srt": cues.srt,
    ".rttm": cues.rttm,
    ".txt": cues.audacity,
    ".parquet": parquet.export,
    ".TextGrid": textgrid.export,
}
"""By suffix: the function that converts a JSON lines file to a new file."""

SUFFIXES: Final = tuple(FORMATS)


def format_of(path: Path) -> str:
    """Return the suffix of a path as the table spells it, ignoring case.

    For a pipe or a device without a suffix, return that of JSON lines.

    Raises:
        ConfigError: the suffix is unknown.

    """
    suffixes = (*SUFFIXES, *plugins("sinks"))
    by_case = {suffix.lower(): suffix for suffix in suffixes}
    wanted = path.suffix.lower()
    if wanted in by_case:
        return by_case[wanted]
    if not wanted and is_device(path):
        return JSON_LINES
    raise ConfigError(
        str(path),
        f"no format is called {path.suffix}" if wanted else "its name has no suffix",
        near_miss(wanted, suffixes),
    )


def export(source: Path, target: Path) -> None:
    """Write the events of a JSON lines file in the format of the target's suffix, in one step.

    Raises:
        ConfigError: the suffix is unknown.
        SourceError: the source cannot be read, or a line is not an event.
        SinkError: the target cannot be written; an old file of that name is kept.

    """
    suffix = format_of(target)
    if suffix not in FORMATS:
        plugin.export(source, target)
        return
    write = FORMATS[suffix]
    with replacing(target) as new:
        write(source, new)
