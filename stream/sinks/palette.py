"""One colour for each label, in the terminal, in subtitles and in the report.

The colours have a medium brightness, for light and dark backgrounds. A search chose them so that
colour-blind people can distinguish them too; a test checks both. The label is always shown as well.
"""

from __future__ import annotations

from typing import Final

from abhinaya.models.labels import UNKNOWN

COLOURS: Final = {
    "angry": "#cf252a",
    "contempt": "#e17081",
    "disgust": "#0a7410",
    "fear": "#974ea3",
    "happy": "#b28305",
    "neutral": "#696969",
    "sad": "#406eda",
    "surprise": "#179cb7",
    UNKNOWN: "#808080",
}

LETTERS: Final = {
    "angry": "A",
    "contempt": "C",
    "disgust": "D",
    "fear": "F",
    "happy": "H",
    "neutral": "N",
    "sad": "S",
    "surprise": "U",
    UNKNOWN: "?",
}
"""Names of the labels for places with room for one letter."""

ALERT: Final = "#d0382b"
"""Colour of alerts and errors."""
QUIET: Final = "#808080"
"""Colour of less important text."""
