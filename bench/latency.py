"""From the end of speech to its verdict, stage by stage, with N paced streams.

    abhinaya bench latency --streams 1
    abhinaya bench latency --find-max

Each stream is the recording played at the pace of real time through a front of its own, begun at a
different place so that the streams do not fall silent together. `--find-max` gives the largest
number of streams that keeps up: p95 of the total within --bound-ms, nothing shed, nothing late.
`others` is the share of the machine that processes not of the run used meanwhile. What provisional
labels are worth is told as well; `--set vad.provisional_every_s=0` shows what they cost.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.table import Table

from abhinaya.bench.early import Early, EarlyLabels
from abhinaya.bench.monitored import Memory, Others, add_profile, play, profile_of
from abhinaya.bench.recording import demo, duration_s, rotate
from abhinaya.bench.report import Report, ms, parser, publish, table
from abhinaya.bench.statistics import percentiles
from abhinaya.stream.config import Config
from abhinaya.stream.messages import Activity, Event, Gap, Verdict
from abhinaya.stream.sinks.events import latency_ms
from abhinaya.stream.supervisor import Supervisor

MOST: Final = 256
LATE: Final = "late"
"""How the reason begins for a voter that missed the deadline."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How a number of streams fared."""

    streams: int
    segments: int
    stages_ms: dict[str, dict[str, float]]
    """Stage -> percentile -> milliseconds; `total` is from end of speech to the sink."""
    late: int
    """Verdicts that a voter missed by coming too late."""
    shed: int
    """Segments that became gaps."""
    incomplete: int
    """Verdicts without a vote for another reason than lateness."""
    resident_mib: float
    """Peak of each process, in sum; this bench's own process plays the recorder."""
    others: float
    early: Early | None = None
    """What provisional labels were worth, if there were any."""

    def keeps_up(self, bound_ms: float) -> bool:
        """Whether everything came in time."""
        return bool(
            self.segments
            and not self.shed
            and not self.late
            and self.stages_ms["total"]["p95"] <= bound_ms
        )


class Collector:
    """Collects the latency of first verdicts."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {}
        self.segments = self.late = self.shed = self.incomplete = 0
        self.early = EarlyLabels()

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Take a label that may still change."""
        self.early.provisional(event, now_unix_s)

    def event(self, event: Event, now_unix_s: float) -> None:
        """Take a verdict or gap."""
        self.early.event(event)
        if isinstance(event, Gap):
            self.shed += 1
        elif isinstance(event, Verdict) and event.revision == 0:
            self.segments += 1
            late = [missing.reason.startswith(LATE) for missing in event.missing]
            self.late += any(late)
            self.incomplete += bool(late) and not any(late)
            for stage, value in latency_ms(event, now_unix_s).items():
                self.stages.setdefault(stage, []).append(value)

    def look(self, processes: Supervisor, now: float) -> None:
        """Ignore them."""


def measure(config: Config, source: Path, streams: int, seconds: float) -> Kept:
    """Play `streams` streams for `seconds`.

    Raises:
        AbhinayaError: the recording cannot be read, or the run could not go on.

    """
    collector, memory, others = Collector(), Memory(), Others()
    length = duration_s(source)
    with tempfile.TemporaryDirectory(prefix="abhinaya-bench-") as folder:
        recordings = {}
        for number in range(streams):
            path = recordings[f"stream-{number}"] = Path(folder) / f"{number}.wav"
            rotate(source, length * number / streams, seconds, path)
        play(config, recordings, [collector, memory, others])
    return Kept(
        streams=streams,
        segments=collector.segments,
        stages_ms={stage: percentiles(values) for stage, values in collector.stages.items()},
        late=collector.late,
        shed=collector.shed,
        incomplete=collector.incomplete,
        resident_mib=sum(memory.peaks().values()),
        others=others.share,
        early=collector.early.result(),
    )


