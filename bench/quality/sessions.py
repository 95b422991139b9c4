"""Sessions: the segments of one voice or channel in order, made from a folder of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.clips import Clip, long_clips_in
from abhinaya.bench.word_times import Placed
from abhinaya.models.base import FloatArray
from abhinaya.stream.clock import SAMPLE_RATE, to_samples
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.front.listener import Listener
from abhinaya.stream.front.segmenter import Piece
from abhinaya.stream.front.vad import SileroVad
from abhinaya.stream.settings.config import VadConfig

NEUTRAL: Final = "neutral"
WARM_S: Final = 20.0
"""Length of the warm-up: speech of the same speaker before the scored segments."""
SOUNDS: Final = ("*.opus", "*.ogg", "*.flac", "*.wav")
REMEDY: Final = "give the folder that holds it with --data"
_AROUND: Final = to_samples(0.6)
"""Silence on each side of a clip, so that its last segment ends in silence."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A segment and its truth."""

    samples: FloatArray
    truth: str = ""
    """True label; empty if unknown."""
    tag: str = ""
    """Name of the group that the segment is counted in, for example its length."""
    words: str | None = None
    """Transcript for the voters; None: from the transcriber."""
    start: int = 0
    """Position of the first sample in the session."""

    @property
    def end(self) -> int:
        """Position after the last sample in the session."""
        return self.start + len(self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """Segments of one stream."""

    speaker: str
    segments: tuple[Segment, ...]
    warm: tuple[Segment, ...] = ()
    """Warm-up: segments processed first and not scored."""
    apart: bool = False
    """Process each segment right after `warm`, without the other segments."""
    reference: str | None = None
    """Words of all segments; None if unknown."""
    change: int | None = None
    """Sample from which the speech is emotional."""


class Cutter:
    """The monitor's voice activity detection and segmenter."""

    def __init__(self) -> None:
        self._config, self._vad = VadConfig(), SileroVad()

    def pieces(self, samples: FloatArray) -> list[Piece]:
        """Return the segments of a recording [n]."""
        listener = Listener(self._config, 1, self._vad)
        found = []
        for start in range(0, len(samples), SAMPLE_RATE):
            found += listener.feed(samples[start : start + SAMPLE_RATE, None])
        return [piece for _, piece in [*found, *listener.finish()]]

    def spoken(self, clip: FloatArray) -> FloatArray:
        """Return a clip without silence at both ends; a clip without speech stays whole."""
        silence = np.zeros(_AROUND, np.float32)
        pieces = self.pieces(np.concatenate([silence, clip, silence]))
        if not pieces:
            return clip
        first, last = pieces[0].start - _AROUND, pieces[-1].end - _AROUND
        return clip[max(0, first) : max(0, last)]


@dataclass(eq=False)
class Source:
    """A folder of recordings, laid out like shared/data.

    `quick` takes a tenth of the data, for a quick look.
    """

    data: Path
    quick: bool = False

    def most(self, count: int) -> int:
        """Return `count`, or a tenth of it if `quick`."""
        return -(-count // 10) if self.quick else count

    @cached_property
    def cutter(self) -> Cutter:
        """The segmenter, with the monitor's settings."""
        return Cutter()

    def rng(self, *what: str) -> np.random.Generator:
        """Return a random generator with a seed for `what`, independent of other draws."""
        return np.random.default_rng([0, *"/".join(what).encode()])

    def file(self, *path: str) -> Path:
        """Return the path of a file in the folder.

        Raises ConfigError: the file is missing.
        """
        found = self.data.joinpath(*path)
        if not found.is_file():
            raise ConfigError(str(found), "does not exist", REMEDY)
        return found

    def spoken(self, corpus: str) -> list[Clip]:
        """Return the long recordings of a corpus, with their text.

        Raises ConfigError: no recordings were found.
        """
        found = [c for c in long_clips_in(self.data / "e2e") if c.corpus.startswith(corpus)]
        if not found:
            raise ConfigError(str(self.data / "e2e"), f"has no {corpus} with its text", REMEDY)
        return found

    def recordings(self, *folders: str, deep: bool = False) -> list[Path]:
        """Return the opus files in folders, sorted; if `deep`, all audio files there and below.

        Raises ConfigError: no recordings were found.
        """
        places = [self.data / folder for folder in folders]
        kinds = SOUNDS if deep else SOUNDS[:1]
        globs = [place.rglob if deep else place.glob for place in places]
        found = sorted(path for glob in globs for kind in kinds for path in glob(kind))
        if not found:
            raise ConfigError(" ".join(map(str, places)), "holds no recording", REMEDY)
        return found

    def cut(self, samples: FloatArray, truth: str = "") -> tuple[Segment, ...]:
        """Return the segments of a recording, all with the label `truth`."""
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
) -> tuple[FloatArray, list[Placed]]:
    """Return clips (samples [n], label) in a row with gaps, over repeated noise [m]."""
    parts: list[FloatArray] = []
    turns: list[Placed] = []
    position = 0
    for samples, label in clips:
        gap = to_samples(float(rng.uniform(*gaps_s)))
        parts += [np.zeros(gap, np.float32), samples]
        turns.append(Placed(position + gap, position + gap + len(samples), label))
        position += gap + len(samples)
    speech = np.concatenate([*parts, np.zeros(SAMPLE_RATE, np.float32)])
    power = float(np.mean(np.concatenate([samples for samples, _ in clips]) ** 2))
    under = np.resize(np.roll(noise, -int(rng.integers(len(noise)))), len(speech))
    scale = np.sqrt(power / 10.0 ** (snr_db / 10.0) / (np.mean(under**2) + 1e-12))
    return np.clip(speech + scale * under, -1.0, 1.0).astype(np.float32), turns


def truth_of(start: int, end: int, turns: Sequence[Placed]) -> str:
    """Return the label of the turn with the largest overlap with [start, end); empty if none."""
    shared = [min(end, turn.end) - max(start, turn.start) for turn in turns]
    best = int(np.argmax(shared))
    return turns[best].name if shared[best] > 0 else ""


def loudest(samples: FloatArray, length: int) -> FloatArray | None:
    """Return the `length` consecutive samples with most power; None if the clip is shorter."""
    if len(samples) < length:
        return None
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    start = int(np.argmax(power[length:] - power[:-length]))
    return samples[start : start + length]
