"""Words and labels of live streams of dense read speech: how soon, how right, at what cost.

    abhinaya bench live-words --data ../shared/data
    abhinaya bench live-words --streams 1 4 --set asr.options.model=base

Each stream is read speech with known words that fills 80 % of the time, at the pace of real time.
*final* is from the end of an utterance to the message in which its last word is settled, *first*
from the start of an utterance to the first message with a word of it, *label* from the end of
speech to the verdict. CPU is that of all processes, a second of audio of all streams; PSS is the
memory of all processes, where what several share counts once. *whole* are the errors that the same
weights make on the same utterances, each heard whole and alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abhinaya.bench.clips import clips_in, distance, words_of
from abhinaya.bench.dense import Placed, Utterance, lay, utterances, write
from abhinaya.bench.load import cpu_seconds
from abhinaya.bench.machine import pss_mib
from abhinaya.bench.monitored import Others, add_profile, play, profile_of, running
from abhinaya.bench.recording import duration_s
from abhinaya.bench.report import Report, parser, publish, table
from abhinaya.bench.statistics import percentiles
from abhinaya.bench.words_live import WordTimes
from abhinaya.models.asr import Hearing, Transcriber
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.config import Config
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.messages import Event, StreamStarted
from abhinaya.stream.supervisor import Supervisor
from abhinaya.stream.work import transcriber_of

DATA: Final = Path("../shared/data")
LONGEST_S: Final = 9.5
"""Of an utterance: the monitor cuts at 10 s, and a cut is another measure."""


@dataclass(frozen=True, slots=True)
class Row:
    """How a number of streams fared."""

    streams: int
    utterances: int
    spoken: float
    """Share of the time."""
    final_s: dict[str, float]
    first_s: dict[str, float]
    label_s: dict[str, float]
    cpu: float
    """Processor seconds of all processes, a second of audio."""
    pss_mib: float
    """Peak of the sum over all processes."""
    words: int
    errors: int
    whole_errors: int
    """Of the same weights, each utterance heard whole."""
    missing: int
    gaps: int
    others: float
    """Share of the machine that processes not of the run used."""


class Cost:
    """Processor time and memory of everything that runs, from the first stream on."""

    def __init__(self) -> None:
        self._begun = False
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self.pss_mib = 0.0

    def event(self, event: Event, now_unix_s: float) -> None:
        """Begin with the first stream: loading does not count."""
        self._begun = self._begun or isinstance(event, StreamStarted)

    def look(self, processes: Supervisor, now: float) -> None:
        """Read the counters."""
        pids = [os.getpid(), *(pid for _, pid in running(processes))]
        if not self._begun:
            self._first = {pid: cpu_seconds(pid) for pid in pids}
            return
        for pid in pids:
            self._last[pid] = max(self._last.get(pid, 0.0), cpu_seconds(pid))
        self.pss_mib = max(self.pss_mib, sum(map(pss_mib, pids)))

    @property
    def cpu_s(self) -> float:
        """Processor seconds since the first stream began."""
        return sum(used - self._first.get(pid, 0.0) for pid, used in self._last.items())


@dataclass(frozen=True, slots=True)
class Prepared:
    """Streams on disk, and what is known of them."""

    recordings: dict[str, Path]
    placed: dict[str, list[Placed]]
    whole: dict[str, int]
    """Errors of the same weights on each utterance by itself, by its name."""


def prepare(config: Config, data: Path, streams: int, seconds: float, folder: Path) -> Prepared:
    """Write streams of about `seconds`, and hear their utterances whole.

    Raises:
        AbhinayaError: there are no utterances, or the transcriber cannot be loaded.

    """
    if config.asr is None:
        raise ConfigError(f"profile {config.profile!r}", "has no transcriber", "add [asr]")
    found = utterances(clips_in(data / "e2e"))
    choice = [one for one in found if len(one.samples) <= to_samples(LONGEST_S)]
    recordings, placed = {}, {}
    for number in range(streams):
        name = f"stream-{number}"
        samples, placed[name] = lay(choice, seconds, number)
        recordings[name] = folder / f"{number}.wav"
        write(samples, recordings[name])
    whole = errors_on_whole(transcriber_of(config.asr), choice)
    return Prepared(recordings, placed, whole)


def measure(config: Config, ready: Prepared, streams: int) -> Row:
    """Play the first `streams` streams.

    Raises:
        AbhinayaError: the run could not go on.

    """
    cost, others = Cost(), Others()
    recordings = dict(list(ready.recordings.items())[:streams])
    times = WordTimes({name: ready.placed[name] for name in recordings})
    play(config, recordings, [times, cost, others])
    words = times.result()
    everything = [one for name in recordings for one in ready.placed[name]]
    audio_s = sum(map(duration_s, recordings.values()))
    return Row(
        streams=streams,
        utterances=len(everything),
        spoken=sum(to_seconds(one.end - one.start) for one in everything) / audio_s,
        final_s=percentiles(words.final_s),
        first_s=percentiles(words.first_s),
        label_s=percentiles(times.label_s),
        cpu=cost.cpu_s / audio_s,
        pss_mib=cost.pss_mib,
        words=words.words,
        errors=words.errors,
        whole_errors=sum(ready.whole[one.name] for one in everything),
        missing=words.missing,
        gaps=times.gaps,
        others=others.share,
    )


def errors_on_whole(transcriber: Transcriber, choice: Sequence[Utterance]) -> dict[str, int]:
    """Count the word errors on each utterance, heard whole and alone, by its name."""
    found = {}
    for one in choice:
        (said,) = transcriber.transcribe([Hearing(one.samples)])
        found[one.name] = distance(words_of(one.text), words_of(said.text))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit with 1 if an utterance or a segment was lost."""
    options = _options(argv)
    config = profile_of(options)
    with tempfile.TemporaryDirectory(prefix="abhinaya-bench-") as folder:
        asked = (config, options.data, max(options.streams), options.seconds, Path(folder))
        # in a child: what it loads must not count as memory of the run
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            ready = pool.apply(prepare, asked)
        rows = [measure(config, ready, streams) for streams in options.streams]
    settings = {
        "profile": config.profile,
        "settings": options.settings,
        "seconds": options.seconds,
        "data": str(options.data),
    }
    made = table(
        f"Live words of dense read speech, profile {config.profile}; seconds, p50 / p95",
        (
            "streams", "final", "first", "label", "CPU s/s", "PSS MiB", "WER", "whole", "lost",
            "others",
        ),
        map(_cells, rows),
    )  # fmt: skip
    publish(Report("live-words", settings, {"runs": rows}), [made], options.json)
    return 1 if any(row.missing or row.gaps for row in rows) else 0


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row.streams),
        *(
            f"{values['p50']:.2f} / {values['p95']:.2f}"
            for values in (row.final_s, row.first_s, row.label_s)
        ),
        f"{row.cpu:.2f}",
        f"{row.pss_mib:.0f}",
        f"{row.errors / max(1, row.words):.1%}",
        f"{row.whole_errors / max(1, row.words):.1%}",
        str(row.missing + row.gaps),
        f"{row.others:.0%}",
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = parser("live-words", __doc__)
    arguments.add_argument(
        "--streams", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="(1 2 4 8)"
    )
    arguments.add_argument("--seconds", type=float, default=65.0, help="of each stream (65)")
    arguments.add_argument("--data", type=Path, default=DATA, help="(%(default)s)")
    add_profile(arguments)
    return arguments.parse_args(argv)
