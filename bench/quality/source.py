"""The folder that material is made from, how much of it is taken, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.clips import Clip, long_clips_in
from abhinaya.bench.quality.sessions import Cutter, Segment
from abhinaya.models.base import FloatArray
from abhinaya.stream.errors import ConfigError

NEUTRAL: Final = "neutral"
WARM_S: Final = 20.0
"""Of the speaker's mostly neutral speech, heard before what is scored."""
SOUNDS: Final = ("*.opus", "*.ogg", "*.flac", "*.wav")
REMEDY: Final = "give the folder that holds it with --data"


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
