"""Speech of a channel: pauses and segments, drawn from the quantiles of the figures."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from abhinaya.bench.capacity.figures import Speech

SHORTEST_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Spoken:
    """One segment."""

    ready_s: float
    """When its last sample was spoken."""
    length_s: float


def spoken(speech: Speech, seed: str) -> Iterator[Spoken]:
    """Yield the segments of a channel; the same for the same seed.

    Channels are independent of each other, also those of one call. A channel has spoken for some
    time when the simulation begins, so that not all begin together.
    """
    dice = random.Random(seed)  # noqa: S311
    now = -dice.random() * 20 / speech.segments_per_s
    while True:
        now += drawn(speech.pauses_s, dice)
        length_s = max(SHORTEST_S, drawn(speech.lengths_s, dice))
        now += length_s
        if now >= 0:
            yield Spoken(now, length_s)


def drawn(quantiles: Sequence[float], dice: random.Random) -> float:
    """Return a value of a distribution with evenly spaced quantiles."""
    place = dice.random() * (len(quantiles) - 1)
    low = int(place)
    return quantiles[low] + (place - low) * (quantiles[low + 1] - quantiles[low])
