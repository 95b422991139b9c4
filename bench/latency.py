"""From the end of speech to its verdict, stage by stage, with N paced streams.

    abhinaya bench latency --streams 1
    abhinaya bench latency --find-max

Each stream is the recording played at the pace of real time through a front of its own, begun at a
different place so that the streams do not fall silent together. `--find-max` gives the largest
number of streams that keeps up: p95 of the total within --bound-ms, nothing lost, nothing late.
CPU and memory are of all processes from the first stream on; of PSS, what several share counts
once. `others` is the share of the machine that processes not of the run used meanwhile. It also
says what labels are worth that come while somebody speaks; `--set vad.provisional_every_s=0` shows
what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from abhinaya.bench.demo import CALL
from abhinaya.bench.live import Streams, options_of, run
from abhinaya.bench.recording import duration_s, rotate


def rotated(source: Path, seconds: float, streams: int, folder: Path) -> Streams:
    """Write one recording as streams that begin at different places.

    Raises:
        SourceError: it cannot be read.

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
