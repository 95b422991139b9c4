"""Decides how many nodes a service has: up by the age of its oldest segment, down when idle. Pure.

No flapping: a node is removed only if the others would be half idle, and if a removed node had to
come back, the next removal waits twice as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from abhinaya.stream.cluster.config import ScalingConfig

SPARE: Final = 0.5
"""Share of the time that the remaining nodes may be busy when one is removed."""

LONGEST: Final = 16
"""The longest wait for a removal, in multiples of `down_s`."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the hub of a cell says about a service."""

    oldest_s: float
    """Age of the oldest segment that waits for it, or that a node works on."""
    busy: int
    """How many of its nodes have work now."""
    coming: bool
    """Whether a node of it has yet to become ready: its effect is not seen."""


class Scaler:
    """The number of nodes of one service in one cell.

    Args:
        config: the limits.
        target: nodes that it has.

    """

    def __init__(self, config: ScalingConfig, target: int) -> None:
        self.config = config
        self.target = target
        self._busy = float(target)
        """Mean number of busy nodes; a new service counts as busy."""
        self._last: float | None = None
        self._late_since: float | None = None
        self._calm_since: float | None = None
        self._wait_s = config.down_s
        self._removed = -math.inf

    def decide(self, now: float, load: Load, least: int, most: int) -> int:
        """Return how many nodes the service shall have, from `least` to `most`."""
        self._average(now, load)
        late = load.oldest_s > self.config.up_s
        calm = not late and self._busy <= SPARE * (self.target - 1)
        if not late or load.coming:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        if not calm:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        if self._has_lasted(now, self._late_since, self.config.hold_s) and self.target < most:
            self._add(now)
        elif self._has_lasted(now, self._calm_since, self._wait_s) and self.target > least:
            self._remove(now)
        self.target = max(least, min(most, self.target))
        return self.target

    def _average(self, now: float, load: Load) -> None:
        passed_s = 0.0 if self._last is None else now - self._last
        self._last = now
        share = -math.expm1(-10.0 * passed_s / self.config.down_s)
        self._busy += share * (load.busy - self._busy)

    @staticmethod
    def _has_lasted(now: float, since: float | None, seconds: float) -> bool:
        return since is not None and now - since >= seconds

    def _add(self, now: float) -> None:
        self.target += 1
        self._late_since = self._calm_since = None
        if now - self._removed < 2 * self._wait_s:
            self._wait_s = min(2 * self._wait_s, LONGEST * self.config.down_s)
            self._removed = -math.inf

    def _remove(self, now: float) -> None:
        if now - self._removed > 4 * self._wait_s:
            self._wait_s = max(self.config.down_s, self._wait_s / 2)
        self.target -= 1
        self._calm_since, self._removed = None, now
