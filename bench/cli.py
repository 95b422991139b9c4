"""`abhinaya bench NAME`: one module each, imported only when asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Final, cast

from abhinaya.models.command_line import Parser
from abhinaya.models.errors import near_miss
from abhinaya.stream.errors import ConfigError

COMMANDS: Final = {
    "transport": "what the hub adds: segments a second and latency, beside a bare relay",
    "latency": "from end of speech to verdict, stage by stage, with N paced streams",
    "asr": "the same with dense read speech, and its words",
    "throughput": "files as fast as the nodes allow: times real time, memory, first label",
    "soak": "paced streams while nodes are killed and hung: what is lost, what grows",
    "vad": "how well speech is found and cut, against reference turns",
    "view": "what the live view costs with many streams; or a picture of it",
    "quality": "words, voters and vote where the truth is known, in one table",
    "models": "the voters by batch and length, with weights made up",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one bench; return the exit code.

    Raises:
        AbhinayaError: the bench is unknown, or it cannot go on.

    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(
        "abhinaya bench",
        "Measure this machine with the monitor's own processes.",
        epilog="\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items()),
    )
    parser.add_argument("name", metavar="NAME", help="one of the list below")
    return command(parser.parse_args(arguments[:1]).name)(arguments[1:])


def command(name: str) -> Callable[[Sequence[str]], int]:
    """Return what `abhinaya bench NAME` runs.

    Raises:
        ConfigError: the bench is unknown, or a package it needs is missing.

    """
    if name not in COMMANDS:
        raise ConfigError(f"bench {name!r}", "unknown", near_miss(name, COMMANDS))
    try:
        module = importlib.import_module(f"abhinaya.bench.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("abhinaya"):
            raise
        reason = f"needs the package {error.name}, which is not installed"
        raise ConfigError(f"bench {name}", reason, "pip install 'abhinaya[bench]'") from error
    return cast("Callable[[Sequence[str]], int]", module.main)
