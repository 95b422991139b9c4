"""Measures the delay from the end of speech to its verdict, by stage, with N live streams.

    abhinaya bench latency --streams 1
    abhinaya bench latency --find-max

Each stream plays the recording in real time through its own front. The streams begin at different
places, so that they are not silent together. `--find-max` prints the largest number of streams that
keeps up: p95 of the total within --bound-ms, nothing lost, nothing late. CPU and memory are of all
processes, from the first stream on; PSS counts shared memory once. `others` is the share of the
machine that other processes used meanwhile. The last table is about provisional labels, which
come while somebody speaks; `--set vad.provisional_every_s=0` turns them off to show their cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from abhinaya.bench.demo import CALL
from abhinaya.bench.live import Streams, options_of, run
from abhinaya.bench.recording import duration_s, rotate


def rotated(source: Path, seconds: float, streams: int, folder: Path) -> Streams:
    """Write streams of one recording that begin at different places.

    Raises:
        SourceError: the recording cannot be read.

    """
    length = duration_s(source)
    recordings = {f"stream-{number}": folder / f"{number}.wav" for number in range(streams)}
    for number, path in enumerate(recordings.values()):
        rotate(source, length * number / streams, seconds, path)
    return Streams(recordings)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit with 1 if anything was lost."""
    made = options_of("latency", __doc__, streams=[1], seconds=120.0)
    made.add_argument("--input", type=Path, default=CALL, metavar="FILE", help="(the demo call)")
    options = made.parse_args(argv)
    return run("latency", options, lambda n, into: rotated(options.input, options.seconds, n, into))
