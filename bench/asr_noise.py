"""How often text is made up for what is no speech, and how often the guards drop real speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.bench.asr_clips import cut, read
from abhinaya.models.asr import Audio, Hearing, Transcriber
from abhinaya.stream.clock import to_samples
from abhinaya.stream.config import VadConfig
from abhinaya.stream.errors import SourceError

SOUNDS: Final = ("*.opus", "*.ogg", "*.flac", "*.wav")


@dataclass(frozen=True, slots=True)
class Collection:
    """Recordings of one kind under shared/data."""

    name: str
    folders: tuple[str, ...]
    speech: bool
    """Whether there are words in it."""
    whole: bool = False
    """Whether it goes to the transcriber as it is: worse than what a run lets through."""


COLLECTIONS: Final = (
    Collection("noise, whole clips", ("noise",), speech=False, whole=True),
    Collection("noise", ("noise",), speech=False),
    Collection("cries and laughter", ("emogator",), speech=False),
    Collection("read speech", ("e2e/fleurs", "e2e/ljspeech", "e2e/librispeech_clean"), speech=True),
    Collection("many readers", ("neutral_voices",), speech=True),
    Collection("acted, short", ("ravdess",), speech=True),
    Collection("calls at 8 kHz", ("e2e/calls",), speech=True),
    Collection("meetings, distant", ("e2e/ami",), speech=True),
)


@dataclass(frozen=True, slots=True)
class Believed:
    """What became of one collection."""

    collection: Collection
    files: int
    segments: int
    texts: int
    """Segments with a text without guards."""
    kept: int
    """Those that have one with them."""
    words: int
    """In all those texts."""
    words_kept: int

    def figures(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        return {
            "speech": self.collection.speech,
            "files": self.files,
            "segments": self.segments,
            "texts_without_guards": self.texts,
            "texts_with_guards": self.kept,
            "words_without_guards": self.words,
            "words_with_guards": self.words_kept,
        }


def measure(
    unguarded: Transcriber, guarded: Transcriber, data: Path, limit: int, seed: int = 0
) -> list[Believed]:
    """Transcribe the collections that are there with both, files until there are `limit` segments.

    Raises:
        SourceError: none is there.

    """
    found = [(each, _files(data, each, seed)) for each in COLLECTIONS]
    measured = [_one(unguarded, guarded, each, files, limit) for each, files in found if files]
    if not measured:
        raise SourceError(str(data), "has none of the collections", "give shared/data with --data")
    return measured


def _one(
    unguarded: Transcriber,
    guarded: Transcriber,
    collection: Collection,
    files: Sequence[Path],
    limit: int,
) -> Believed:
    used = segments = texts = kept = words = words_kept = 0
    for path in files:
        if segments >= limit:
            break
        used += 1
        for samples in _segments(read(path), collection.whole):
            segments += 1
            if text := unguarded.transcribe([Hearing(samples)])[0].text:
                texts += 1
                words += (said := len(text.split()))
                if guarded.transcribe([Hearing(samples)])[0].text:
                    kept += 1
                    words_kept += said
    return Believed(collection, used, segments, texts, kept, words, words_kept)


def _segments(audio: Audio, whole: bool) -> list[Audio]:
    """Return what a run would send to the transcriber."""
    return [audio[: to_samples(VadConfig().max_segment_s)]] if whole else list(cut(audio))


def _files(data: Path, collection: Collection, seed: int) -> list[Path]:
    """Return the files in an order without order, the same each time."""
    folders = [data / folder for folder in collection.folders]
    found = sorted(path for f in folders for kind in SOUNDS for path in f.rglob(kind))
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))]
