"""The folder that material is made from, how much of it is taken, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.asr_clips import Clip, long_clips_in
from abhinaya.bench.quality.sessions import Cutter, Segment
from abhinaya.models.base import FloatArray
from abhinaya.stream.errors import ConfigError

NEUTRAL: Final = "neutral"
WARM_S: Final = 20.0
"""Of the speaker's mostly neutral speech, heard before what is scored."""
REMEDY: Final = "give the folder that holds it with --data"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of what there is plenty of is taken."""

    clips: int = 20
    """Of each label of each acted speaker, at most."""
    emotional_pieces: int = 8
    """Clips of each label of each acted speaker that pieces are cut from."""
    readers: int = 100
    episodes: int = 6
    noises: int = 40
    """Of each kind."""
    neutral_pieces: int = 4
    """Of each length and voice."""
    changes: int = 8
    """Conversations with a change, for each actor."""
    recordings: int = 99
    """Calls, and meetings."""
    read: int = 99
    """Clips of read speech."""

    @classmethod
    def quick(cls) -> Size:
        """Return a size for a look, not for figures to be quoted."""
        return cls(
            clips=4,
            emotional_pieces=1,
            readers=10,
            episodes=1,
            noises=6,
            neutral_pieces=1,
            changes=2,
            recordings=1,
            read=9,
        )


@dataclass(eq=False)
class Source:
    """A folder like shared/data.

    Args:
        data: the folder.
        size: how much of it.
        seed: of whatever is drawn.

    """

    data: Path
    size: Size = field(default_factory=Size)
    seed: int = 0

    @cached_property
    def cutter(self) -> Cutter:
        """Cuts as the monitor does."""
        return Cutter()

    def rng(self, *what: str) -> np.random.Generator:
        """Return a generator of its own for whatever is drawn: the rest does not change with it."""
        return np.random.default_rng([self.seed, *"/".join(what).encode()])

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

    def recordings(self, *folder: str, deep: bool = False) -> list[Path]:
        """Return the recordings in a folder, by name; also in those below it, if `deep`.

        Raises:
            ConfigError: it holds none.

        """
        place = self.data.joinpath(*folder)
        found = sorted((place.rglob if deep else place.glob)("*.opus"))
        if not found:
            raise ConfigError(str(place), "holds no recording", REMEDY)
        return found

    def cut(self, samples: FloatArray, truth: str = "") -> tuple[Segment, ...]:
        """Cut a recording into segments that are all of one truth."""
        return tuple(
            Segment(piece.samples, truth, start=piece.start)
            for piece in self.cutter.pieces(samples)
        )
