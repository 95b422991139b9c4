"""Live streams of the real processes: how soon labels and words come, how right, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.table import Table

from abhinaya.bench.monitored import Usage, Watcher, play
from abhinaya.bench.recording import duration_s
from abhinaya.bench.report import ms, percentiles, table
from abhinaya.bench.words_live import Placed, Words, WordTimes
from abhinaya.stream.settings.config import Config
from abhinaya.stream.sinks.events import latency_ms
from abhinaya.stream.wire.messages import Activity, Event, Gap, Verdict

LATE: Final = "late"
"""How the reason begins for a voter that missed the deadline."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Recordings by the names of their streams, and what is known of their words."""

    recordings: Mapping[str, Path]
    placed: Mapping[str, Sequence[Placed]] = field(default_factory=dict)
    whole_errors: Mapping[str, int] = field(default_factory=dict)
    """Word errors of the same weights on each utterance, heard whole and alone, by its name."""


@dataclass(frozen=True, slots=True)
class Early:
    """What the provisional labels of a run were worth."""

    share: float
    """Segments that had one, of all."""
    first_ms: Mapping[str, float]
    """Percentile -> milliseconds from the start of the segment to its first one at the sink."""
    first_stays: float
    """Share of those segments whose first provisional label is also the final one."""
    last_stays: float
    """The same of the last provisional label."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How a number of streams fared."""

    streams: int
    segments: int
    stages_ms: Mapping[str, Mapping[str, float]]
    """Stage -> percentile -> milliseconds; `total` is from end of speech to the sink."""
    late: int
    """Verdicts that a voter missed by coming too late."""
    shed: int
    """Segments that became gaps."""
    incomplete: int
    """Verdicts without a vote for another reason than lateness."""
    early: Early | None = None
    """None without provisional labels."""
    words: Words | None = None
    """None where nobody knows what is said."""
    cpu: float = 0.0
    """Processor seconds of all processes, a second of audio of all streams."""
    resident_mib: float = 0.0
    pss_mib: float = 0.0
    others: float = 0.0

    @property
    def lost(self) -> int:
        """Segments that became gaps, and utterances without final words."""
        return self.shed + (self.words.missing if self.words else 0)

    def keeps_up(self, bound_ms: float) -> bool:
        """Whether everything came in time."""
        return bool(
            self.segments
            and not self.lost
            and not self.late
            and self.stages_ms["total"]["p95"] <= bound_ms
        )


class Labels(Watcher):
    """Collects the latency of first verdicts, and compares provisional labels with final ones."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {}
        self.segments = self.late = self.shed = self.incomplete = 0
        self._first_ms: list[float] = []
        self._firsts = self._lasts = 0
        self._open: dict[tuple[str, int], tuple[str, str]] = {}
        """First and last label of the segments that are still spoken."""

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Take a label that may still change."""
        if isinstance(event, Activity) or not event.votes:
            return
        key = (event.stream, event.sequence)
        if key not in self._open:
            self._first_ms.append(1000 * (now_unix_s - event.start_unix_s))
        first, _ = self._open.get(key, (event.label, ""))
        self._open[key] = (first, event.label)

    def event(self, event: Event, now_unix_s: float) -> None:
        """Take a verdict or gap; of a verdict that is revised, the first."""
        if isinstance(event, Gap):
            self.shed += 1
        if not isinstance(event, Verdict) or event.revision:
            return
        self.segments += 1
        late = [missing.reason.startswith(LATE) for missing in event.missing]
        self.late += any(late)
        self.incomplete += bool(late) and not any(late)
        for stage, value in latency_ms(event, now_unix_s).items():
            self.stages.setdefault(stage, []).append(value)
        first, last = self._open.pop((event.stream, event.sequence), ("", ""))
        self._firsts += first == event.label
        self._lasts += last == event.label

    def early(self) -> Early | None:
        """Return what provisional labels were worth; None if there were none."""
        told = len(self._first_ms) - len(self._open)
        if not told:
            return None
        return Early(
            share=told / self.segments,
            first_ms=percentiles(self._first_ms),
            first_stays=self._firsts / told,
            last_stays=self._lasts / told,
        )


def measure(config: Config, streams: Streams) -> Kept:
    """Play streams at the pace of real time.

    Raises:
        AbhinayaError: the run could not go on.

    """
    labels, usage, words = Labels(), Usage(), WordTimes(streams.placed)
    play(config, streams.recordings, [labels, words, usage])
    return Kept(
        streams=len(streams.recordings),
        segments=labels.segments,
        stages_ms={stage: percentiles(values) for stage, values in labels.stages.items()},
        late=labels.late,
        shed=labels.shed,
        incomplete=labels.incomplete,
        early=labels.early(),
        words=words.result(streams.whole_errors) if streams.placed else None,
        cpu=usage.cpu_s / sum(map(duration_s, streams.recordings.values())),
        resident_mib=usage.resident_mib,
        pss_mib=usage.pss_mib,
        others=usage.others,
    )


def tables(runs: Sequence[Kept], bound_ms: float) -> list[Table]:
    """Lay runs out, fewest streams first."""
    ordered = sorted(runs, key=lambda run: run.streams)
    stages = [
        table(
            f"By stage, {run.streams} streams",
            ("stage", "p50 ms", "p95 ms", "p99 ms"),
            [(stage, *map(ms, values.values())) for stage, values in run.stages_ms.items()],
        )
        for run in ordered
    ]
    overview = table(
        "Paced streams: end of speech to verdict; CPU seconds a second of audio; memory in MiB",
        (
            "streams", "segments", "p50 ms", "p95 ms", "p99 ms", "late", "lost", "CPU", "resident",
            "PSS", "others", "keeps up",
        ),
        [
            (
                str(run.streams),
                str(run.segments),
                *(ms(value) for value in run.stages_ms.get("total", percentiles([])).values()),
                str(run.late),
                str(run.lost),
                f"{run.cpu:.2f}",
                f"{run.resident_mib:.0f}",
                f"{run.pss_mib:.0f}",
                f"{run.others:.0%}",
                "yes" if run.keeps_up(bound_ms) else "no",
            )
            for run in ordered
        ],
    )  # fmt: skip
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
    words = table(
        "Words of dense read speech: seconds, p50 / p95; errors a word, live and heard whole",
        ("streams", "utterances", "spoken", "final", "first", "errors", "whole"),
        [
            (
                str(run.streams),
                str(run.words.utterances),
                f"{run.words.spoken_s / max(1e-9, run.words.audio_s):.0%}",
                *(
                    f"{values['p50']:.2f} / {values['p95']:.2f}"
                    for values in (run.words.final_s, run.words.first_s)
                ),
                f"{run.words.errors / max(1, run.words.words):.1%}",
                f"{run.words.whole_errors / max(1, run.words.words):.1%}",
            )
            for run in ordered
            if run.words
        ],
    )
    return [made for made in (*stages, overview, early, words) if made.row_count]
