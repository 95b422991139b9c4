"""What the hub lets in: pure checks of what fronts and nodes say, each fault in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from abhinaya.models.combiner import Combiner
from abhinaya.models.labels import LABELS
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.messages import (
    Gap,
    HeardSoFar,
    Payload,
    Provisional,
    Ready,
    Segment,
    Transcript,
    Vote,
)

TRANSCRIBER: Final = "asr"
"""Name of the service that the profile's [asr] table describes."""

REFINER: Final = "refiner"
"""Name of the service that the [refiner] table describes."""

LONGEST_SAMPLES: Final = to_samples(10)

FURTHEST_SAMPLES: Final = 2**40
"""How far a refused item may move its stream on: two years."""

LONGEST_TRANSCRIPT: Final = 2000
"""Characters, and words: a verdict that carries all of them still fits into a message."""


def countable(sequences: Iterable[int]) -> bool:
    """Whether these can be first sequence numbers: there is room to count on from them."""
    return all(0 <= sequence < 2**62 for sequence in sequences)


def fault_of_item(position: int, item: Segment | Gap | Provisional) -> str:
    """Say what is wrong with an item of a stream that has come to `position`, if so."""
    if item.start < position or item.end < item.start:
        return "it overlaps what came before"
    if isinstance(item, Gap):
        return ""
    length = item.end - item.start
    if isinstance(item, Provisional) and item.part < 1:
        return "it is no part of a segment"
    if not 0 < length <= LONGEST_SAMPLES:
        return f"it is {to_seconds(length):.2f} s long, not up to 10 s"
    if item.samples.shape != (length,):
        return f"{item.samples.shape} samples came for {length}"
    return "" if item.heard is None else _fault_of_heard(item.heard)


def _fault_of_heard(heard: HeardSoFar) -> str:
    if not _are_statistics(heard.mean, heard.std):
        return "its running statistics are no two float32 vectors of one length"
    if heard.habits is not None and not _are_statistics(heard.habits, heard.habits):
        return "its habits are no float32 vector"
    if not 0.0 <= heard.utterances < float("inf"):
        return f"its habits are of {heard.utterances} utterances"
    return ""


def in_place_of(item: Segment | Gap, position: int, fault: str) -> Gap:
    """Give the gap that stands for a refused item of a stream that has come to `position`."""
    end = max(position, min(item.end, position + FURTHEST_SAMPLES))
    return Gap(
        stream=item.stream,
        sequence=item.sequence,
        start=min(item.start, end),
        end=end,
        reason=f"refused by the hub: {fault}",
    )


def fault_of_node(ready: Ready, services: frozenset[str], combiner: Combiner | None = None) -> str:
    """Say why a node cannot take part in a run with these services and combiner, if so."""
    if ready.service not in services:
        return f"{ready.service!r} has no part in this run ({', '.join(sorted(services))})"
    gives = "transcript" if ready.service == TRANSCRIBER else "vote"
    if ready.gives != gives:
        return f"{ready.service} must give a {gives}, not a {ready.gives}"
    foreign = sorted(set(ready.labels) - set(LABELS))
    if foreign:
        return f"labels {', '.join(foreign)} are not of the eight"
    if gives == "vote" and not ready.labels:
        return "it announces no labels"
    if gives == "transcript" and "transcript" in ready.needs:
        return "it needs what it gives"
    if ready.credits < 1:
        return "it takes no tasks"
    if combiner is None or gives != "vote" or ready.service == REFINER:
        return ""
    fault = combiner.fault(ready.service, ready.model, ready.version)
    return fault and f"{fault}: fit vote.combiner again, or use the model that it was fitted on"


def fault_of_answer(service: str, labels: frozenset[str], answer: Vote | Transcript) -> str:
    """Say why an answer of a node that gives `service` does not count, if so."""
    if isinstance(answer, Transcript):
        if service != TRANSCRIBER:
            return f"{service} gives no transcripts"
        too_long = max(len(answer.text), len(answer.words)) > LONGEST_TRANSCRIPT
        return f"{service} gave a transcript without end" if too_long else ""
    if service == TRANSCRIBER:
        return f"{service} gives no votes"
    if answer.voter != service:
        return f"{service} voted in the name of {answer.voter}"
    if answer.label not in labels:
        return f"{service} voted {answer.label!r}, which it did not announce"
    return _fault_of_probabilities(service, answer.probabilities)


def _fault_of_probabilities(service: str, p: tuple[float, ...] | None) -> str:
    if p is None:
        return ""
    if len(p) != len(LABELS):
        return f"{service} gave {len(p)} probabilities, not {len(LABELS)}"
    if not all(math.isfinite(x) and x >= 0 for x in p) or abs(math.fsum(p) - 1) > 1e-3:
        return f"{service} gave numbers that are no probabilities"
    return ""


def _are_statistics(mean: Payload, std: Payload) -> bool:
    return mean.dtype == std.dtype == "float32" and len(mean.shape) == 1 and mean.shape == std.shape
