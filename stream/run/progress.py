"""What the loop of a run remembers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from abhinaya.stream.errors import AbhinayaError


@dataclass(slots=True)
class Progress:
    """Data of the loop."""

    faults: deque[AbhinayaError] = field(default_factory=lambda: deque(maxlen=1000))
    """Errors that have no remedy in the run, the latest ones: they decide the exit code."""
    fronts_started: bool = False
    draining: bool = False
    late_s: float = 0.0
    """How late the loop is: a busy machine gets less time to drain, so that it ends in time."""
    overloaded: bool = False
    """Whether the user knows that processes starve."""
    given_up: dict[str, AbhinayaError] = field(default_factory=dict)
    """Services whose nodes are all given up, with the error of the last one."""
    gone: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Fronts that no process replaces, with the reason and the time."""
