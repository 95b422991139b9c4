"""The materials: named lists of sessions made from a folder like shared/data.

Speakers, readers and texts are of the development side throughout: no voter is trained on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.asr_clips import clips_in, read
from abhinaya.bench.quality.sessions import (
    Cutter,
    Segment,
    Session,
    compose,
    loudest,
    truth_of,
)
from abhinaya.models.base import FloatArray
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.errors import ConfigError
from abhinaya.train.data.clips import Clip, DataError, read_clips
from abhinaya.train.data.readers import read_readers

NEUTRAL: Final = "neutral"
WARM_S: Final = 20.0
"""Of the speaker's mostly neutral speech, heard before what is scored."""
WARM_NEUTRAL: Final = 0.8
"""Share of it that is neutral."""
NEUTRAL_PIECES_S: Final = (0.7, 1.0, 1.5, 2.5, 4.0)
EMOTIONAL_PIECES_S: Final = (1.0, 1.5, 2.0)
EPISODES: Final = ("p01_e04", "p02_e05", "p03_e04", "p04_e04", "p05_e05", "p06_e03")
"""One of each podcast, whole: where there is a short one, that."""
OFFICE: Final = "office-ambience-24000-mono.opus"
LONGEST_S: Final = 10.0
EKMAN: Final = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "joy": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "surprise",
}
_TURN: Final = re.compile(r"^[^\[\]#:]{1,60}: (.+)$")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of what there is plenty of is taken."""

    clips: int = 20
    """Of each label of each acted speaker, at most."""
    readers: int = 100
    episodes: int = len(EPISODES)
    noises: int = 40
    """Of each kind."""
    pieces: int = 4
    """Of each length and voice."""
    changes: int = 8
    """Conversations with a change, for each actor."""
    recordings: int = 99
    """Calls, and meetings."""

    @classmethod
    def quick(cls) -> Size:
        """Return a size for a look, not for figures to be quoted."""
        return cls(clips=3, readers=10, episodes=1, noises=6, pieces=1, changes=2, recordings=1)


@dataclass(frozen=True, slots=True)
class Material:
    """A list of sessions."""

    name: str
    sessions: Callable[[], Iterator[Session]]
    votes: bool = True
    """Whether voters are asked: where only words are measured they are not."""


@dataclass(eq=False)
class Materials:
    """All materials of a folder.

    Args:
        data: the folder.
        size: how much of it.
        seed: of whatever is drawn.

    """

    data: Path
    size: Size = field(default_factory=Size)
    seed: int = 0

    def all(self) -> list[Material]:
        """Return every material, none of them read yet."""
        voting: Mapping[str, Callable[[], Iterator[Session]]] = {
            "RAVDESS": lambda: self._acted("ravdess"),
            "RAVDESS, clip alone": lambda: _alone(self._acted("ravdess")),
            "nEMO": lambda: self._acted("nemo"),
            "nEMO, clip alone": lambda: _alone(self._acted("nemo")),
            "RAVDESS, matching words": lambda: self._constructed(matching=True),
            "RAVDESS, neutral words": lambda: self._constructed(matching=False),
            "neutral voices": self._readers,
            "neutral voices, clip alone": lambda: _alone(self._readers()),
            "podcasts": self._podcasts,
            "calls": lambda: self._recordings("e2e/calls"),
            "AMI": lambda: self._recordings("e2e/ami"),
            "speeches": lambda: self._recordings("e2e"),
            "neutral pieces": self._neutral_pieces,
            "emotional pieces": self._emotional_pieces,
            "changes": self._changes,
        }
        hearing: Mapping[str, Callable[[], Iterator[Session]]] = {
            "read speech": self._read_speech,
            "8 kHz Harvard": self._harvard,
            "noise": lambda: self._wordless("noise"),
            "bursts": lambda: self._wordless("emogator"),
        }
        return [
            *(Material(name, made, votes=False) for name, made in hearing.items()),
            *(Material(name, made) for name, made in voting.items()),
        ]

    @cached_property
    def _cutter(self) -> Cutter:
        return Cutter()

    def _rng(self, *what: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *"/".join(what).encode()])

    # --- words ------------------------------------------------------------------------------------

    def _read_speech(self) -> Iterator[Session]:
        """Clips as they are: the 41 of `abhinaya bench asr`."""
        for clip in clips_in(self.data / "e2e"):
            yield Session(clip.corpus, (Segment(read(clip.path)),), reference=clip.text)

    def _harvard(self) -> Iterator[Session]:
        import json

        folder = self.data / "e2e" / "osr_harvard"
        for entry in json.loads(_found(folder / "test_samples.json").read_text("utf-8")):
            samples = read(folder / entry["filename"])
            yield Session("osr", self._cut(samples), reference=entry["transcription"])

    def _wordless(self, folder: str) -> Iterator[Session]:
        for path in self._drawn(folder, self.size.noises):
            yield Session(path.stem, (Segment(read(path)[: to_samples(LONGEST_S)]),))

    # --- acted speakers ---------------------------------------------------------------------------

    def _acted(self, corpus: str) -> Iterator[Session]:
        """Each clip once, right after 20 s of the same speaker's other, mostly neutral clips."""
        clips = [
            clip
            for clip in _clips(self.data, corpus)
            if clip.split == "dev" and clip.kind == "speech"
        ]
        for speaker in sorted({clip.speaker for clip in clips}):
            halves = self._halves(speaker, [clip for clip in clips if clip.speaker == speaker])
            for half, other in (halves, halves[::-1]):
                yield Session(speaker, tuple(half), warm=self._warm(speaker, other), apart=True)

    def _halves(self, speaker: str, clips: Sequence[Clip]) -> tuple[list[Segment], list[Segment]]:
        """Draw a speaker's clips, and deal them out so that both halves have every label."""
        rng = self._rng(speaker)
        halves: tuple[list[Segment], list[Segment]] = ([], [])
        turn = 0
        for label in sorted({str(clip.label) for clip in clips}):
            of_one = [clip for clip in clips if clip.label == label]
            for i in rng.permutation(len(of_one))[: self.size.clips]:
                samples = self._cutter.spoken(read(Path(of_one[i].path)))
                halves[turn % 2].append(Segment(samples, label))
                turn += 1
        return halves

    def _warm(self, speaker: str, clips: Sequence[Segment]) -> tuple[Segment, ...]:
        """Draw 20 s of mostly neutral speech."""
        rng = self._rng(speaker, "warm")
        neutral = [clip for clip in clips if clip.truth == NEUTRAL]
        moved = [clip for clip in clips if clip.truth != NEUTRAL]
        chosen = [
            *_filled(neutral, WARM_S * WARM_NEUTRAL, rng),
            *_filled(moved, WARM_S * (1 - WARM_NEUTRAL), rng),
        ]
        return tuple(chosen[i] for i in rng.permutation(len(chosen)))

    def _constructed(self, matching: bool) -> Iterator[Session]:
        """Acted sound with the words of comments, which say the same or nothing."""
        rng, texts = self._rng("words"), _comments(self.data)
        for session in self._acted("ravdess"):
            worded = []
            for segment in session.segments:
                said = texts[segment.truth if matching else NEUTRAL]
                words = said[int(rng.integers(len(said)))]
                worded.append(replace(segment, words=words))
            yield replace(session, segments=tuple(worded))

    def _emotional_pieces(self) -> Iterator[Session]:
        """Yield the loudest second or two of each emotional clip, after neutral speech."""
        for corpus in ("ravdess", "nemo"):
            for session in self._acted(corpus):
                moved = [segment for segment in session.segments if segment.truth != NEUTRAL]
                pieces = [
                    replace(segment, samples=piece, tag=f"{seconds:g} s")
                    for seconds in EMOTIONAL_PIECES_S
                    for segment in moved
                    if (piece := loudest(segment.samples, to_samples(seconds))) is not None
                ]
                yield replace(session, segments=tuple(pieces))

    def _changes(self) -> Iterator[Session]:
        """Conversations of one actor over an office, neutral at first and then moved."""
        noise = read(_found(self.data / "noise" / OFFICE))
        voices: dict[str, list[Segment]] = {}
        for session in self._acted("ravdess"):
            voices.setdefault(session.speaker, []).extend(session.segments)
        for speaker, clips in voices.items():
            rng = self._rng(speaker, "changes")
            moods = sorted({clip.truth for clip in clips} - {NEUTRAL})
            for number in range(self.size.changes):
                mood = moods[number % len(moods)]
                turns = [*_some(clips, NEUTRAL, 4, rng), *_some(clips, mood, 3, rng)]
                samples, placed = compose([(t.samples, t.truth) for t in turns], noise, rng)
                change = next(turn.start for turn in placed if turn.label == mood)
                segments = (
                    replace(segment, truth=truth_of(segment.start, segment.end, placed))
                    for segment in self._cut(samples)
                )
                kept = tuple(segment for segment in segments if segment.truth)
                yield Session(speaker, kept, change=change)

    # --- neutral speech ---------------------------------------------------------------------------

    def _readers(self) -> Iterator[Session]:
        """Half of each reader's clip, after the other half; there is no more of a voice."""
        try:
            readers = read_readers(self.data, "dev")
        except DataError as error:
            raise ConfigError(str(self.data), str(error), "give the folder with --data") from error
        for i in self._rng("readers").permutation(len(readers))[: self.size.readers]:
            samples = self._cutter.spoken(read(Path(readers[i].path)))
            warm, scored = np.array_split(samples, 2)
            yield Session(
                readers[i].speaker,
                (Segment(scored, NEUTRAL),),
                warm=(Segment(warm, NEUTRAL),),
                apart=True,
            )

    def _podcasts(self) -> Iterator[Session]:
        """Whole episodes, two to four voices on one track; nobody is meant to be moved."""
        folder = self.data / "e2e" / "podcasts"
        for name in EPISODES[: self.size.episodes]:
            samples = read(_found(folder / f"{name}.opus"))
            text = script(_found(folder / f"{name}.txt").read_text("utf-8"))
            yield Session(name, self._cut(samples, NEUTRAL), reference=text)

    def _recordings(self, folder: str) -> Iterator[Session]:
        """Real recordings of which nobody has said that anyone is moved."""
        paths = [p for p in sorted((self.data / folder).glob("*.opus")) if p.is_file()]
        if not paths:
            raise ConfigError(str(self.data / folder), "holds no recording", "give another --data")
        for path in paths[: self.size.recordings]:
            yield Session(path.stem, self._cut(read(path), NEUTRAL))

    def _neutral_pieces(self) -> Iterator[Session]:
        """Pieces of each voice of the podcasts, right after 20 s of the same voice."""
        folder = self.data / "e2e" / "podcasts"
        for name in EPISODES[: self.size.episodes]:
            samples = read(_found(folder / f"{name}.opus"))
            turns = read_turns(_found(folder / f"{name}.rttm").read_text("utf-8"))
            for voice, spans in turns.items():
                said = np.concatenate([samples[to_samples(a) : to_samples(b)] for a, b in spans])
                segments = self._cut(said, NEUTRAL)
                heard_s, count = 0.0, 0
                while count < len(segments) and heard_s < WARM_S:
                    heard_s += to_seconds(len(segments[count].samples))
                    count += 1
                pieces = tuple(self._pieces(segments[count:], self._rng(name, voice)))
                yield Session(f"{name} {voice}", pieces, warm=segments[:count], apart=True)

    def _pieces(self, segments: Sequence[Segment], rng: np.random.Generator) -> Iterator[Segment]:
        for seconds in NEUTRAL_PIECES_S:
            length = to_samples(seconds)
            long = [segment for segment in segments if len(segment.samples) >= length]
            for i in rng.permutation(len(long))[: self.size.pieces]:
                start = int(rng.integers(len(long[i].samples) - length + 1))
                piece = long[i].samples[start : start + length]
                yield Segment(piece, NEUTRAL, tag=f"{seconds:g} s")

    # --- tools ------------------------------------------------------------------------------------

    def _cut(self, samples: FloatArray, truth: str = "") -> tuple[Segment, ...]:
        return tuple(
            Segment(piece.samples, truth, start=piece.start)
            for piece in self._cutter.pieces(samples)
        )

    def _drawn(self, folder: str, count: int) -> list[Path]:
        found = sorted((self.data / folder).rglob("*.opus"))
        if not found:
            raise ConfigError(str(self.data / folder), "holds no recording", "give another --data")
        return [found[i] for i in self._rng(folder).permutation(len(found))[:count]]


