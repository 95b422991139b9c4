"""Sessions of speech that counts as neutral: readers, podcasts, calls, meetings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.clips import Clip, read
from abhinaya.bench.quality.sessions import NEUTRAL, REMEDY, WARM_S, Segment, Session, Source
from abhinaya.bench.vad import read_rttm
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.errors import ConfigError
from abhinaya.train.data.clips import read_readers
from abhinaya.train.errors import DataError

VOICE: Final = 7
"""Column of RTTM that names the speaker."""
READERS: Final = 100
PIECES: Final = 4
"""Number of pieces for each length and voice."""
PIECES_S: Final = (0.7, 1.0, 1.5, 2.5, 4.0)
EPISODES: Final = ("p01_e04", "p02_e05", "p03_e04", "p04_e03", "p05_e05", "p06_e03")
"""One episode of each podcast. Some voices, as those of p03_e04, have strong accents, and their
words are hard to recognise."""


def readers(source: Source) -> Iterator[Session]:
    """Yield the second half of each reader's only clip, with the first half as warm-up.

    Raises ConfigError: the readers are missing.
    """
    try:
        found = read_readers(source.data, "dev")
    except DataError as error:
        raise ConfigError(str(source.data), str(error), REMEDY) from error
    for i in source.rng("readers").permutation(len(found))[: source.most(READERS)]:
        first, second = np.array_split(source.cutter.spoken(read(Path(found[i].path))), 2)
        yield Session(
            found[i].speaker,
            (Segment(second, NEUTRAL),),
            warm=(Segment(first, NEUTRAL),),
            apart=True,
        )


def podcasts(source: Source) -> Iterator[Session]:
    """Yield whole episodes with two to four voices on one track."""
    for clip in _episodes(source):
        yield Session(clip.path.stem, source.cut(read(clip.path), NEUTRAL))


def recordings(source: Source, folder: str) -> Iterator[Session]:
    """Yield real recordings without emotion labels, taken as neutral."""
    found = source.recordings(folder)
    for path in found[: source.most(len(found))]:
        yield Session(path.stem, source.cut(read(path), NEUTRAL))


def pieces(source: Source) -> Iterator[Session]:
    """Yield pieces of each voice in the podcasts, each after a warm-up of 20 s of the voice."""
    for clip in _episodes(source):
        name, samples = clip.path.stem, read(clip.path)
        turns = read_rttm([source.file("e2e", "podcasts", f"{name}.rttm")], key=VOICE)
        for voice, spans in turns.items():
            speech = np.concatenate([samples[to_samples(a) : to_samples(b)] for a, b in spans])
            segments = source.cut(speech, NEUTRAL)
            count, warm_s = 0, 0.0
            while count < len(segments) and warm_s < WARM_S:
                warm_s += to_seconds(len(segments[count].samples))
                count += 1
            cut = _pieces(segments[count:], source.most(PIECES), source.rng(name, voice))
            yield Session(f"{name} {voice}", tuple(cut), warm=segments[:count], apart=True)


def _episodes(source: Source) -> list[Clip]:
    """Return the recordings of EPISODES."""
    wanted = EPISODES[: source.most(len(EPISODES))]
    return [clip for clip in source.spoken("podcasts") if clip.path.stem in wanted]


def _pieces(segments: Sequence[Segment], count: int, rng: np.random.Generator) -> Iterator[Segment]:
    """Yield `count` random pieces of each length, from segments that are long enough."""
    for seconds in PIECES_S:
        length = to_samples(seconds)
        long = [segment.samples for segment in segments if len(segment.samples) >= length]
        for i in rng.permutation(len(long))[:count]:
            start = int(rng.integers(len(long[i]) - length + 1))
            yield Segment(long[i][start : start + length], NEUTRAL, tag=f"{seconds:g} s")
