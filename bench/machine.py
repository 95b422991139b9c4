"""The machine, and what processes use of it; psutil knows."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil

GONE = (psutil.NoSuchProcess, psutil.AccessDenied)


def facts() -> dict[str, Any]:
    """Return what a reader needs to compare figures: processor, cores, memory, versions."""
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
    """Return the processor seconds that all cores together were in use, and idle."""
    times = psutil.cpu_times()
    idle = times.idle + times.iowait
    return times.user + times.system + times.nice + times.irq + times.softirq + times.steal, idle


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds a process has used; 0 if it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except GONE:
        return 0.0
    return float(times.user + times.system)


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process; 0 if it is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except GONE:
        return 0.0


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process, shared pages once; 0 if it is gone."""
    try:
        return float(psutil.Process(pid).memory_full_info().pss / 2**20)
    except GONE:
        return 0.0
