"""`abhinaya report`: one HTML page about a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from abhinaya.models.command_line import Parser
from abhinaya.models.text import say
from abhinaya.stream.errors import SinkError
from abhinaya.stream.report.gather import gather
from abhinaya.stream.report.template import page
from abhinaya.stream.sinks.files import replacing


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit code."""
    parser = Parser(
        prog="abhinaya report",
        description="Make one HTML page from the JSON lines of a run. The page works offline.",
    )
    parser.add_argument("source", type=Path, metavar="FILE.jsonl")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="HTML", help="default: FILE.html in the same folder"
    )
    args = parser.parse_args(arguments)
    target: Path = args.output or args.source.with_suffix(".html")
    write_report(args.source, target)
    say(target)
    return 0


def write_report(source: Path, target: Path) -> None:
    """Write the report of a JSON lines file.

    Raises:
        SourceError: the file cannot be read, or has no stream.
        SinkError: the page cannot be written.

    """
    if target.resolve() == source.resolve():
        raise SinkError(str(target), "is the source itself", "give another name with -o")
    html = page(gather(source))
    with replacing(target) as new:
        new.write_text(html, "utf-8")
