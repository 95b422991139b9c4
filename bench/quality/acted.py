"""Sessions of actors of whom nothing was learnt: clips, pieces of clips, conversations."""

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
from abhinaya.train.data.texts import EKMAN
from abhinaya.train.errors import DataError

WARM_NEUTRAL: Final = 0.8
"""Share of what is heard before that is neutral."""
CLIPS: Final = 20
"""Of each label of each speaker, at most."""
PIECES: Final = 8
"""Clips of each label of each speaker that pieces are cut from."""
PIECES_S: Final = (1.0, 1.5, 2.0)
CHANGES: Final = 8
"""Conversations of each actor."""
LEARNT: Final = 2
"""Speakers that were learnt from, heard for comparison."""
OFFICE: Final = "office-ambience-24000-mono.opus"


def clips(source: Source, corpus: str, split: str = "dev") -> Iterator[Session]:
    """Yield each clip once, right after 20 s of the same speaker's other, mostly neutral clips.

    Of the split `train` there are as many speakers as LEARNT says.

    Raises:
        ConfigError: the corpus is not there.

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
    """Yield acted sound with the words of comments, which say the same or nothing in particular."""
    rng, texts = source.rng("words"), comments(source)
    for session in clips(source, "ravdess"):
        worded = []
        for segment in session.segments:
            said = texts[segment.truth if matching else NEUTRAL]
            worded.append(replace(segment, words=said[int(rng.integers(len(said)))]))
        yield replace(session, segments=tuple(worded))


def pieces(source: Source) -> Iterator[Session]:
    """Yield the loudest second or two of emotional clips, each after neutral speech."""
    for corpus in ("ravdess", "nemo"):
        for session in clips(source, corpus):
            moved: list[Segment] = []
            for segment in session.segments:
                count = sum(one.truth == segment.truth for one in moved)
                if segment.truth != NEUTRAL and count < source.most(PIECES) / 2:
                    moved.append(segment)
            cut = [
                replace(segment, samples=piece, tag=f"{seconds:g} s")
                for seconds in PIECES_S
                for segment in moved
                if (piece := loudest(segment.samples, to_samples(seconds))) is not None
            ]
            yield replace(session, segments=tuple(cut))


def changes(source: Source) -> Iterator[Session]:
    """Yield conversations of one actor over an office, neutral at first and then moved."""
    noise = read(source.file("noise", OFFICE))
    voices: dict[str, list[Segment]] = {}
    for session in clips(source, "ravdess"):
        voices.setdefault(session.speaker, []).extend(session.segments)
    for speaker, said in voices.items():
        rng = source.rng(speaker, "changes")
        moods = sorted({clip.truth for clip in said} - {NEUTRAL})
        for number in range(source.most(CHANGES)):
            mood = moods[number % len(moods)]
            turns = [*_some(said, NEUTRAL, 4, rng), *_some(said, mood, 3, rng)]
            samples, placed = compose([(t.samples, t.truth) for t in turns], noise, rng)
            segments = (
                replace(segment, truth=truth_of(segment.start, segment.end, placed))
                for segment in source.cut(samples)
            )
            yield Session(
                speaker,
                tuple(segment for segment in segments if segment.truth),
                change=next(turn.start for turn in placed if turn.label == mood),
            )


def comments(source: Source) -> dict[str, list[str]]:
    """Read short comments with one label each, by ours.

    Raises:
        ConfigError: they are not there.

    """
    folder = ("text", "goemotions")
    names = source.file(*folder, "ekman_labels.txt").read_text("utf-8").split()
    found: dict[str, list[str]] = {}
    for line in source.file(*folder, "ekman_dev.tsv").read_text("utf-8").splitlines():
        text, labels, _ = line.split("\t")
        if "," not in labels and 4 <= len(text.split()) <= 20:
            found.setdefault(EKMAN[names[int(labels)]], []).append(text)
    return found


def _halves(source: Source, own: Sequence[Clip], most: int) -> tuple[list[Segment], list[Segment]]:
    """Draw a speaker's clips, and deal them out so that both halves have every label."""
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
    """Draw 20 s of mostly neutral speech."""
    neutral = [clip for clip in own if clip.truth == NEUTRAL]
    moved = [clip for clip in own if clip.truth != NEUTRAL]
    chosen = [
        *_filled(neutral, WARM_S * WARM_NEUTRAL, rng),
        *_filled(moved, WARM_S * (1 - WARM_NEUTRAL), rng),
    ]
    return tuple(chosen[i] for i in rng.permutation(len(chosen)))


def _filled(own: Sequence[Segment], seconds: float, rng: np.random.Generator) -> Iterator[Segment]:
    """Draw clips until they are about as long as asked."""
    heard_s = 0.0
    for i in rng.permutation(len(own)):
        length_s = to_seconds(len(own[i].samples))
        if heard_s + length_s / 2 > seconds:
            return
        heard_s += length_s
        yield own[i]


def _some(
    own: Sequence[Segment], label: str, count: int, rng: np.random.Generator
) -> list[Segment]:
    mine = [clip for clip in own if clip.truth == label]
    return [mine[i] for i in rng.permutation(len(mine))[:count]]
