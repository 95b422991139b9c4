"""One colour for each label, everywhere: the terminal, subtitles, the report.

Of middle brightness, to be read on a light background as well as on a dark one. A label is always
written out; its colour only repeats it.
"""

from __future__ import annotations

from typing import Final

from abhinaya.models.labels import UNKNOWN

COLOURS: Final = {
    "angry": "#d0382b",
    "contempt": "#a0569e",
    "disgust": "#5f8a2f",
    "fear": "#7a5fd0",
    "happy": "#c07000",
    "neutral": "#808080",
    "sad": "#3a7bc8",
    "surprise": "#008b8b",
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
"""A label where there is room for one letter."""
