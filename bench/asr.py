"""`abhinaya bench asr`: word error rate and speed of a transcriber on clips with known words.

    abhinaya bench asr
    abhinaya bench asr --transcriber faster-whisper --option model=small --option device=cpu

Words are compared lower-case and without punctuation; numbers in figures stay as they are, so that
fleurs, which writes `25`, looks harder than it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from abhinaya.bench.report import Report, parser, publish, table
from abhinaya.stream.asr import Audio, Hearing, Transcriber, load_transcriber
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.errors import ConfigError, SourceError
from abhinaya.stream.sources import InputConfig, open_source

DATA: Final = Path("../shared/data/e2e")
NOT_WORDS: Final = re.compile(r"[^\w' ]+")


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and what is said in it."""

    corpus: str
    path: Path
    text: str


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


def words_of(text: str) -> list[str]:
    """Give the words of a text as they are compared."""
    plain = text.lower().replace("\u2019", "'")
    bare = (word.strip("'") for word in NOT_WORDS.sub(" ", plain).split())
    return [word for word in bare if word]


def distance(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Give the least number of words to substitute, delete and insert (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, expected in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(heard, start=1):
            changed = diagonal + (expected != word)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, changed)
    return row[-1]


def clips_in(data: Path) -> list[Clip]:
    """Give the clips of fleurs, ljspeech and librispeech_clean under `data`.

    Raises:
        SourceError: there are none.

    """
    clips = [*_fleurs(data / "fleurs"), *_ljspeech(data / "ljspeech")]
    clips += _librispeech(data / "librispeech_clean")
    if not clips:
        raise SourceError(
            str(data),
            "has no fleurs, ljspeech or librispeech_clean with their texts",
            "give the folder that holds them with --data",
        )
    return clips


def measure(transcriber: Transcriber, clips: Sequence[Clip], batch: int = 1) -> list[Score]:
    """Transcribe all clips, corpus by corpus, `batch` at a time."""
    first = _read(clips[0].path)
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
    asked.add_argument("--data", type=Path, default=DATA, help="default: %(default)s")
    asked.add_argument("--batch", type=int, default=1, help="clips in one call")
    asked.add_argument("--limit", type=int, help="clips of each corpus at most")
    options = asked.parse_args(argv)
    clips = _limited(clips_in(options.data), options.limit)
    settings = dict(_option(text) for text in options.option)
    transcriber = load_transcriber(options.transcriber, settings)
    scores = measure(transcriber, clips, max(1, options.batch))
    rows = [*scores, total(scores)]
    report = Report(
        command="asr",
        settings={
            "transcriber": options.transcriber,
            "model": transcriber.model,
            "version": transcriber.version,
            "options": settings,
            "batch": options.batch,
        },
        figures={score.corpus: score.figures() for score in rows},
    )
    title = f"{transcriber.model} {transcriber.version}"
    columns = ("corpus", "clips", "audio", "words", "WER", "real time", "of CPU", "slowest")
    publish(report, [table(title, columns, map(_row, rows))], options.json)
    return 0


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
        sounds = [_read(clip.path) for clip in some]
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


def _fleurs(folder: Path) -> Iterator[Clip]:
    for text in sorted(folder.glob("*.txt")):
        if (audio := text.with_suffix(".ogg")).is_file():
            yield Clip("fleurs", audio, text.read_text("utf-8"))


def _ljspeech(folder: Path) -> Iterator[Clip]:
    metadata = folder / "metadata.csv"
    for line in metadata.read_text("utf-8").splitlines() if metadata.is_file() else ():
        name, _, spoken = line.split("|", 2)  # the third column has its numbers written out
        if (audio := folder / f"{name}.opus").is_file():
            yield Clip("ljspeech", audio, spoken)


def _librispeech(folder: Path) -> Iterator[Clip]:
    for texts in sorted(folder.glob("*.trans.txt")):
        for line in texts.read_text("utf-8").splitlines():
            name, _, spoken = line.partition(" ")
            if (audio := folder / f"{name}.flac").is_file():
                yield Clip("librispeech_clean", audio, spoken)


def _limited(clips: Sequence[Clip], limit: int | None) -> list[Clip]:
    seen: dict[str, int] = {}
    kept = []
    for clip in clips:
        seen[clip.corpus] = seen.get(clip.corpus, 0) + 1
        if limit is None or seen[clip.corpus] <= limit:
            kept.append(clip)
    if not kept:
        raise ConfigError(f"--limit {limit}", "leaves no clips", "give 1 or more")
    return kept


def _option(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE; a value that is JSON (a number, true, false) is taken as such."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"--option {text}", "is not KEY=VALUE")
    try:
        return key, msgspec.json.decode(value.encode())
    except msgspec.DecodeError:
        return key, value


def _read(path: Path) -> Audio:
    source = open_source(InputConfig(str(path)))
    try:
        return np.concatenate([chunk.samples[:, 0] for chunk in source.chunks()])
    finally:
        source.close()
