"""Sorts reasons, which are texts for people, into a few causes that may label a metric. Pure.

A reason can hold numbers, names of streams, or what others sent. As a label it would tell more than
a metric may, and make a new series each time.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

OTHER: Final = "other"

_CAUSES: Final = tuple(
    (cause, re.compile(pattern, re.I))
    for cause, pattern in (
        # of missing votes, gaps and segments without a label
        ("not judged", r"not judged"),
        ("not asked", r"^not asked"),
        ("overload", r"^overload|backlog"),
        ("late", r"^late\b|too late"),
        ("no transcript", r"^no transcript|nobody transcribes"),
        ("no words", r"no words|transcript is empty"),
        ("too little speech", r"too little speech"),
        ("too few votes", r"of at least \d|only attributes|weight 0"),
        ("too unsure", r"confidence|unsure|not sure"),
        ("interrupted", r"^interrupted"),
        ("not an answer", r"model('s| refused)|^no label|not finite|answers nonsense"),
        ("server", r"\bserver\b"),
        ("refused by the hub", r"refused by the hub"),
        ("process died", r"was killed|left with|silent|stuck|not reachable|has died|is gone"),
        ("audio lost", r"microphone|broadcast|connection|network|packet|frames|damaged|lost|cut"),
        # of refused messages
        ("test recording", r"test recording"),
        ("not allowed", r"\b(role|key|may not|may send|only the recorder|rights)\b"),
        ("unknown stream", r"is not this front's|has ended|another run"),
        ("name in use", r"has the name|being sent by|introduced"),
        ("wrong answer", r"announce|probabilities|gave numbers|answered as"),
        ("too much", r"more than|over the limit|already\b|\bfull\b"),
        ("malformed", r"malformed|payload|header|frames|samples|overlaps|part is|invalid"),
    )
)
"""The first cause whose pattern is found counts."""

CAUSES: Final = frozenset({"", OTHER, *(cause for cause, _ in _CAUSES)})


@lru_cache(maxsize=1024)
def cause_of(reason: str) -> str:
    """Return the cause of a reason: one of CAUSES; empty without a reason."""
    if not reason:
        return ""
    return next((cause for cause, pattern in _CAUSES if pattern.search(reason)), OTHER)
