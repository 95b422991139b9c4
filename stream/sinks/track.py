"""Smooths the labels of a stream into a mood, which a single different segment does not change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from abhinaya.models.labels import UNKNOWN

FADE_S: Final = 15.0
"""Seconds of speech after which the weight of old evidence has fallen to 1/e."""
MARGIN: Final = 1.5
"""Factor by which another label must exceed the evidence of the current label."""
ENOUGH_S: Final = 3.0
"""Evidence that the first label needs, in weighted seconds of speech."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the smoothed label."""

    at_s: float
    before: str
    """Label before the change; `unknown` for the first change."""
    after: str


class Track:
    """The smoothed label of one stream. Segments are added in the order of their start.

    The evidence for a label is the length of its segments, weighted by their agreement. Evidence
    decays with further speech. The label changes only if another label has `margin` times the
    evidence of the current one (hysteresis).
    """

    def __init__(self, margin: float = MARGIN) -> None:
        self._margin = margin
        self._evidence: dict[str, float] = {}
        self._since: dict[str, float] = {}
        """Start of each other label since the last segment with the current label, in seconds."""
        self.label = UNKNOWN
        self.changes: list[Change] = []

    def add(self, label: str, start_s: float, end_s: float, agreement: float | None) -> None:
        """Add a segment; one with the label `unknown` is ignored."""
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