def script(text: str) -> str:
    """Return what is said of a podcast's script: after its first time mark, without the names."""
    _, _, body = text.partition("\n[")
    said = (_TURN.match(line) for line in body.splitlines())
    return " ".join(match.group(1) for match in said if match)


def read_turns(rttm: str) -> dict[str, list[tuple[float, float]]]:
    """Return (start, end) in seconds of the turns of each voice."""
    turns: dict[str, list[tuple[float, float]]] = {}
    for line in rttm.splitlines():
        fields = line.split()
        if fields[:1] == ["SPEAKER"]:
            start, length = float(fields[3]), float(fields[4])
            turns.setdefault(fields[7], []).append((start, start + length))
    return turns


def _alone(sessions: Iterator[Session]) -> Iterator[Session]:
    """Take away what was heard before."""
    for session in sessions:
        yield replace(session, warm=(), apart=True)


def _clips(data: Path, corpus: str) -> list[Clip]:
    try:
        return read_clips(data, [corpus])
    except DataError as error:
        raise ConfigError(str(data), str(error), "give the folder with --data") from error


def _comments(data: Path) -> dict[str, list[str]]:
    """Read short comments with one label each, by ours."""
    folder = data / "text" / "goemotions"
    names = _found(folder / "ekman_labels.txt").read_text("utf-8").split()
    found: dict[str, list[str]] = {}
    for line in _found(folder / "ekman_dev.tsv").read_text("utf-8").splitlines():
        text, labels, _ = line.split("\t")
        if "," not in labels and 4 <= len(text.split()) <= 20:
            found.setdefault(EKMAN[names[int(labels)]], []).append(text)
    return found


def _filled(
    clips: Sequence[Segment], seconds: float, rng: np.random.Generator
) -> Iterator[Segment]:
    """Draw clips until they are about as long as asked."""
    heard_s = 0.0
    for i in rng.permutation(len(clips)):
        length_s = to_seconds(len(clips[i].samples))
        if heard_s + length_s / 2 > seconds:
            return
        heard_s += length_s
        yield clips[i]


def _some(
    clips: Sequence[Segment], label: str, count: int, rng: np.random.Generator
) -> list[Segment]:
    mine = [clip for clip in clips if clip.truth == label]
    return [mine[i] for i in rng.permutation(len(mine))[:count]]


def _found(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(str(path), "is not there", "give the folder that holds it with --data")
    return path
