"""Tells a process that is stuck from one that only gets too little processor time. Pure.

A process that is silent, or long in one batch, is suspected. The evidence is its processor time:
one that works, or that wants to and cannot because the machine is overloaded, gets the time that
its limit would be if it had a processor to itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

EVIDENCE_S: Final = 1.0
"""Seconds of observation before anything but a frozen process is judged."""

LEAST: Final = 0.02
"""Share of a processor below which a process does not work: heartbeats cost less."""

SPARE: Final = 0.5
"""Processors that must be idle, on average, for a machine that is not overloaded."""

LONGEST: Final = 30
"""How many times its limit a starved process may take."""


class Finding(Enum):
    """What is wrong with a suspected process."""

    UNCLEAR = ""
    STARVED = "it gets too little processor time"
    STUCK = "it hangs"
    LOOPING = "it does not finish"
    FROZEN = "it is stopped"

    @property
    def deadly(self) -> bool:
        """Whether the process must be ended."""
        return self in (Finding.STUCK, Finding.LOOPING, Finding.FROZEN)


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at a process."""

    at: float
    """Seconds of a monotonic clock."""
    cpu_s: float
    """Processor seconds of the process so far."""
    state: str = ""
    """R: a thread runs or wants to; D: one waits for the disk; S: all sleep; T: stopped;
    empty: unknown."""
    idle_s: float | None = None
    """Idle processor seconds of the machine so far; None: unknown."""


@dataclass(slots=True)
class Suspicion:
    """A process that is silent or slow, and the evidence."""

    reason: str
    limit_s: float
    """Seconds that a process with a processor to itself may take."""
    used_s: float = 0.0
    """Processor seconds that it had used when it was suspected, of those that count."""
    finding: Finding = Finding.UNCLEAR
    since: float = 0.0
    """Time of the first look."""
    first: Sample | None = None
    """The look that began the current second of evidence."""
    waiting: bool = False
    """Whether a look of this second has found it waiting for a processor or the disk."""

    def judge(self, sample: Sample | None) -> Finding:
        """Return what a new look at the process shows; None: it cannot be looked at."""
        if sample is None:
            return Finding.STUCK  # as good as the system allows: by the wall clock alone
        if sample.state == "T":
            return Finding.FROZEN
        if self.first is None:
            self.since, self.first = sample.at, sample
        self.waiting |= sample.state in ("R", "D")
        took_s, used_s = sample.at - self.first.at, sample.cpu_s - self.first.cpu_s
        if self.used_s + used_s >= self.limit_s:
            return Finding.LOOPING
        if took_s >= EVIDENCE_S:
            self.finding = self._weigh(sample, used_s / took_s, _idle(self.first, sample))
            self.used_s, self.first, self.waiting = self.used_s + used_s, sample, False
        return self.finding

    def _weigh(self, sample: Sample, used: float, idle: float) -> Finding:
        """Judge a second in which the process used, and the machine left idle, such processors."""
        if idle >= SPARE:  # it could have had what it needs
            return Finding.LOOPING if used >= SPARE else Finding.STUCK
        patient = sample.at - self.since < LONGEST * self.limit_s
        return Finding.STARVED if patient and (used >= LEAST or self.waiting) else Finding.STUCK


def _idle(first: Sample, last: Sample) -> float:
    """Return how many processors were idle between two looks; 0 if unknown."""
    if first.idle_s is None or last.idle_s is None:
        return 0.0
    return (last.idle_s - first.idle_s) / max(1e-9, last.at - first.at)
