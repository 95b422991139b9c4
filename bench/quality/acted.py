"""Sessions of actors outside the training data: clips, pieces of clips, conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.clips import read
from abhinaya.bench.quality.sessions import (
    NEUTRAL,
    REMEDY,
    WARM_S,
    Segment,
    Session,
    Source,
    compose,
    loudest,
    truth_of,
)
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.errors import ConfigError
from abhinaya.train.data.clips import Clip, read_clips
from abhinaya.train.data.read_dialogue import read_goemotions
from abhinaya.train.errors import DataError

WARM_NEUTRAL: Final = 0.8
"""Neutral share of the warm-up."""
CLIPS: Final = 20
"""Maximum number of clips for each label and speaker."""
PIECES: Final = 8
"""Maximum number of clips to cut pieces from, for each label and speaker."""
PIECES_S: Final = (1.0, 1.5, 2.0)
CHANGES: Final = 8
"""Number of conversations of each actor."""
LEARNT: Final = 2
"""Number of speakers from the training data, measured for comparison."""
OFFICE: Final = "office-ambience-24000-mono.opus"


def clips(source: Source, corpus: str, split: str = "dev") -> Iterator[Session]:
    """Yield each clip once, after a warm-up of 20 s of the speaker's other, mostly neutral clips.

    The split `train` gives LEARNT speakers.

    Raises ConfigError: the corpus is missing.
    """
    try:
        found = [clip for clip in read_clips(source.data, [corpus]) if clip.split == split]
    except DataError as error:
        raise ConfigError(str(source.data), str(error), REMEDY) from error
    speakers = sorted({clip.speaker for clip in found})
    for speaker in speakers if split == "dev" else speakers[:LEARNT]:
        own = [clip for clip in found if clip.speaker == speaker]
        halves = _halves(source, own, source.most(CLIPS))
        for half, other in (halves, halves[::-1]):
            warm = _warm(other, source.rng(speaker, "warm"))
            yield Session(speaker, tuple(half), warm=warm, apart=True)


def constructed(source: Source, matching: bool) -> Iterator[Session]:
    """Yield acted clips with words of comments, of the same label or (not `matching`) neutral."""
    rng, texts = source.rng("words"), comments(source)
    for session in clips(source, "ravdess"):
        worded = []
        for segment in session.segments:
            choices = texts[segment.truth if matching else NEUTRAL]
            worded.append(replace(segment, words=choices[int(rng.integers(len(choices)))]))
        yield replace(session, segments=tuple(worded))


def pieces(source: Source) -> Iterator[Session]:
    """Yield the loudest 1, 1.5 and 2 s of emotional clips, each after the warm-up."""
    for corpus in ("ravdess", "nemo"):
        for session in clips(source, corpus):
            emotional: list[Segment] = []
            for segment in session.segments:
                count = sum(one.truth == segment.truth for one in emotional)
                if segment.truth != NEUTRAL and count < source.most(PIECES) / 2:
                    emotional.append(segment)
            cut = [
                replace(segment, samples=piece, tag=f"{seconds:g} s")
                for seconds in PIECES_S
                for segment in emotional
                if (piece := loudest(segment.samples, to_samples(seconds))) is not None
            ]
            yield replace(session, segments=tuple(cut))


def changes(source: Source) -> Iterator[Session]:
    """Yield conversations of one actor over office noise, first neutral, then emotional."""
    noise = read(source.file("noise", OFFICE))
    voices: dict[str, list[Segment]] = {}
    for session in clips(source, "ravdess"):
        voices.setdefault(session.speaker, []).extend(session.segments)
    for speaker, own in voices.items():
        rng = source.rng(speaker, "changes")
        moods = sorted({clip.truth for clip in own} - {NEUTRAL})
        for number in range(source.most(CHANGES)):
            mood = moods[number % len(moods)]
            turns = [*_some(own, NEUTRAL, 4, rng), *_some(own, mood, 3, rng)]
            samples, placed = compose([(t.samples, t.truth) for t in turns], noise, rng)
            segments = (
                replace(segment, truth=truth_of(segment.start, segment.end, placed))
                for segment in source.cut(samples)
            )
            yield Session(
                speaker,
                tuple(segment for segment in segments if segment.truth),
                change=next(turn.start for turn in placed if turn.name == mood),
            )


def comments(source: Source) -> dict[str, list[str]]:
    """Return short comments with one label each, by our labels.

    Raises ConfigError: the comments are missing.
    """
    found: dict[str, list[str]] = {}
    for clip in read_goemotions(source.file("text", "goemotions", "original_dev.tsv").parent):
        text = clip.transcript
        if clip.split == "dev" and len(clip.votes) == 1 and 4 <= len(text.split()) <= 20:
            found.setdefault(str(clip.label), []).append(text)
    return found


def _halves(source: Source, own: Sequence[Clip], most: int) -> tuple[list[Segment], list[Segment]]:
    """Return random clips of a speaker in two halves with the same labels."""
    rng = source.rng(own[0].speaker)
    halves: tuple[list[Segment], list[Segment]] = ([], [])
    turn = 0
    for label in sorted({str(clip.label) for clip in own}):
        of_one = [clip for clip in own if clip.label == label]
        for i in rng.permutation(len(of_one))[:most]:
            samples = source.cutter.spoken(read(Path(of_one[i].path)))
            halves[turn % 2].append(Segment(samples, label))
            turn += 1
    return halves


def _warm(own: Sequence[Segment], rng: np.random.Generator) -> tuple[Segment, ...]:
    """Return the warm-up: 20 s of random, mostly neutral clips."""
    neutral = [clip for clip in own if clip.truth == NEUTRAL]
    emotional = [clip for clip in own if clip.truth != NEUTRAL]
    chosen = [
        *_filled(neutral, WARM_S * WARM_NEUTRAL, rng),
        *_filled(emotional, WARM_S * (1 - WARM_NEUTRAL), rng),
    ]
    return tuple(chosen[i] for i in rng.permutation(len(chosen)))


def _filled(own: Sequence[Segment], seconds: float, rng: np.random.Generator) -> Iterator[Segment]:
    """Yield random clips of about `seconds` together."""
    taken_s = 0.0
    for i in rng.permutation(len(own)):
        length_s = to_seconds(len(own[i].samples))
        if taken_s + length_s / 2 > seconds:
            return
        taken_s += length_s
        yield own[i]


def _some(
    own: Sequence[Segment], label: str, count: int, rng: np.random.Generator
) -> list[Segment]:
    mine = [clip for clip in own if clip.truth == label]
    return [mine[i] for i in rng.permutation(len(mine))[:count]]
