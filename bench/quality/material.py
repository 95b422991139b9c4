"""The materials: named lists of sessions made from a folder like shared/data.

All speakers, readers and texts are from the split `dev`, which no voter may be trained on, except
`RAVDESS, learnt from`. That one shows the figures of speakers who were trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

import numpy as np

from abhinaya.bench.asr import LONGEST_S as LONGEST_WHOLE_S
from abhinaya.bench.asr import make_stream, utterances
from abhinaya.bench.clips import Clip, clips_in, read
from abhinaya.bench.quality import acted, calm
from abhinaya.bench.quality.sessions import Segment, Session, Source
from abhinaya.stream.clock import to_samples

LONGEST_S: Final = 10.0
DENSE: Final = 3
DENSE_S: Final = 330.0
GUARD_SEGMENTS: Final = 40
"""Minimum number of segments for each test of the guards. The last recording is used whole."""


@dataclass(frozen=True, slots=True)
class Material:
    """A list of sessions."""

    name: str
    sessions: Callable[[Source], Iterator[Session]]
    kind: Literal["votes", "words", "noise"] = "votes"
    """What runs: transcriber and voters; transcriber; transcriber with and without guards."""


def read_speech(source: Source) -> Iterator[Session]:
    """Yield the 41 clips of read speech, uncut."""
    clips = clips_in(source.data / "e2e")
    for clip in clips[:: 10 if source.quick else 1]:
        yield Session(clip.corpus, (Segment(read(clip.path)),), reference=clip.text)


def dense_speech(whole: bool, source: Source) -> Iterator[Session]:
    """Yield streams of read utterances, one segment for each utterance, or cut by the segmenter.

    The difference is the word errors caused by cutting. `abhinaya bench asr` runs such streams too.
    """
    found = utterances(clips_in(source.data / "e2e"))
    choice = [one for one in found if len(one.samples) <= to_samples(LONGEST_WHOLE_S)]
    by_name = {one.name: Segment(one.samples) for one in choice}
    for number in range(source.most(DENSE)):
        samples, placed = make_stream(choice, DENSE_S, number)
        segments = tuple(by_name[one.name] for one in placed) if whole else source.cut(samples)
        yield Session(f"dense {number}", segments, reference=" ".join(one.text for one in placed))


def long_speech(corpus: str, source: Source) -> Iterator[Session]:
    """Yield all recordings of a corpus, cut, with their text."""
    clips: Sequence[Clip] = source.spoken(corpus)
    for clip in clips[: source.most(len(clips))]:
        yield Session(clip.corpus, source.cut(read(clip.path)), reference=clip.text)


def random_recordings(whole: bool, folders: Sequence[str], source: Source) -> Iterator[Session]:
    """Yield recordings in random order, cut; or, if `whole`, the uncut first 10 s of each.

    Only every second recording: the thresholds of the guards were chosen on the others.
    """
    found, count = source.recordings(*folders, deep=True)[1::2], 0
    for i in np.random.default_rng(0).permutation(len(found)):
        if count >= source.most(GUARD_SEGMENTS):
            return
        samples = read(found[i])
        segments = (Segment(samples[: to_samples(LONGEST_S)]),) if whole else source.cut(samples)
        count += len(segments)
        yield Session(found[i].stem, segments, apart=True)


def without_warm_up(
    sessions: Callable[[Source], Iterator[Session]], source: Source
) -> Iterator[Session]:
    """Yield the sessions without their warm-up."""
    for session in sessions(source):
        yield replace(session, warm=(), apart=True)


def _noise(name: str, *folders: str, whole: bool = False) -> Material:
    return Material(name, partial(random_recordings, whole, folders), kind="noise")


ravdess = partial(acted.clips, corpus="ravdess")
nemo = partial(acted.clips, corpus="nemo")

MATERIALS: Final = (
    Material("read speech", read_speech, kind="words"),
    Material("8 kHz Harvard", partial(long_speech, "harvard"), kind="words"),
    Material("dense speech, cut", partial(dense_speech, False), kind="words"),
    Material("dense speech, whole", partial(dense_speech, True), kind="words"),
    Material("all podcasts", partial(long_speech, "podcasts"), kind="words"),
    _noise("noise, whole clips", "noise", whole=True),
    _noise("noise", "noise"),
    _noise("bursts, whole clips", "emogator", whole=True),
    _noise("bursts", "emogator"),
    _noise("guards, read speech", "e2e/fleurs", "e2e/ljspeech", "e2e/librispeech_clean"),
    _noise("guards, many readers", "neutral_voices"),
    _noise("guards, acted", "ravdess"),
    _noise("guards, calls", "e2e/calls"),
    _noise("guards, meetings", "e2e/ami"),
    Material("RAVDESS", ravdess),
    Material("RAVDESS, clip alone", partial(without_warm_up, ravdess)),
    Material("RAVDESS, learnt from", partial(ravdess, split="train")),
    Material("nEMO", nemo),
    Material("nEMO, clip alone", partial(without_warm_up, nemo)),
    Material("RAVDESS, matching words", partial(acted.constructed, matching=True)),
    Material("RAVDESS, neutral words", partial(acted.constructed, matching=False)),
    Material("neutral voices", calm.readers),
    Material("neutral voices, clip alone", partial(without_warm_up, calm.readers)),
    Material("podcasts", calm.podcasts),
    Material("calls", partial(calm.recordings, folder="e2e/calls")),
    Material("AMI", partial(calm.recordings, folder="e2e/ami")),
    Material("speeches", partial(calm.recordings, folder="e2e")),
    Material("neutral pieces", calm.pieces),
    Material("emotional pieces", acted.pieces),
    Material("changes", acted.changes),
)
