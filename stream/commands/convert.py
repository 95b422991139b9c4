"""`abhinaya convert`: convert the JSON lines of a run into another format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from abhinaya.models.command_line import Parser
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.sinks.export.formats import JSON_LINES, SUFFIXES, export, format_of


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit code."""
    parser = Parser(
        prog="abhinaya convert",
        description="Convert the JSON lines of a run into another format.",
        epilog=f"the suffix of OUT chooses the format: {', '.join(SUFFIXES)}",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="a .jsonl file written by --output")
    parser.add_argument("target", type=Path, metavar="OUT", help="the file to write")
    args = parser.parse_args(arguments)
    convert(args.source, args.target)
    return 0


def convert(source: Path, target: Path) -> None:
    """Write the events of a JSON lines file in the format of the target's suffix.

    Raises:
        ConfigError: the suffix of a file is wrong, or both files are the same.
        SourceError: the source cannot be read, or does not have the JSON lines of a run.
        SinkError: the target cannot be written.

    """
    format_of(target)
    if source.suffix.lower() in {known.lower() for known in SUFFIXES} - {JSON_LINES}:
        raise ConfigError(
            str(source),
            f"a {source.suffix} file does not have all fields of an event",
            "convert the .jsonl of the same run; next time ask for one with --output FILE.jsonl",
        )
    if source.resolve() == target.resolve():
        raise ConfigError(str(target), "is the source itself", "give another name")
    export(source, target)
