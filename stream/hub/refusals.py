"""Counts refused messages by reason, and logs each reason once. Pure but for the log."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

REASONS: Final = 64
"""Maximum number of reasons that are counted separately: a peer may invent them."""

LONGEST_REASON: Final = 200
"""Maximum characters of a reason: it may quote what a peer has sent."""

_LOG = logging.getLogger("abhinaya.hub")


class Refusals:
    """Refused messages since the start of the hub."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """Count a message that could not be read or is not allowed."""
        reason = reason[:LONGEST_REASON]
        if reason not in self._counts and len(self._counts) >= REASONS:
            reason = "other"
        if reason not in self._counts:
            _LOG.warning("a message was refused: %s (further ones are only counted)", reason)
        self._counts[reason] += 1

    def counts(self) -> dict[str, int]:
        """Return the number of refused messages by reason."""
        return dict(self._counts)