def find_max(measure_one: Callable[[int], Kept], bound_ms: float, most: int = MOST) -> list[Kept]:
    """Double the streams until they no longer keep up, then halve the distance.

    The last that keeps up is the greatest of the runs for which `keeps_up` holds.
    """
    runs: list[Kept] = []

    def good(streams: int) -> bool:
        runs.append(measure_one(streams))
        return runs[-1].keeps_up(bound_ms)

    best, failed = 0, most + 1
    trial = 1
    while trial < failed:
        if good(trial):
            best = trial
            trial = failed if trial == most else min(2 * trial, most)
        else:
            failed = trial
    while failed - best > 1:
        middle = (best + failed) // 2
        if good(middle):
            best = middle
        else:
            failed = middle
    return runs


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit with 1 if a fixed number of streams does not keep up."""
    options = _options(argv)
    config = profile_of(options)

    def one(streams: int) -> Kept:
        return measure(config, options.input, streams, options.seconds)

    settings = {
        "profile": config.profile,
        "input": str(options.input),
        "seconds": options.seconds,
        "bound_ms": options.bound_ms,
    }
    if options.find_max:
        runs = find_max(one, options.bound_ms)
        most = max((run.streams for run in runs if run.keeps_up(options.bound_ms)), default=0)
        figures = {"runs": runs, "most_streams": most}
        publish(Report("latency", settings, figures), _tables(runs, options), options.json)
        print(f"most streams with p95 within {options.bound_ms:.0f} ms and nothing shed: {most}")
        return 0
    run = one(options.streams)
    kept = run.keeps_up(options.bound_ms)
    figures = {"runs": [asdict(run)], "keeps_up": kept}
    publish(Report("latency", settings, figures), _tables([run], options), options.json)
    return 0 if kept else 1


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = parser("latency", __doc__)
    arguments.add_argument("--streams", type=int, default=1, metavar="N", help="(1)")
    arguments.add_argument("--find-max", action="store_true", help="find the most that keep up")
    arguments.add_argument(
        "--bound-ms", type=float, default=1500.0, help="p95 of the total that counts as keeping up"
    )
    arguments.add_argument(
        "--input", type=Path, default=demo(), metavar="FILE", help="(the demo recording)"
    )
    arguments.add_argument(
        "--seconds", type=float, default=120.0, help="of each stream, the recording repeated (120)"
    )
    add_profile(arguments)
    return arguments.parse_args(argv)


def _tables(runs: Sequence[Kept], options: argparse.Namespace) -> list[Table]:
    ordered = sorted(runs, key=lambda run: run.streams)
    overview = table(
        f"Paced streams, profile {options.profile}: end of speech to verdict",
        (
            "streams", "segments", "p50 ms", "p95 ms", "p99 ms", "late", "shed", "MiB", "others",
            "keeps up",
        ),
        [
            (
                str(run.streams),
                str(run.segments),
                *(ms(value) for value in run.stages_ms.get("total", percentiles([])).values()),
                str(run.late),
                str(run.shed),
                f"{run.resident_mib:.0f}",
                f"{run.others:.0%}",
                "yes" if run.keeps_up(options.bound_ms) else "no",
            )
            for run in ordered
        ],
    )  # fmt: skip
    stages = [
        table(
            f"By stage, {run.streams} streams",
            ("stage", "p50 ms", "p95 ms", "p99 ms"),
            [(stage, *map(ms, values.values())) for stage, values in run.stages_ms.items()],
        )
        for run in ordered
    ]
    early = table(
        "Labels while somebody speaks: from the start of the segment, and whether they stay",
        ("streams", "have one", "first p50 ms", "p95 ms", "first stays", "last stays"),
        [
            (
                str(run.streams),
                f"{run.early.share:.0%}",
                ms(run.early.first_ms["p50"]),
                ms(run.early.first_ms["p95"]),
                f"{run.early.first_stays:.0%}",
                f"{run.early.last_stays:.0%}",
            )
            for run in ordered
            if run.early
        ],
    )
    return [*stages, overview, early] if early.row_count else [*stages, overview]
