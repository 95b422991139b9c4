"""`abhinaya bench asr`: word error rate and speed of a transcriber on clips with known words.

    abhinaya bench asr
    abhinaya bench asr --transcriber faster-whisper --option model=small --option device=cpu
    abhinaya bench asr --parts       # what it brings to follow segments while they go on
    abhinaya bench asr --noise       # what guards drop, of noise and of speech

Words are compared as Whisper's normaliser leaves them (`asr_clips.words_of`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from abhinaya.bench import asr_noise, asr_parts
from abhinaya.bench.asr_clips import Clip, clips_in, distance, limited, read, words_of
from abhinaya.bench.report import Report, parser, publish, table
from abhinaya.stream.asr import Hearing, Transcriber, load_transcriber
from abhinaya.stream.asr.guards import OFF
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

DATA: Final = Path("../shared/data")
CLIPS: Final = "e2e"
CLOCKS: Final = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True, slots=True)
class Score:
    """A corpus, measured."""

    corpus: str
    clips: int
    audio_s: float
    words: int
    errors: int
    """Words substituted, deleted and inserted."""
    wall_s: float
    cpu_s: float
    """Of this process, all threads: does not grow when others use the machine."""
    slowest_s: float
    """Longest time of one batch."""

    @property
    def word_error_rate(self) -> float:
        """Errors a reference word."""
        return self.errors / max(self.words, 1)

    def figures(self) -> dict[str, Any]:
        """Give what JSON says of it."""
        return {
            "clips": self.clips,
            "audio_s": round(self.audio_s, 1),
            "words": self.words,
            "errors": self.errors,
            "word_error_rate": round(self.word_error_rate, 4),
            "real_time_factor": round(self.wall_s / self.audio_s, 4),
            "cpu_real_time_factor": round(self.cpu_s / self.audio_s, 4),
            "slowest_s": round(self.slowest_s, 3),
        }


def measure(transcriber: Transcriber, clips: Sequence[Clip], batch: int = 1) -> list[Score]:
    """Transcribe all clips, corpus by corpus, `batch` at a time."""
    first = read(clips[0].path)
    transcriber.transcribe([Hearing(first)])  # what is paid once is no part of the figures
    return [
        _score(transcriber, [clip for clip in clips if clip.corpus == corpus], batch)
        for corpus in dict.fromkeys(clip.corpus for clip in clips)
    ]


def total(scores: Sequence[Score]) -> Score:
    """Add up scores."""
    return Score(
        corpus="all",
        clips=sum(s.clips for s in scores),
        audio_s=sum(s.audio_s for s in scores),
        words=sum(s.words for s in scores),
        errors=sum(s.errors for s in scores),
        wall_s=sum(s.wall_s for s in scores),
        cpu_s=sum(s.cpu_s for s in scores),
        slowest_s=max(s.slowest_s for s in scores),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one transcriber, print a table, write JSON if asked."""
    asked = parser("asr", __doc__)
    asked.add_argument("--transcriber", default="pocketsphinx", help="default: %(default)s")
    asked.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="of the transcriber"
    )
    what = asked.add_mutually_exclusive_group()
    what.add_argument(
        "--parts", action="store_true", help="as live streams, with and without partial transcripts"
    )
    what.add_argument(
        "--noise", action="store_true", help="text made up for noise, and speech that guards drop"
    )
    asked.add_argument("--data", type=Path, default=DATA, help="default: %(default)s")
    asked.add_argument("--batch", type=int, default=1, help="clips in one call")
    asked.add_argument(
        "--limit", type=int, help="clips of each corpus, or segments of each kind, at most"
    )
    asked.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="of delays: `cpu` for a transcriber of one thread on a busy machine",
    )
    options = asked.parse_args(argv)
    settings = dict(_option(text) for text in options.option)
    transcriber = load_transcriber(options.transcriber, settings)
    if options.parts:
        figures, made = _parts(transcriber, options)
    elif options.noise:
        figures, made = _noise(transcriber, settings, options)
    else:
        figures, made = _accuracy(transcriber, options)
    report = Report(
        command="asr",
        settings={
            "transcriber": options.transcriber,
            "model": transcriber.model,
            "version": transcriber.version,
            "options": settings,
            "batch": options.batch,
            "clock": options.clock,
        },
        figures=figures,
    )
    publish(report, [made], options.json)
    return 0


