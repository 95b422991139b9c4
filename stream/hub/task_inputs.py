"""Builds the task for a node: audio, transcripts and states that its services need. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from abhinaya.stream.hub.segments import Record
from abhinaya.stream.hub.validation import REFINER
from abhinaya.stream.wire.messages import Service, Task


def task_of(record: Record, services: Sequence[Service]) -> Task:
    """Return a task for some services of a node."""
    item, stream = record.item, record.stream
    needs = {need for service in services for need in service.needs}
    transcribes = [s.context_turns for s in services if s.kind == "transcript"]
    turns = max((s.context_turns for s in services if s.kind == "vote"), default=0)
    stateful = [service.name for service in services if service.stateful]
    transcript = None if transcribes or "transcript" not in needs else record.transcript
    earlier = sorted(s for s in stream.transcripts if s < item.sequence)[-turns:] if turns else []
    return Task(
        stream=stream.id,
        sequence=item.sequence,
        part=item.part,
        services=tuple(service.name for service in services),
        start=item.start,
        end=item.end,
        samples=item.samples if "audio" in needs else None,
        transcript=transcript.english if transcript else None,
        language=transcript.english_language if transcript else "",
        previous=_previous(record, max(transcribes, default=0)),
        context=tuple(stream.transcripts[sequence].english for sequence in earlier),
        choices=record.choices if REFINER in (s.name for s in services) else (),
        states=stream.states_before(item.sequence, stateful),
    )


def _previous(record: Record, turns: int) -> tuple[str, ...]:
    """Return the texts of the segments just before this one, in order, as the transcriber's prompt.

    Going back in time, it stops at the first segment without words.
    """
    transcripts, sequence = record.stream.transcripts, record.item.sequence - 1
    texts: list[str] = []
    while len(texts) < turns and sequence in transcripts:
        texts.append(transcripts[sequence].text)
        sequence -= 1
    return tuple(reversed(texts))
