"""One colour for each label, everywhere: the terminal, subtitles, the report.

Of middle brightness, to be read on a light background as well as on a dark one, and as far apart
as a search could find for people who do not see red, green or blue as well; a test holds both. A
label is always written out; its colour only repeats it.
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
"""A label where there is room for one letter."""

ALERT: Final = "#d0382b"
"""Of what is wrong."""
QUIET: Final = "#808080"
"""Of what is beside the point."""
