"""Clocks: samples are the clock of a stream, seconds are for people.

Wall-clock times of a run come from `unix_time`, which never jumps: it reads the wall clock once and
then counts running time. All processes of a run share that one reading, so differences of their
times are true even if somebody sets the system's clock meanwhile. No other file reads that clock.
"""

from __future__ import annotations

import os
import time
from typing import Final

from abhinaya.models import base

SAMPLE_RATE: Final = base.SAMPLE_RATE
"""Samples per second of every stream, after its source has resampled it."""

INT16_FULL_SCALE: Final = 32768.0
"""Divisor that converts an int16 sample to a float in [-1, 1)."""

OFFSET: Final = "ABHINAYA_CLOCK"
"""Environment variable by which the supervisor hands its clock to the processes of the run."""


def running_s() -> float:
    """Return seconds of a clock that nobody can set, and that counts while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC_RAW))


_offset: Final = float(os.environ.get(OFFSET) or time.time() - running_s())


def unix_time() -> float:
    """Return the wall-clock time in Unix seconds, as it was set when the run began."""
    return _offset + running_s()


def handed_on() -> dict[str, str]:
    """Return the environment that gives a child process this clock."""
    return {OFFSET: repr(_offset)}


def to_samples(seconds: float) -> int:
    """Return the number of samples nearest to `seconds`."""
    return round(seconds * SAMPLE_RATE)


def to_seconds(samples: int) -> float:
    """Return the duration of `samples` in seconds."""
    return samples / SAMPLE_RATE
