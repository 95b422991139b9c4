"""The gateway of a cluster: `abhinaya serve` for all its cells, as a process of the controller."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from abhinaya.models.errors import naming_the_extra
from abhinaya.models.text import say
from abhinaya.stream.cells.source import open_source
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.wire.child import STOP, Stage, Stop, run_child
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import Event


class Heart:
    """A sink that writes nothing: it beats, since the loop of the run ticks it."""

    def __init__(self, beat: Callable[[float], None]) -> None:
        self._beat = beat

    def tick(self, now_unix_s: float) -> None:
        """Leave a heartbeat."""
        self._beat(time.monotonic())

    def write(self, event: Event, now_unix_s: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Said:
    """Writes warnings to the log of the process."""

    def loading(self, stages: Mapping[str, Stage]) -> None:
        """Do nothing: the cells have the models."""

    def trouble(self, message: str) -> None:
        """Write a warning."""
        say(message, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a child of a supervisor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--cells", required=True)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    args = parser.parse_args(argv)
    config = configuration.decode((args.directory / "config.json").read_bytes())

    def body(stop: Stop) -> int:
        with naming_the_extra("gateway"):
            from abhinaya.stream.serve.main import Place, serve
        tls = (args.tls_cert, args.tls_key) if args.tls_cert else None
        # a run ends in order on the signals of a service manager
        signal.signal(STOP, lambda *_: signal.raise_signal(signal.SIGTERM))
        return serve(
            config,
            Place(args.host, args.port, args.data, tls),
            Said(),
            cells=open_source(args.cells, os.environ),
            keys=Keys(args.keys, "input") if args.keys else None,
            reader=Keys(args.keys, "reader") if args.keys else None,
            more=[Heart(stop.beat)],
        )

    return run_child(args.name, args.directory, args.lifeline, body)


if __name__ == "__main__":
    sys.exit(main())
