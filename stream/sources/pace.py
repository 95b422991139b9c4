"""Give a file's audio no faster than it was spoken, as if it were live."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Final

from abhinaya.stream.clock import SAMPLE_RATE, to_seconds
from abhinaya.stream.sources.base import AudioChunk, Opened

_STEP: Final = SAMPLE_RATE // 50


def pace(
    source: Opened,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Opened:
    """Make `source` live: each 20 ms is given when its last sample would have been spoken."""
    return dataclasses.replace(
        source,
        live=True,
        description=f"{source.description}, paced as live",
        audio=_paced(source.audio, source.start_unix_s, sleep, clock),
    )


def _paced(
    chunks: Iterator[AudioChunk],
    start_unix_s: float,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Iterator[AudioChunk]:
    position = 0
    for chunk in chunks:
        lost = chunk.lost_samples
        for start in range(0, max(1, len(chunk.samples)), _STEP):
            part = chunk.samples[start : start + _STEP]
            position += lost + len(part)
            due = start_unix_s + to_seconds(position)
            if (wait := due - clock()) > 0:
                sleep(wait)
            # A pipe may itself be live, and then its audio cannot be here before it came.
            why = chunk.lost_reason if lost else ""
            yield AudioChunk(part, max(due, chunk.captured_unix_s), lost, why)
            lost = 0
