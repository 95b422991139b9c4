"""`abhinaya bench NAME`: one module for each benchmark, imported only when it runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Final, cast

from abhinaya.models.command_line import Parser
from abhinaya.models.errors import near_miss
from abhinaya.stream.errors import ConfigError

COMMANDS: Final = {
    "transport": "cost of the hub: segments a second and latency, compared with a bare relay",
    "latency": "from end of speech to verdict, stage by stage, with N live streams",
    "asr": "like latency, with dense read speech, and its words",
    "load": "more live speech than the nodes manage: labels, latency, what is left out",
    "soak": "live streams while nodes are killed and hung: losses, growth of memory",
    "ingest": "telephone calls pushed at once: what is lost, processor time of each process",
    "gateway": "web console and API: from a verdict to a reader, with many streams",
    "cells": "two cells beside each other: how much more they pass than one; cost of the map",
    "vad": "how well speech is found and cut, against reference turns",
    "view": "cost of the live view with many streams; or a picture of the view",
    "quality": "words, voters and vote against known labels, in one table",
    "cascade": "what is saved and lost if large voters are asked only where they are needed",
    "crossval": "the embedded S1, trained without some speakers or a corpus",
    "models": "speed of the voters by batch and length, with random weights",
}


ELSEWHERE: Final = {"cells": "capacity.cells"}
"""Modules that are not named like their command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(
        "abhinaya bench",
        "Measure this machine with the monitor's own processes.",
        epilog="\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items()),
    )
    parser.add_argument("name", metavar="NAME", help="one of the list below")
    return command(parser.parse_args(arguments[:1]).name)(arguments[1:])


def command(name: str) -> Callable[[Sequence[str]], int]:
    """Return the main function of `abhinaya bench NAME`.

    Raises ConfigError: the benchmark is unknown, or needs a package that is not installed.
    """
    if name not in COMMANDS:
        raise ConfigError(f"bench {name!r}", "unknown", near_miss(name, COMMANDS))
    try:
        module = importlib.import_module(f"abhinaya.bench.{ELSEWHERE.get(name, name)}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("abhinaya"):
            raise
        reason = f"needs the package {error.name}, which is not installed"
        raise ConfigError(f"bench {name}", reason, "pip install 'abhinaya[bench]'") from error
    return cast("Callable[[Sequence[str]], int]", module.main)
