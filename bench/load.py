"""How much of the processor others used while we measured: a figure taken beside others is none."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

QUIET: Final = 0.1
"""Share of the machine that others may use for it to count as quiet."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Processor seconds used up to one moment."""

    all_s: float
    """By everything on the machine, all cores together; stolen time counts as used."""
    idle_s: float
    ours_s: float


def busy(pids: Iterable[int]) -> Busy:
    """Read the counters; `pids` are ours, besides this process."""
    user, nice, system, idle, wait, irq, soft, steal = (
        int(field) / TICKS_PER_S for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    ours = sum(cpu_seconds(pid) for pid in {os.getpid(), *pids})
    return Busy(user + nice + system + irq + soft + steal, idle + wait, ours)


def others_share(before: Busy, after: Busy) -> float:
    """Give the share of the whole machine that processes not ours used between two moments."""
    used = after.all_s - before.all_s
    whole = used + after.idle_s - before.idle_s
    return max(0.0, used - (after.ours_s - before.ours_s)) / whole if whole > 0 else 0.0


def wait_for_quiet(limit_s: float) -> None:
    """Wait for a second in which others use hardly anything, but no longer than `limit_s`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        before = busy(())
        time.sleep(1.0)
        if others_share(before, busy(())) < QUIET:
            return


def cpu_seconds(pid: int) -> float:
    """Give the processor seconds a process has used; 0 if it is gone."""
    try:
        # the name in parentheses may hold spaces; utime and stime are fields 14 and 15
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
