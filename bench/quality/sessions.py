"""Sessions: what one voice or channel says in order, cut as the monitor cuts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.clips import Clip, long_clips_in
from abhinaya.models.base import FloatArray
from abhinaya.stream.clock import SAMPLE_RATE, to_samples
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.front.listener import Listener
from abhinaya.stream.front.segmenter import Piece
from abhinaya.stream.front.vad import SileroVad
from abhinaya.stream.settings.config import VadConfig

NEUTRAL: Final = "neutral"
WARM_S: Final = 20.0
"""Of the speaker's mostly neutral speech, heard before what is scored."""
SOUNDS: Final = ("*.opus", "*.ogg", "*.flac", "*.wav")
REMEDY: Final = "give the folder that holds it with --data"
_AROUND: Final = to_samples(0.6)
"""Silence put around a clip, so that its last segment ends by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """What is heard at once, and what is true of it."""

    samples: FloatArray
    truth: str = ""
    """Its label; empty where nothing is known."""
    tag: str = ""
    """What it is counted under: a length, a corpus."""
    words: str | None = None
    """Transcript that voters are given; None asks the transcriber."""
    start: int = 0
    """First sample in its session."""

    @property
    def end(self) -> int:
        """One past its last sample in the session."""
        return self.start + len(self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """Segments of one stream."""

    speaker: str
    segments: tuple[Segment, ...]
    warm: tuple[Segment, ...] = ()
    """Heard before and not scored."""
    apart: bool = False
    """Each segment is heard right after `warm`, as if the others were not there."""
    reference: str | None = None
    """What is said in all segments together; None where it is not known."""
    change: int | None = None
    """Sample from which the speech is emotional."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One clip's place in a conversation, in samples."""

    start: int
    end: int
    label: str


class Cutter:
    """The monitor's own voice activity detection and segmenter."""

    def __init__(self, config: VadConfig | None = None) -> None:
        self._config = config or VadConfig()
        self._vad = SileroVad()

    def pieces(self, samples: FloatArray) -> list[Piece]:
        """Cut a recording [n] as a stream is cut."""
        listener = Listener(self._config, 1, self._vad)
        found = []
        for start in range(0, len(samples), SAMPLE_RATE):
            found += listener.feed(samples[start : start + SAMPLE_RATE, None])
        return [piece for _, piece in [*found, *listener.finish()]]

    def spoken(self, clip: FloatArray) -> FloatArray:
        """Cut silence off a clip as the monitor would; a clip without speech stays whole."""
        silence = np.zeros(_AROUND, np.float32)
        pieces = self.pieces(np.concatenate([silence, clip, silence]))
        if not pieces:
            return clip
        first, last = pieces[0].start - _AROUND, pieces[-1].end - _AROUND
        return clip[max(0, first) : max(0, last)]


@dataclass(eq=False)
class Source:
    """A folder like shared/data.

    Args:
        data: the folder.
        quick: whether a tenth is enough: for a look, not for figures to be quoted.

    """

    data: Path
    quick: bool = False

    def most(self, count: int) -> int:
        """Return how many to take at most, where all of it would be `count`."""
        return -(-count // 10) if self.quick else count

    @cached_property
    def cutter(self) -> Cutter:
        """Cuts as the monitor does."""
        return Cutter()

    def rng(self, *what: str) -> np.random.Generator:
        """Return a generator of its own for whatever is drawn: the rest does not change with it."""
        return np.random.default_rng([0, *"/".join(what).encode()])

    def file(self, *path: str) -> Path:
        """Return a file of the folder.

        Raises:
            ConfigError: it is missing.

        """
        found = self.data.joinpath(*path)
        if not found.is_file():
            raise ConfigError(str(found), "does not exist", REMEDY)
        return found

    def spoken(self, corpus: str) -> list[Clip]:
        """Return the long recordings of a corpus, with what is said in them.

        Raises:
            ConfigError: there are none.

        """
        found = [c for c in long_clips_in(self.data / "e2e") if c.corpus.startswith(corpus)]
        if not found:
            raise ConfigError(str(self.data / "e2e"), f"has no {corpus} with its text", REMEDY)
        return found

    def recordings(self, *folders: str, deep: bool = False) -> list[Path]:
        """Return the opus files in folders, by name; if `deep`, all sounds there and below.

        Raises:
            ConfigError: they hold none.

        """
        places = [self.data / folder for folder in folders]
        kinds = SOUNDS if deep else SOUNDS[:1]
        globs = [place.rglob if deep else place.glob for place in places]
        found = sorted(path for glob in globs for kind in kinds for path in glob(kind))
        if not found:
            raise ConfigError(" ".join(map(str, places)), "holds no recording", REMEDY)
        return found

    def cut(self, samples: FloatArray, truth: str = "") -> tuple[Segment, ...]:
        """Cut a recording into segments that are all of one truth."""
        return tuple(
            Segment(piece.samples, truth, start=piece.start)
            for piece in self.cutter.pieces(samples)
        )


def compose(
    clips: Sequence[tuple[FloatArray, str]],
    noise: FloatArray,
    rng: np.random.Generator,
    gaps_s: tuple[float, float] = (0.4, 1.5),
    snr_db: float = 20.0,
) -> tuple[FloatArray, list[Turn]]:
    """Put clips (samples [n], label) in a row with gaps, over noise [m] that repeats."""
    parts: list[FloatArray] = []
    turns: list[Turn] = []
    position = 0
    for samples, label in clips:
        gap = to_samples(float(rng.uniform(*gaps_s)))
        parts += [np.zeros(gap, np.float32), samples]
        turns.append(Turn(position + gap, position + gap + len(samples), label))
        position += gap + len(samples)
    speech = np.concatenate([*parts, np.zeros(SAMPLE_RATE, np.float32)])
    power = float(np.mean(np.concatenate([samples for samples, _ in clips]) ** 2))
    under = np.resize(np.roll(noise, -int(rng.integers(len(noise)))), len(speech))
    scale = np.sqrt(power / 10.0 ** (snr_db / 10.0) / (np.mean(under**2) + 1e-12))
    return np.clip(speech + scale * under, -1.0, 1.0).astype(np.float32), turns


def truth_of(start: int, end: int, turns: Sequence[Turn]) -> str:
    """Return the label of the turn that most of [start, end) lies in; empty if in none."""
    shared = [min(end, turn.end) - max(start, turn.start) for turn in turns]
    best = int(np.argmax(shared))
    return turns[best].label if shared[best] > 0 else ""


def loudest(samples: FloatArray, length: int) -> FloatArray | None:
    """Return the `length` samples with the most power; None if there are fewer."""
    if len(samples) < length:
        return None
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    start = int(np.argmax(power[length:] - power[:-length]))
    return samples[start : start + length]
