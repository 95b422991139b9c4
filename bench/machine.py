"""Facts about the machine, and processor time and memory of processes, by psutil."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

GONE = (psutil.NoSuchProcess, psutil.AccessDenied)


def facts() -> dict[str, Any]:
    """Return processor, cores, memory and versions, which a reader needs to compare figures."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "processor": next(names, platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
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
    """Return the busy and the idle processor seconds of all cores together."""
    times = psutil.cpu_times()
    idle = times.idle + times.iowait
    return times.user + times.system + times.nice + times.irq + times.softirq + times.steal, idle


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds that a process has used; 0 if it has ended."""
    return _read(pid, lambda process: sum(process.cpu_times()[:2]))


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process; 0 if it has ended."""
    return _read(pid, lambda process: process.memory_info().rss / 2**20)


def pss_mib(pid: int) -> float:
    """Return the proportional set size (PSS) of a process; 0 if it has ended."""
    return _read(pid, lambda process: process.memory_full_info().pss / 2**20)


def _read(pid: int, value: Callable[[psutil.Process], float]) -> float:
    try:
        return float(value(psutil.Process(pid)))
    except GONE:
        return 0.0
