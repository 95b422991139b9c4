"""`abhinaya convert`: what a run has written, in another format."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from abhinaya.models.command_line import Parser
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.sinks.files import replacing
from abhinaya.stream.sinks.formats import JSON_LINES, LOGS, SUFFIXES, WHOLE, format_of
from abhinaya.stream.sinks.reader import latest, read, row_of


def main(arguments: Sequence[str]) -> int:
    """Run the command; give the exit code."""
    parser = Parser(
        prog="abhinaya convert",
        description="Convert the JSON lines of a run into another format.",
        epilog=f"the suffix of OUT chooses the format: {', '.join(SUFFIXES)}",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="a .jsonl that --output wrote")
    parser.add_argument("target", type=Path, metavar="OUT", help="the file to write")
    args = parser.parse_args(arguments)
    convert(args.source, args.target)
    return 0


def convert(source: Path, target: Path) -> None:
    """Write the events of a JSON lines file in the format of the target's suffix.

    Raises:
        ConfigError: one of the two suffixes is of no use here.
        SourceError: the source cannot be read, or holds no events.
        SinkError: the target cannot be written.

    """
    suffix = format_of(target)
    if source.suffix.lower() in {known.lower() for known in SUFFIXES} - {JSON_LINES}:
        raise ConfigError(
            str(source),
            f"a {source.suffix} does not hold all of an event, so it cannot be turned back",
            "convert the .jsonl of the same run; next time ask for one with --output FILE.jsonl",
        )
    if source.resolve() == target.resolve():
        raise ConfigError(str(target), "is the source itself", "give another name")
    for values in read(source):  # before the target is begun anew: is it of use at all?
        row_of(values, str(source))
        break
    if suffix in WHOLE:
        render = WHOLE[suffix](target)
        with replacing(target) as new:
            render(new, lambda: latest(source))
        return
    writer = LOGS[suffix](target)
    now_unix_s = time.time()
    try:
        for number, values in enumerate(read(source), start=1):
            row_of(values, f"{source}, event {number}")
            writer.put(values, now_unix_s)
    finally:
        writer.close()
