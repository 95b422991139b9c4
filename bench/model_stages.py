"""Where a voter's time goes: each stage of it, for a batch together and for its segments alone.

A batch gains where single segments leave the machine idle between small operations, and nowhere
else; stage by stage one sees which is which. Padding is work as well: what a batch pads to its
longest segment, and what SALMONN pads to Whisper's 30 s in any case.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

from abhinaya.bench.model_subjects import Stage, Subject, waves
from abhinaya.models.inference import Place

REST: Final = "the rest"
"""Preparing inputs, putting parts together, scores to the CPU."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of a voter with mixed lengths; the best time of each way."""

    voter: str
    stage: str
    together_ms: float
    one_by_one_ms: float


def padding_share(subject: Subject, lengths_s: Sequence[float]) -> float:
    """Return the share of what a batch computes that is padding: 0 to 1."""
    window_s = subject.window_s or max(lengths_s)
    return 1 - sum(lengths_s) / (window_s * len(lengths_s))


def measure_stages(
    subject: Subject, lengths_s: Sequence[float], repeats: int, where: Place
) -> list[StageTime]:
    """Measure every stage of a voter, and what remains; none for a subject without stages."""
    if not subject.stages:
        return []
    best: dict[str, list[float]] = {}
    # Noise of its own: the shared encoders remember what others have measured.
    own = zlib.crc32(subject.name.encode())
    for seed in range(repeats):
        together = _run(subject, [lengths_s], [own, seed, 0], where)
        apart = _run(subject, [[length] for length in lengths_s], [own, seed, 1], where)
        for name in together:
            known = best.setdefault(name, [together[name], apart[name]])
            best[name] = [min(known[0], together[name]), min(known[1], apart[name])]
    return [StageTime(subject.name, name, 1000 * a, 1000 * b) for name, (a, b) in best.items()]


def _run(
    subject: Subject, batches: Sequence[Sequence[float]], seed: Sequence[int], where: Place
) -> dict[str, float]:
    """Return the seconds of each stage over all batches."""
    spent = {stage.name: 0.0 for stage in subject.stages}
    made = [waves(lengths_s, [*seed, i]) for i, lengths_s in enumerate(batches)]
    with ExitStack() as timed, torch.inference_mode():
        for stage in subject.stages:
            timed.enter_context(_timed(stage, spent, where))
        begun = _now(where)
        for batch in made:
            subject.run(batch)
        spent[REST] = _now(where) - begun - sum(spent.values())
    return spent


@contextmanager
def _timed(stage: Stage, spent: dict[str, float], where: Place) -> Iterator[None]:
    """Add up what a method takes while this lasts."""
    method = getattr(stage.of, stage.method)

    def clocked(*args: Any, **kwargs: Any) -> Any:
        begun = _now(where)
        result = method(*args, **kwargs)
        spent[stage.name] += _now(where) - begun
        return result

    setattr(stage.of, stage.method, clocked)
    try:
        yield
    finally:
        setattr(stage.of, stage.method, method)


def _now(where: Place) -> float:
    if where.device.type == "cuda":
        torch.cuda.synchronize(where.device)
    return time.perf_counter()
