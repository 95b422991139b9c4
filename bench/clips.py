"""Recordings with known words; comparison of words."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from abhinaya.models.asr import Audio
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources import InputConfig, open_source


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and its words."""

    corpus: str
    path: Path
    text: str


def clips_in(data: Path) -> list[Clip]:
    """Return the read clips (fleurs, ljspeech, librispeech_clean) under `data`.

    Raises SourceError: no clips were found.
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


def long_clips_in(data: Path) -> list[Clip]:
    """Return the recordings of osr_harvard (telephone band) and podcasts under `data`."""
    return [*_harvard(data / "osr_harvard"), *_podcasts(data / "podcasts")]


def read(path: Path) -> Audio:
    """Return a recording as 16 kHz mono."""
    source = open_source(InputConfig(str(path)))
    try:
        return np.concatenate([chunk.samples[:, 0] for chunk in source.chunks()])
    finally:
        source.close()


def words_of(text: str) -> list[str]:
    """Return the normalised words of an English text.

    Whisper's normaliser (Radford et al. 2022, appendix C) from transformers, without the table of
    British spellings: lower case, no punctuation, no fillers (`uh`), numbers in figures (`twenty
    five` -> `25`), contractions and titles written out (`it's` -> `it is`).
    """
    return _normaliser()(text.replace("\u2019", "'")).split()


def distance(reference: Sequence[str], found: Sequence[str]) -> int:
    """Return the minimum number of words to substitute, delete and insert (Levenshtein)."""
    row = list(range(len(found) + 1))
    for i, expected in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(found, start=1):
            changed = diagonal + (expected != word)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, changed)
    return row[-1]


@functools.cache
def _normaliser() -> Callable[[str], str]:
    from transformers.models.whisper import english_normalizer

    untyped: Any = english_normalizer
    return cast("Callable[[str], str]", untyped.EnglishTextNormalizer({}))


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


def _harvard(folder: Path) -> Iterator[Clip]:
    """Yield the recordings that `test_samples.json` lists with their ten sentences."""
    listed = folder / "test_samples.json"
    for sample in json.loads(listed.read_text("utf-8")) if listed.is_file() else ():
        if (audio := folder / Path(sample["filename"]).name).is_file():
            yield Clip("harvard, 8 kHz", audio, sample["transcription"])


def _podcasts(folder: Path) -> Iterator[Clip]:
    """Yield podcasts p01 to p06; their texts have lines `Speaker: words`."""
    for text in sorted(folder.glob("p0[1-6]_*.txt")):
        audio = text.with_suffix(".opus")
        if not audio.is_file() or text.stem.endswith("_fast"):
            continue
        _, _, body = text.read_text("utf-8").partition("[00:00]")
        turns = [line.partition(": ")[2] for line in body.splitlines() if ": " in line]
        yield Clip("podcasts", audio, " ".join(turns))
