"""Holes in audio, found by the time stamps of its frames. A pure decider."""

from __future__ import annotations

from typing import Final

HOLE_S: Final = 0.1
"""A larger jump of the time stamps means lost audio; a smaller one is rounding."""
LONGEST_HOLE_S: Final = 3600.0
"""A larger jump means wrong time stamps."""
IN_A_ROW: Final = 16
"""Frames that each begin with a hole, after which the time stamps count as wrong."""


class Timeline:
    """The time stamps of one track.

    Args:
        first_s: time stamp of the first frame; None if there are none.
        position_s: position of the first frame in the stream.

    """

    def __init__(self, first_s: float | None, position_s: float) -> None:
        self._zero_s = None if first_s is None else first_s - position_s
        self._holes = 0
        self.wrong = False
        """Whether the time stamps cannot be true."""

    def hole_s(
        self, time_s: float | None, position_s: float, lost_s: float, longest_s: float
    ) -> float:
        """Return the length of the hole before a frame; 0 if there is none.

        Args:
            time_s: time stamp of the frame.
            position_s: position in the stream of the end of the frame before.
            lost_s: length of damage before the frame that the time stamps leave out.
            longest_s: longest hole that is possible here.

        """
        hole_s = lost_s
        if self._zero_s is not None and not self.wrong:
            self._zero_s -= lost_s
            if time_s is not None:
                hole_s = time_s - self._zero_s - position_s
        if not HOLE_S <= hole_s <= min(longest_s, LONGEST_HOLE_S):
            self._holes = 0
            return 0.0
        self._holes += 1
        self.wrong = self.wrong or self._holes > IN_A_ROW
        return hole_s
