"""Looks at a process of this machine: its processor time, its state, and what the machine has left.

Linux only; elsewhere there is no evidence, and the wall clock decides.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from abhinaya.stream.hub.watch import Sample

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


def look(pid: int) -> Sample | None:
    """Return a look at a process; None if the system does not show it."""
    try:
        fields = _fields(_PROC / str(pid) / "stat")
        states = {fields[0]}
        for thread in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):  # the thread has ended
                states.add(_fields(thread / "stat")[0])
        idle_s = _idle_s(pid)
    except OSError:
        return None
    # a stopped process may still have a thread that has not noticed
    state = next((s for s in "TRD" if s in states), "S") if "t" not in states else "T"
    cpu_s = (int(fields[11]) + int(fields[12])) * _TICK_S
    return Sample(time.monotonic(), cpu_s, state, idle_s)


def _fields(path: Path) -> list[str]:
    """Return the fields of a `stat` file from the state on; the name before may have spaces."""
    return path.read_text("utf-8", "replace").rpartition(")")[2].split()


def _idle_s(pid: int) -> float:
    """Return the idle seconds so far of the processors that a process may use."""
    allowed = {f"cpu{number}" for number in os.sched_getaffinity(pid)}
    lines = (line.split() for line in (_PROC / "stat").read_text("ascii").splitlines())
    return sum(int(w[4]) + int(w[5]) for w in lines if w and w[0] in allowed) * _TICK_S
