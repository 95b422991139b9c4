"""What each item is measured from: the mean of what the same voice said before, as drawn.

In life a voice is mostly calm. Measured from a balanced mix of all feelings, as acted corpora are,
a network learns that a voice's mean is a feeling, and calls real talk emotional nine times in ten;
so the share of neutral speech and the seconds heard are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray
from abhinaya.models.tiny.voice import Voice
from abhinaya.train.tiny.sessions import Sessions


@dataclass(frozen=True)
class Before:
    """How much of a voice was heard before an item, and how much of it was neutral."""

    seconds: tuple[float, float] = (2.0, 40.0)
    neutral: tuple[float, float] = (0.6, 1.0)
    none: float = 0.1
    """Share of items before which nothing was heard."""


SHIPPED = Before((20.0, 20.0), (0.8, 0.9), 0.0)
"""The one setting that figures are of: 20 s of the voice's mostly neutral speech."""


class Voices:
    """Draws voices for the items of some sessions.

    Args:
        sessions: the items; whole clips of the same session are what is heard before.
        usual: [L, D] mean of all voices.

    """

    def __init__(self, sessions: Sessions, usual: FloatArray) -> None:
        self._sessions, self._usual = sessions, usual
        session = sessions.session
        calm = sessions.label == "neutral"
        self._session = session
        self._calm: dict[int, npt.NDArray[np.int64]] = {}
        self._other: dict[int, npt.NDArray[np.int64]] = {}
        for number in np.unique(session):
            of = (session == number) & sessions.whole
            self._calm[int(number)] = np.flatnonzero(of & calm)
            self._other[int(number)] = np.flatnonzero(of & ~calm)

    def draw(self, item: int, before: Before, rng: np.random.Generator) -> Voice:
        """Draw what was heard of an item's voice before it."""
        if rng.random() < before.none:
            return Voice(self._usual)
        seconds, share = rng.uniform(*before.seconds), rng.uniform(*before.neutral)
        session = int(self._session[item])
        heard = [
            *self._some(self._calm[session], item, seconds * share, rng),
            *self._some(self._other[session], item, seconds * (1.0 - share), rng),
        ]
        if not heard:
            return Voice(self._usual)
        weights = self._sessions.seconds[heard]
        mean = np.average(self._sessions.means[heard], axis=0, weights=weights)
        return Voice(mean.astype(np.float32), float(weights.sum()))

    def _some(
        self, pool: npt.NDArray[np.int64], item: int, seconds: float, rng: np.random.Generator
    ) -> list[int]:
        """Draw clips of a pool, but not the item's own, until there are so many seconds."""
        chosen: list[int] = []
        got = 0.0
        for other in rng.permutation(pool):
            if got >= seconds or seconds < 0.5:
                break
            if self._sessions.clip[other] != self._sessions.clip[item]:
                chosen.append(int(other))
                got += float(self._sessions.seconds[other])
        return chosen