def _accuracy(
    transcriber: Transcriber, options: argparse.Namespace
) -> tuple[dict[str, Any], Table]:
    clips = limited(clips_in(options.data / CLIPS), options.limit)
    scores = measure(transcriber, clips, max(1, options.batch))
    rows = [*scores, total(scores)]
    columns = ("corpus", "clips", "audio", "words", "WER", "real time", "of CPU", "slowest")
    figures = {score.corpus: score.figures() for score in rows}
    return figures, table(_title(transcriber), columns, map(_row, rows))


def _parts(transcriber: Transcriber, options: argparse.Namespace) -> tuple[dict[str, Any], Table]:
    clips = limited(clips_in(options.data / CLIPS), options.limit)
    transcriber.transcribe([Hearing(read(clips[0].path))])
    figures = {
        name: asr_parts.measure(transcriber, clips, parts, CLOCKS[options.clock]).figures()
        for name, parts in (("without parts", False), ("with parts", True))
    }
    least = f"{asr_parts.LONG_S:.0f} s and more"
    columns = ("", "WER", "real time", least, "final pass", "p95", "from end of speech", "p95")
    rows = [
        (
            name,
            f"{run['word_error_rate']:.1%}",
            f"{run['real_time_factor']:.3f}",
            str(run["long_segments"]),
            *(
                f"{run[key]:.0f} ms"
                for key in ("final_p50_ms", "final_p95_ms", "delay_p50_ms", "delay_p95_ms")
            ),
        )
        for name, run in figures.items()
    ]
    with_parts = figures["with parts"]
    title = (
        f"{_title(transcriber)}; of {with_parts['settled_words']} words called stable the final "
        f"text withdrew {with_parts['withdrawn']:.1%}"
    )
    return figures, table(title, columns, rows)


def _noise(
    transcriber: Transcriber, settings: dict[str, Any], options: argparse.Namespace
) -> tuple[dict[str, Any], Table]:
    unguarded = load_transcriber(options.transcriber, settings | {"guards": dict(OFF)})
    limit = options.limit or sys.maxsize
    measured = asr_noise.measure(unguarded, transcriber, options.data, limit)
    figures = {each.collection.name: each.figures() for each in measured}
    columns = ("", "files", "segments", "with text", "believed", "dropped")
    rows = [
        (
            each.collection.name,
            str(each.files),
            str(each.segments),
            str(each.texts),
            str(each.kept),
            f"{1 - each.kept / max(1, each.texts):.0%}",
        )
        for each in measured
    ]
    return figures, table(f"{_title(transcriber)}: what guards drop", columns, rows)


def _title(transcriber: Transcriber) -> str:
    return f"{transcriber.model} {transcriber.version}"


def _row(score: Score) -> tuple[str, ...]:
    return (
        score.corpus,
        str(score.clips),
        f"{score.audio_s:.0f} s",
        str(score.words),
        f"{score.word_error_rate:.1%}",
        f"{score.wall_s / score.audio_s:.3f}",
        f"{score.cpu_s / score.audio_s:.3f}",
        f"{score.slowest_s:.2f} s",
    )


def _score(transcriber: Transcriber, clips: Sequence[Clip], batch: int) -> Score:
    audio_s = wall_s = cpu_s = slowest_s = 0.0
    words = errors = 0
    for start in range(0, len(clips), batch):
        some = clips[start : start + batch]
        sounds = [read(clip.path) for clip in some]
        wall, cpu = time.perf_counter(), time.process_time()
        results = transcriber.transcribe([Hearing(sound) for sound in sounds])
        took = time.perf_counter() - wall
        wall_s, cpu_s = wall_s + took, cpu_s + time.process_time() - cpu
        slowest_s = max(slowest_s, took)
        audio_s += sum(to_seconds(len(sound)) for sound in sounds)
        for clip, result in zip(some, results, strict=True):
            reference = words_of(clip.text)
            words += len(reference)
            errors += distance(reference, words_of(result.text))
    return Score(clips[0].corpus, len(clips), audio_s, words, errors, wall_s, cpu_s, slowest_s)


def _option(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE; a value that is JSON (a number, true, false) is taken as such."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"--option {text}", "is not KEY=VALUE")
    try:
        return key, msgspec.json.decode(value.encode())
    except msgspec.DecodeError:
        return key, value
