"""`abhinaya bench asr`: word errors and cost of the transcriber on speech with known words.

    abhinaya bench asr                          # read clips, a telephone line, podcasts
    abhinaya bench asr --option model=base      # and so for every option of a profile
    abhinaya bench asr --noise                  # text made up for noise, and speech that is dropped

Read clips are heard as they are; the rest is cut as the monitor cuts it. Words are compared as
Whisper's normaliser leaves them (`asr_clips.words_of`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from abhinaya.bench import asr_noise
from abhinaya.bench.asr_clips import (
    Clip,
    clips_in,
    cut,
    distance,
    limited,
    long_clips_in,
    read,
    words_of,
)
from abhinaya.bench.report import Report, parser, publish, table
from abhinaya.models.asr import Hearing, Transcriber
from abhinaya.models.asr.base import Audio
from abhinaya.models.asr.guards import OFF
from abhinaya.stream.clock import SAMPLE_RATE, to_seconds
from abhinaya.stream.config import WorkerConfig
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.work import transcriber_of

if TYPE_CHECKING:
    from rich.table import Table

DATA: Final = Path("../shared/data")
CLIPS: Final = "e2e"
READ: Final = "dev41"
"""All read clips together, in the report."""
LONGEST: Final = 10 * SAMPLE_RATE
MODEL: Final = "faster-whisper"


@dataclass(frozen=True, slots=True)
class Score:
    """A corpus, measured."""

    corpus: str
    clips: int
    audio_s: float
    words: int
    errors: int
    """Words substituted, deleted and inserted."""
    cpu_s: float
    """Of this process, all threads: does not grow when others use the machine."""
    slowest_s: float
    """Most CPU of one call."""

    @property
    def word_error_rate(self) -> float:
        """Errors a reference word."""
        return self.errors / max(self.words, 1)

    def figures(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        return {
            "clips": self.clips,
            "audio_s": round(self.audio_s, 1),
            "words": self.words,
            "errors": self.errors,
            "word_error_rate": round(self.word_error_rate, 4),
            "cpu_real_time_factor": round(self.cpu_s / self.audio_s, 4),
            "slowest_s": round(self.slowest_s, 3),
        }


def measure(transcriber: Transcriber, clips: Sequence[Clip], batch: int = 1) -> list[Score]:
    """Transcribe all clips, corpus by corpus, up to `batch` segments at a time."""
    transcriber.transcribe([Hearing(read(clips[0].path)[:LONGEST])])  # what is paid once
    return [
        _score(transcriber, [clip for clip in clips if clip.corpus == corpus], batch)
        for corpus in dict.fromkeys(clip.corpus for clip in clips)
    ]


def total(name: str, scores: Sequence[Score]) -> Score:
    """Add up scores."""
    return Score(
        corpus=name,
        clips=sum(s.clips for s in scores),
        audio_s=sum(s.audio_s for s in scores),
        words=sum(s.words for s in scores),
        errors=sum(s.errors for s in scores),
        cpu_s=sum(s.cpu_s for s in scores),
        slowest_s=max(s.slowest_s for s in scores),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the transcriber, print a table, write JSON if asked."""
    asked = parser("asr", __doc__)
    asked.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="of the transcriber"
    )
    asked.add_argument(
        "--noise", action="store_true", help="text made up for noise, and speech that guards drop"
    )
    asked.add_argument("--data", type=Path, default=DATA, help="default: %(default)s")
    asked.add_argument("--batch", type=int, default=1, help="segments in one call")
    asked.add_argument("--limit", type=int, help="recordings of each kind, at most")
    options = asked.parse_args(argv)
    settings = {"threads": 1} | dict(_option(text) for text in options.option)
    transcriber = _load(settings)
    run = _noise if options.noise else _words
    figures, made = run(transcriber, settings, options)
    report = Report(
        command="asr",
        settings={
            "model": transcriber.model,
            "version": transcriber.version,
            "options": settings,
            "batch": options.batch,
        },
        figures=figures,
    )
    publish(report, [made], options.json)
    return 0


def _load(settings: dict[str, Any]) -> Transcriber:
    return transcriber_of(WorkerConfig(model=MODEL, options=settings))


def _words(
    transcriber: Transcriber, settings: dict[str, Any], options: argparse.Namespace
) -> tuple[dict[str, Any], Table]:
    batch, data = max(1, options.batch), options.data / CLIPS
    clips = limited(clips_in(data), options.limit)
    scores = measure(transcriber, clips, batch)
    rows = [*scores, total(READ, scores)]
    if long := long_clips_in(data):
        rows += measure(transcriber, limited(long, options.limit), batch)
    columns = ("corpus", "clips", "audio", "words", "word errors", "CPU of real time", "slowest")
    figures = {score.corpus: score.figures() for score in rows}
    return figures, table(_title(transcriber), columns, map(_row, rows))


def _noise(
    transcriber: Transcriber, settings: dict[str, Any], options: argparse.Namespace
) -> tuple[dict[str, Any], Table]:
    unguarded = _load(settings | {"guards": dict(OFF)})
    limit = options.limit or sys.maxsize
    measured = asr_noise.measure(unguarded, transcriber, options.data, limit)
    figures = {each.collection.name: each.figures() for each in measured}
    columns = ("", "files", "segments", "with text", "believed", "dropped", "of words")
    rows = [
        (
            each.collection.name,
            str(each.files),
            str(each.segments),
            str(each.texts),
            str(each.kept),
            f"{1 - each.kept / max(1, each.texts):.1%}",
            f"{1 - each.words_kept / max(1, each.words):.1%}",
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
        f"{score.cpu_s / score.audio_s:.3f}",
        f"{score.slowest_s:.2f} s",
    )


def _score(transcriber: Transcriber, clips: Sequence[Clip], batch: int) -> Score:
    audio_s = cpu_s = slowest_s = 0.0
    words = errors = 0
    for clip in clips:
        audio = read(clip.path)
        audio_s += to_seconds(len(audio))
        said = []
        for segments in _batches(list(cut(audio)) if clip.long else [audio], batch):
            begun = time.process_time()
            said += transcriber.transcribe([Hearing(segment) for segment in segments])
            took = time.process_time() - begun
            cpu_s, slowest_s = cpu_s + took, max(slowest_s, took)
        reference = words_of(clip.text)
        words += len(reference)
        errors += distance(reference, words_of(" ".join(each.text for each in said)))
    return Score(clips[0].corpus, len(clips), audio_s, words, errors, cpu_s, slowest_s)


def _batches(segments: Sequence[Audio], size: int) -> Iterator[Sequence[Audio]]:
    for start in range(0, len(segments), size):
        yield segments[start : start + size]


def _option(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE; a value that is JSON (a number, true, false) is taken as such."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"--option {text}", "is not KEY=VALUE")
    try:
        return key, msgspec.json.decode(value.encode())
    except msgspec.DecodeError:
        return key, value
