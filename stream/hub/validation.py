"""Validation of messages from fronts and nodes: each function returns the fault as text. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from abhinaya.models.labels import LABELS
from abhinaya.models.vote.combiner import Combiner
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.wire.messages import Failed, Gap, Ready, Segment, Service, Transcript, Vote

TRANSCRIBER: Final = "asr"
"""Name of the service that [asr] of the profile describes."""

REFINER: Final = "refiner"
"""Name of the service that [refiner] of the profile describes."""

LONGEST_SAMPLES: Final = to_samples(10)

FURTHEST_SAMPLES: Final = 2**40
"""Maximum length of the gap for a refused item: two years."""

LONGEST_NAME: Final = 256
"""Maximum bytes of the name of a front or node: the status repeats it."""

LONGEST_REASON: Final = 1000
"""Maximum characters of a reason of a peer: a verdict with all reasons must fit into a message."""

LONGEST_TRANSCRIPT: Final = 2000
"""Maximum characters, and maximum words, of a transcript: a verdict must fit into a message."""

LONGEST_STATE: Final = 64 * 1024
"""Maximum bytes of a state."""

MAX_SERVICES: Final = 8
"""Maximum services of a node: their states must fit into one task (codec.MAX_STATES_BYTES)."""


def are_valid_sequences(sequences: Iterable[int]) -> bool:
    """Whether all are valid first sequence numbers: not negative, and far from overflow."""
    return all(0 <= sequence < 2**62 for sequence in sequences)


def fault_of_name(name: str) -> str:
    """Return why a process cannot have this name; empty if it can."""
    size = len(name.encode())
    return f"its name has {size} bytes, more than {LONGEST_NAME}" if size > LONGEST_NAME else ""


def fault_of_item(position: int, item: Segment | Gap) -> str:
    """Return the fault of the next item of a stream that ends at `position`; empty if valid."""
    if item.start < position or item.end < item.start:
        return "it overlaps the item before"
    if isinstance(item, Gap):
        return ""
    length = item.end - item.start
    if item.part < 0:
        return f"its part is {item.part}, below 0"
    if not 0 < length <= LONGEST_SAMPLES:
        return f"it is {to_seconds(length):.2f} s long, not up to 10 s"
    if item.samples.shape != (length,):
        return f"it has samples of shape {item.samples.shape}, not ({length},)"
    return ""


def in_place_of(item: Segment | Gap, position: int, fault: str) -> Gap:
    """Return the gap that replaces a refused item of a stream that ends at `position`."""
    end = max(position, min(item.end, position + FURTHEST_SAMPLES))
    return Gap(
        stream=item.stream,
        sequence=item.sequence,
        start=min(item.start, end),
        end=end,
        reason=f"refused by the hub: {fault}",
    )


def fault_of_node(ready: Ready, services: frozenset[str], combiner: Combiner | None = None) -> str:
    """Return why a node cannot join a run with these services and combiner; empty if it can."""
    names = [service.name for service in ready.gives]
    if not names:
        return "it has no services"
    if len(set(names)) < len(names):
        return "it has a service twice"
    if len(names) > MAX_SERVICES:
        return f"it has {len(names)} services, more than {MAX_SERVICES}"
    if REFINER in names and len(names) > 1:
        return f"{REFINER} must not share its process with other services"
    if fault := fault_of_name(ready.node):
        return fault
    faults = (_fault_of_service(service, services, combiner) for service in ready.gives)
    return next((fault for fault in faults if fault), "")


def _fault_of_service(service: Service, services: frozenset[str], combiner: Combiner | None) -> str:
    name = service.name
    if name not in services:
        return f"{name!r} is not a service of this run ({', '.join(sorted(services))})"
    kind = "transcript" if name == TRANSCRIBER else "vote"
    if service.kind != kind:
        return f"{name} must give a {kind}, not a {service.kind}"
    foreign = sorted(set(service.labels) - set(LABELS))
    if foreign:
        return f"labels {', '.join(foreign)} are not among the eight"
    if kind == "vote" and not service.labels and (name == REFINER or not service.attributes):
        return f"{name} announces no labels"
    if service.trial and len(service.trial) != len(LABELS):
        return (
            f"{name} announces {len(service.trial)} probabilities for its trial, not {len(LABELS)}"
        )
    if kind == "transcript" and "transcript" in service.needs:
        return f"{name} needs a transcript, but is the transcriber"
    if name == REFINER and service.stateful:
        return f"{name} is asked about single segments and cannot keep a state"
    fits = combiner is not None and (service.labels or name in combiner.members)
    if combiner is None or not fits or name == REFINER:
        return ""
    fault = combiner.fault(name, service.model, service.version)
    return fault and f"{fault}: fit vote.combiner again, or use the model that it was fitted on"


def fault_of_answer(gives: Mapping[str, Service], answer: Vote | Transcript | Failed) -> str:
    """Return why an answer of a node with these services is invalid; empty if it is valid."""
    service = gives.get(service_of(answer))
    if service is None:
        return f"a node of {', '.join(gives)} answered as {service_of(answer)}"
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
    if answer.attributes is not None and not service.attributes:
        return f"{service.name} gave attributes, which it did not announce"
    rates = answer.attributes is not None and answer.probabilities is None
    if not answer.label and rates and service.name != REFINER:
        return ""
    if answer.label not in service.labels:
        return f"{service.name} voted {answer.label!r}, which it did not announce"
    return _fault_of_probabilities(service.name, answer.probabilities)


def service_of(answer: Vote | Transcript | Failed) -> str:
    """Return the name of the service that gave an answer."""
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
