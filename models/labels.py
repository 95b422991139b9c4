"""The eight emotions, in the one order that every array of probabilities uses."""

from __future__ import annotations

from typing import Final

LABELS: Final = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Canonical order, alphabetical: index c of any probability vector [C] is LABELS[c]."""

UNKNOWN: Final = "unknown"
"""The label of a verdict that had too few votes. No voter may cast it."""
