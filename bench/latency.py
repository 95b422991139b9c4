"""From the end of speech to its verdict, stage by stage, with N paced streams.

    abhinaya bench latency --streams 1
    abhinaya bench latency --find-max

Each stream is the recording played at the pace of real time through a front of its own, begun at a
different place so that the streams do not fall silent together. `--find-max` gives the largest
number of streams that keeps up: p95 of the total within --bound-ms, nothing lost, nothing late.
CPU and memory are of all processes from the first stream on; of PSS, what several share counts
once. `others` is the share of the machine that processes not of the run used meanwhile. What labels
are worth that come while somebody speaks is told as well; `--set vad.provisional_every_s=0` shows
what they cost.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from abhinaya.bench.demo import CALL
from abhinaya.bench.live import Kept, Streams, measure, tables
from abhinaya.bench.monitored import add_profile, profile_of
from abhinaya.bench.recording import duration_s, rotate
from abhinaya.bench.report import Report, parser, publish, settings_of

MOST: Final = 256
Prepare = Callable[[int, Path], Streams]
"""Writes so many streams into a folder."""


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


def find_max(measure_one: Callable[[int], Kept], bound_ms: float, most: int = MOST) -> list[Kept]:
    """Double the streams until they no longer keep up, then halve the distance.

    The last that keeps up is the greatest of the runs for which `keeps_up` holds.
    """
    runs: list[Kept] = []

    def good(streams: int) -> bool:
        runs.append(measure_one(streams))
        return runs[-1].keeps_up(bound_ms)

    best, failed = 0, most + 1
    while failed - best > 1:
        trial = min(2 * best or 1, most) if failed > most else (best + failed) // 2
        if good(trial):
            best = trial
        else:
            failed = trial
    return runs


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit with 1 if anything was lost."""
    made = options_of("latency", __doc__, streams=[1], seconds=120.0)
    made.add_argument("--input", type=Path, default=CALL, metavar="FILE", help="(the demo call)")
    options = made.parse_args(argv)
    return run("latency", options, lambda n, into: rotated(options.input, options.seconds, n, into))


def options_of(
    name: str, text: str | None, streams: Sequence[int], seconds: float
) -> argparse.ArgumentParser:
    """Return the parser of a command that plays live streams."""
    made = parser(name, text)
    made.add_argument(
        "--streams", type=int, nargs="+", default=streams, metavar="N", help="(%(default)s)"
    )
    made.add_argument("--find-max", action="store_true", help="find the most that keep up")
    made.add_argument(
        "--bound-ms", type=float, default=1500.0, help="p95 of the total that counts as keeping up"
    )
    made.add_argument("--seconds", type=float, default=seconds, help="of each stream (%(default)g)")
    add_profile(made)
    return made


def run(name: str, options: argparse.Namespace, prepare: Prepare) -> int:
    """Measure and print.

    Raises:
        AbhinayaError: a run could not go on.

    """
    config = profile_of(options)

    def one(streams: int) -> Kept:
        with tempfile.TemporaryDirectory(prefix="abhinaya-bench-") as folder:
            return measure(config, prepare(streams, Path(folder)))

    bound = options.bound_ms
    runs = find_max(one, bound) if options.find_max else [one(n) for n in options.streams]
    most = max((kept.streams for kept in runs if kept.keeps_up(bound)), default=0)
    report = Report(name, settings_of(options), {"runs": runs, "most_streams": most})
    publish(report, tables(runs, bound), options.json)
    if options.find_max:
        print(f"most streams with p95 within {bound:.0f} ms and nothing lost: {most}")
        return 0
    return 1 if any(kept.lost for kept in runs) else 0
