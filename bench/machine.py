"""What `/proc` says: facts of the machine, and what processes use of it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def facts() -> dict[str, Any]:
    """Return what a reader needs to compare figures: processor, cores, memory, versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def line(machine: dict[str, Any]) -> str:
    """Return the facts as one line under a table."""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Python {machine['python']}"
    )


def machine_seconds() -> tuple[float, float]:
    """Return the processor seconds that all cores together were in use, and idle."""
    user, nice, system, idle, wait, irq, soft, steal = (
        int(field) / TICKS_PER_S for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return user + nice + system + irq + soft + steal, idle + wait


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds a process has used; 0 if it is gone."""
    try:
        # the name in parentheses may hold spaces; utime and stime are fields 14 and 15
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process, shared pages once; 0 if it is gone."""
    try:
        for text in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if text.startswith("Pss:"):
                return int(text.split()[1]) / 1024
    except (OSError, IndexError):
        pass
    return 0.0


def _processor() -> str:
    try:
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
