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

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from abhinaya.bench.clips import duration_s, rotate
from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import Usage, Watcher, add_profile, live, play, profile_of
from abhinaya.bench.report import (
    Report,
    ms,
    parser,
    percentiles,
    publish,
    settings_of,
    table,
    table_of,
)
from abhinaya.bench.word_times import Placed, WordTimes
from abhinaya.stream.settings.config import Config
from abhinaya.stream.sinks.events import latency_ms
from abhinaya.stream.wire.messages import Activity, Event, Gap, Verdict

MOST: Final = 256
LATE: Final = "late"
"""First word of the reason why a vote is missing, if the voter was late."""


Prepare = Callable[[int, Path], "Streams"]
"""Writes a number of streams into a folder."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Recordings by stream name, and their utterances if the words are known."""

    recordings: Mapping[str, Path]
    placed: Mapping[str, Sequence[Placed]] = field(default_factory=dict)
    whole_errors: Mapping[str, int] = field(default_factory=dict)
    """Utterance name -> word errors when the same model transcribes it alone and uncut."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """Figures of a run with a number of streams."""

    streams: int
    segments: int
    stages_ms: Mapping[str, Mapping[str, float]]
    """Stage -> percentile -> milliseconds; `total` is from end of speech to the sink."""
    late: int
    """Verdicts without a vote because a voter was late."""
    shed: int
    """Segments that became gaps."""
    early: Mapping[str, Any] | None = None
    """Figures of the provisional labels; None without any."""
    words: Mapping[str, Any] | None = None
    """Figures of `WordTimes`; None if the spoken words are unknown."""
    cpu: float = 0.0
    """Processor seconds of all processes, for a second of audio of all streams."""
    resident_mib: float = 0.0
    pss_mib: float = 0.0
    others: float = 0.0

    @property
    def lost(self) -> int:
        """Number of segments that became gaps plus utterances without final words."""
        missing: int = self.words["missing"] if self.words else 0
        return self.shed + missing

    def keeps_up(self, bound_ms: float) -> bool:
        """Whether nothing was lost or late, and the p95 of the total is within the bound."""
        complete = self.segments and not self.lost and not self.late
        return bool(complete and self.stages_ms["total"]["p95"] <= bound_ms)


class Labels(Watcher):
    """Collects the latency of first verdicts, and compares provisional labels with final ones."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {}
        self.segments = self.late = self.shed = 0
        self._first_ms: list[float] = []
        self._firsts = self._lasts = 0
        self._open: dict[tuple[str, int], tuple[str, str]] = {}
        """First and last provisional label of the segments without a final label."""

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Record a provisional label."""
        if isinstance(event, Activity) or not event.votes:
            return
        key = (event.stream, event.sequence)
        if key not in self._open:
            self._first_ms.append(1000 * (now_unix_s - event.start_unix_s))
        first, _ = self._open.get(key, (event.label, ""))
        self._open[key] = (first, event.label)

    def event(self, event: Event, now_unix_s: float) -> None:
        """Record a gap or the first revision of a verdict."""
        if isinstance(event, Gap):
            self.shed += 1
        if not isinstance(event, Verdict) or event.revision:
            return
        self.segments += 1
        self.late += any(missing.reason.startswith(LATE) for missing in event.missing)
        for stage, value in latency_ms(event, now_unix_s).items():
            self.stages.setdefault(stage, []).append(value)
        first, last = self._open.pop((event.stream, event.sequence), ("", ""))
        self._firsts += first == event.label
        self._lasts += last == event.label

    def early(self) -> dict[str, Any] | None:
        """Return the figures of the provisional labels; None without any.

        `share`: segments with one; `first_ms`: percentiles from a segment's start to its first one;
        `first_stays`, `last_stays`: share of these segments whose first or last one equals the
        final label.
        """
        count = len(self._first_ms) - len(self._open)
        if not count:
            return None
        return {
            "share": count / self.segments,
            "first_ms": percentiles(self._first_ms),
            "first_stays": self._firsts / count,
            "last_stays": self._lasts / count,
        }


def measure(config: Config, streams: Streams) -> LiveRun:
    """Play streams in real time; return the figures."""
    labels, usage, words = Labels(), Usage(), WordTimes(streams.placed)
    play(config, live(streams.recordings), [labels, words, usage])
    return LiveRun(
        streams=len(streams.recordings),
        segments=labels.segments,
        stages_ms={stage: percentiles(values) for stage, values in labels.stages.items()},
        late=labels.late,
        shed=labels.shed,
        early=labels.early(),
        words=words.result(streams.whole_errors) if streams.placed else None,
        cpu=usage.cpu_s / sum(map(duration_s, streams.recordings.values())),
        resident_mib=usage.resident_mib,
        pss_mib=usage.pss_mib,
        others=usage.others,
    )


def tables(runs: Sequence[LiveRun], bound_ms: float) -> list[Table]:
    """Return the tables of runs, fewest streams first."""
    ordered = sorted(runs, key=lambda run: run.streams)
    stages = [
        table(
            f"By stage, {run.streams} streams",
            ("stage", "p50 ms", "p95 ms", "p99 ms"),
            [(stage, *map(ms, values.values())) for stage, values in run.stages_ms.items()],
        )
        for run in ordered
    ]
    overview = table_of(
        "Live streams: end of speech to verdict; CPU seconds a second of audio; memory in MiB",
        {
            "streams": "{0.streams}",
            "segments": "{0.segments}",
            **{f"{p} ms": f"{{0.stages_ms[total][{p}]:.0f}}" for p in ("p50", "p95", "p99")},
            "late": "{0.late}",
            "lost": "{0.lost}",
            "CPU": "{0.cpu:.2f}",
            "resident": "{0.resident_mib:.0f}",
            "PSS": "{0.pss_mib:.0f}",
            "others": "{0.others:.0%}",
            "keeps up": lambda run: "yes" if run.keeps_up(bound_ms) else "no",
        },
        [run for run in ordered if run.segments],
    )
    early = table_of(
        "Labels while somebody speaks: from the start of the segment, and whether they stay",
        {
            "streams": "{0.streams}",
            "have one": "{0.early[share]:.0%}",
            "first p50 ms": "{0.early[first_ms][p50]:.0f}",
            "p95 ms": "{0.early[first_ms][p95]:.0f}",
            "first stays": "{0.early[first_stays]:.0%}",
            "last stays": "{0.early[last_stays]:.0%}",
        },
        [run for run in ordered if run.early],
    )
    words = table_of(
        "Words of dense read speech: seconds, p50 / p95; errors a word, live and uncut",
        {
            "streams": "{0.streams}",
            "utterances": "{0.words[utterances]}",
            "spoken": "{0.words[spoken]:.0%}",
            "final": "{0.words[final_s][p50]:.2f} / {0.words[final_s][p95]:.2f}",
            "first": "{0.words[first_s][p50]:.2f} / {0.words[first_s][p95]:.2f}",
            "errors": "{0.words[error_rate]:.1%}",
            "whole": "{0.words[whole_error_rate]:.1%}",
        },
        [run for run in ordered if run.words],
    )
    return [made for made in (*stages, overview, early, words) if made.row_count]


def find_max(
    measure_one: Callable[[int], LiveRun], bound_ms: float, most: int = MOST
) -> list[LiveRun]:
    """Search for the largest number of streams that keeps up, by bisection; return all runs."""
    runs: list[LiveRun] = []
    best, failed = 0, most + 1
    while failed - best > 1:
        trial = min(2 * best or 1, most) if failed > most else (best + failed) // 2
        runs.append(measure_one(trial))
        if runs[-1].keeps_up(bound_ms):
            best = trial
        else:
            failed = trial
    return runs


def options_of(
    name: str, text: str | None, streams: Sequence[int], seconds: float
) -> argparse.ArgumentParser:
    """Return the parser of a benchmark with live streams."""
    made = parser(name, text)
    add = made.add_argument
    add("--streams", type=int, nargs="+", default=streams, metavar="N", help="(%(default)s)")
    add("--find-max", action="store_true", help="find the most streams that keep up")
    add("--bound-ms", type=float, default=1500.0, help="p95 of the total that keeps up")
    add("--seconds", type=float, default=seconds, help="of each stream (%(default)g)")
    add_profile(made)
    return made


def run(name: str, options: argparse.Namespace, prepare: Prepare) -> int:
    """Measure and print; return the exit code."""
    config = profile_of(options)

    def one(streams: int) -> LiveRun:
        with tempfile.TemporaryDirectory(prefix="abhinaya-bench-") as folder:
            return measure(config, prepare(streams, Path(folder)))

    bound = options.bound_ms
    runs = find_max(one, bound) if options.find_max else [one(n) for n in options.streams]
    most = max((one.streams for one in runs if one.keeps_up(bound)), default=0)
    report = Report(name, settings_of(options), {"runs": runs, "most_streams": most})
    publish(report, tables(runs, bound), options.json)
    if options.find_max:
        print(f"most streams with p95 within {bound:.0f} ms and nothing lost: {most}")
        return 0
    return 1 if any(one.lost for one in runs) else 0


def rotated(source: Path, seconds: float, streams: int, folder: Path) -> Streams:
    """Write streams of one recording that begin at different places."""
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
