"""The materials: named lists of sessions made from a folder like shared/data.

Speakers, readers and texts are of the development side throughout: no voter may be
trained on them. `RAVDESS, learnt from` is the one exception: where the figures of the others are as
high as its own, they were trained on as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from abhinaya.bench.asr_clips import clips_in, read
from abhinaya.bench.quality import acted, calm
from abhinaya.bench.quality.sessions import Segment, Session
from abhinaya.bench.quality.source import Source
from abhinaya.stream.clock import to_samples

LONGEST_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Material:
    """A list of sessions."""

    name: str
    sessions: Callable[[Source], Iterator[Session]]
    votes: bool = True
    """Whether voters are asked: where only words are measured they are not."""


def read_speech(source: Source) -> Iterator[Session]:
    """Yield clips as they are: the 41 of `abhinaya bench asr`."""
    for clip in clips_in(source.data / "e2e")[: source.size.read]:
        yield Session(clip.corpus, (Segment(read(clip.path)),), reference=clip.text)


def harvard(source: Source) -> Iterator[Session]:
    """Yield telephone speech with its text."""
    for clip in source.spoken("harvard"):
        yield Session(clip.corpus, source.cut(read(clip.path)), reference=clip.text)


def wordless(source: Source, folder: str) -> Iterator[Session]:
    """Yield recordings without words, whole: worse than what a run lets through."""
    found = source.recordings(folder, deep=True)
    for i in source.rng(folder).permutation(len(found))[: source.size.noises]:
        samples = read(found[i])[: to_samples(LONGEST_S)]
        yield Session(found[i].stem, (Segment(samples),))


def alone(sessions: Iterator[Session]) -> Iterator[Session]:
    """Take away what was heard before."""
    for session in sessions:
        yield replace(session, warm=(), apart=True)


MATERIALS: Final = (
    Material("read speech", read_speech, votes=False),
    Material("8 kHz Harvard", harvard, votes=False),
    Material("noise", lambda source: wordless(source, "noise"), votes=False),
    Material("bursts", lambda source: wordless(source, "emogator"), votes=False),
    Material("RAVDESS", lambda source: acted.clips(source, "ravdess")),
    Material("RAVDESS, clip alone", lambda source: alone(acted.clips(source, "ravdess"))),
    Material("RAVDESS, learnt from", lambda source: acted.clips(source, "ravdess", "train")),
    Material("nEMO", lambda source: acted.clips(source, "nemo")),
    Material("nEMO, clip alone", lambda source: alone(acted.clips(source, "nemo"))),
    Material("RAVDESS, matching words", lambda source: acted.constructed(source, True)),
    Material("RAVDESS, neutral words", lambda source: acted.constructed(source, False)),
    Material("neutral voices", calm.readers),
    Material("neutral voices, clip alone", lambda source: alone(calm.readers(source))),
    Material("podcasts", calm.podcasts),
    Material("calls", lambda source: calm.recordings(source, "e2e", "calls")),
    Material("AMI", lambda source: calm.recordings(source, "e2e", "ami")),
    Material("speeches", lambda source: calm.recordings(source, "e2e")),
    Material("neutral pieces", calm.pieces),
    Material("emotional pieces", acted.pieces),
    Material("changes", acted.changes),
)
