"""What the hub lets in: pure checks of what fronts and nodes say, each fault in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from abhinaya.models.labels import LABELS
from abhinaya.models.vote.combiner import Combiner
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.wire.messages import (
    Failed,
    Gap,
    Ready,
    Segment,
    Service,
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


LONGEST_STATE: Final = 64 * 1024
"""Bytes that a service may keep of a stream."""

MOST_SERVICES: Final = 8
"""Of one node: the states of all of them fit into one task (wire.MAX_TASK_BYTES)."""


def countable(sequences: Iterable[int]) -> bool:
    """Whether these can be first sequence numbers: there is room to count on from them."""
    return all(0 <= sequence < 2**62 for sequence in sequences)


def fault_of_item(position: int, item: Segment | Gap) -> str:
    """Say what is wrong with an item of a stream that has come to `position`, if so."""
    if item.start < position or item.end < item.start:
        return "it overlaps what came before"
    if isinstance(item, Gap):
        return ""
    length = item.end - item.start
    if item.part < 0:
        return f"it is partial number {item.part}"
    if not 0 < length <= LONGEST_SAMPLES:
        return f"it is {to_seconds(length):.2f} s long, not up to 10 s"
    if item.samples.shape != (length,):
        return f"{item.samples.shape} samples came for {length}"
    return ""


def in_place_of(item: Segment | Gap, position: int, fault: str) -> Gap:
    """Return the gap that stands for a refused item of a stream that has come to `position`."""
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
    names = [service.name for service in ready.gives]
    if not names:
        return "it gives nothing"
    if len(set(names)) < len(names):
        return "it gives a service twice"
    if len(names) > MOST_SERVICES:
        return f"it gives {len(names)} services, more than {MOST_SERVICES}"
    if ready.credits < 1:
        return "it takes no tasks"
    if REFINER in names and len(names) > 1:
        return f"{REFINER} shares no process"
    faults = (_fault_of_service(service, services, combiner) for service in ready.gives)
    return next((fault for fault in faults if fault), "")


def _fault_of_service(service: Service, services: frozenset[str], combiner: Combiner | None) -> str:
    name = service.name
    if name not in services:
        return f"{name!r} has no part in this run ({', '.join(sorted(services))})"
    kind = "transcript" if name == TRANSCRIBER else "vote"
    if service.kind != kind:
        return f"{name} must give a {kind}, not a {service.kind}"
    foreign = sorted(set(service.labels) - set(LABELS))
    if foreign:
        return f"labels {', '.join(foreign)} are not of the eight"
    if kind == "vote" and not service.labels:
        return f"{name} announces no labels"
    if kind == "transcript" and "transcript" in service.needs:
        return f"{name} needs what it gives"
    if name == REFINER and service.stateful:
        return f"{name} is asked about single segments and cannot keep a state"
    if combiner is None or kind != "vote" or name == REFINER:
        return ""
    fault = combiner.fault(name, service.model, service.version)
    return fault and f"{fault}: fit vote.combiner again, or use the model that it was fitted on"


def fault_of_answer(gives: Mapping[str, Service], answer: Vote | Transcript | Failed) -> str:
    """Say why an answer of a node that gives these services does not count, if so."""
    service = gives.get(service_of(answer))
    if service is None:
        return f"{', '.join(gives)} answered in the name of {service_of(answer)}"
    if answer.state and not service.stateful:
        return f"{service.name} gave a state, which it did not announce"
    if len(answer.state) > LONGEST_STATE:
        return f"{service.name} gave a state of {len(answer.state)} bytes, over {LONGEST_STATE}"
    if isinstance(answer, Transcript):
        longest = max(len(answer.text), len(answer.translation), len(answer.words))
        return (
            f"{service.name} gave a transcript that is too long"
            if longest > LONGEST_TRANSCRIPT
            else ""
        )
    if isinstance(answer, Failed):
        return ""
    if answer.label not in service.labels:
        return f"{service.name} voted {answer.label!r}, which it did not announce"
    return _fault_of_probabilities(service.name, answer.probabilities)


def service_of(answer: Vote | Transcript | Failed) -> str:
    """Return the service that an answer is of."""
    if isinstance(answer, Transcript):
        return TRANSCRIBER
    return answer.voter if isinstance(answer, Vote) else answer.service


def _fault_of_probabilities(service: str, p: tuple[float, ...] | None) -> str:
    if p is None:
        return ""
    if len(p) != len(LABELS):
        return f"{service} gave {len(p)} probabilities, not {len(LABELS)}"
    if not all(math.isfinite(x) and x >= 0 for x in p) or abs(math.fsum(p) - 1) > 1e-3:
        return f"{service} gave numbers that are not probabilities"
    return ""
