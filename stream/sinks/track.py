"""A calmer track of labels: one odd segment does not change the mood of a call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from abhinaya.models.labels import UNKNOWN

FADE_S: Final = 15.0
"""Seconds of speech after which evidence counts 1/e."""
MARGIN: Final = 1.5
"""How many times the evidence of the label held another must have."""
ENOUGH_S: Final = 3.0
"""Weighted seconds of speech that the first label needs."""


@dataclass(frozen=True, slots=True)
class Change:
    """From here on the track has another label."""

    at_s: float
    before: str
    """`unknown` at the beginning."""
    after: str


class Track:
    """The smoothed label of one stream, from its segments in the order of their start.

    Each segment is evidence for its label: its seconds, weighted with the agreement. Evidence fades
    while other speech comes, and the track changes only when another label has clearly more of it
    than the label held: that is the hysteresis.
    """

    def __init__(self, margin: float = MARGIN) -> None:
        self._margin = margin
        self._evidence: dict[str, float] = {}
        self._since: dict[str, float] = {}
        """Where each other label came up after the last segment with the label held."""
        self.label = UNKNOWN
        self.changes: list[Change] = []

    def add(self, label: str, start_s: float, end_s: float, agreement: float | None) -> None:
        """Take a segment; `unknown` is evidence for nothing."""
        if label == UNKNOWN:
            return
        length_s = end_s - start_s
        fading = math.exp(-length_s / FADE_S)
        self._evidence = {known: fading * e for known, e in self._evidence.items()}
        weight = agreement if agreement is not None else 1.0
        now = self._evidence.get(label, 0.0) + weight * length_s
        self._evidence[label] = now
        if label == self.label:
            self._since.clear()
            return
        self._since.setdefault(label, start_s)
        held = self._evidence.get(self.label, 0.0)
        if now > max(self._margin * held, ENOUGH_S if self.label == UNKNOWN else 0.0):
            self.changes.append(Change(self._since[label], self.label, label))
            self.label = label
            self._since.clear()
