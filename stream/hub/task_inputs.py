"""What a node is given to work on: a segment, what was said in it and before, and states. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from abhinaya.stream.hub.segments import Record
from abhinaya.stream.hub.validation import REFINER
from abhinaya.stream.wire.messages import Service, Task


def task_of(record: Record, services: Sequence[Service]) -> Task:
    """Return a segment as a task for some of a node's services."""
    item, stream = record.item, record.stream
    needs = {need for service in services for need in service.needs}
    transcribes = [s.context_turns for s in services if s.kind == "transcript"]
    turns = max((s.context_turns for s in services if s.kind == "vote"), default=0)
    stateful = [service.name for service in services if service.stateful]
    handed = None if transcribes or "transcript" not in needs else record.transcript
    before = sorted(s for s in stream.said if s < item.sequence)[-turns:] if turns else []
    return Task(
        stream=item.stream,
        sequence=item.sequence,
        part=item.part,
        services=tuple(service.name for service in services),
        start=item.start,
        end=item.end,
        samples=item.samples if "audio" in needs else None,
        transcript=handed.english if handed else None,
        language=handed.english_language if handed else "",
        previous=_previous(record, max(transcribes, default=0)),
        context=tuple(stream.said[sequence].english for sequence in before),
        choices=record.choices if REFINER in (s.name for s in services) else (),
        states=stream.states_before(item.sequence, stateful),
    )


def _previous(record: Record, turns: int) -> tuple[str, ...]:
    """Return what was said just before: a transcriber goes on from the very text before.

    What a guard dropped must not be passed over: there it ends.
    """
    said, sequence = record.stream.said, record.item.sequence - 1
    texts: list[str] = []
    while len(texts) < turns and sequence in said:
        texts.append(said[sequence].text)
        sequence -= 1
    return tuple(reversed(texts))
