"""Turns the outcomes of models into messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from abhinaya.models.asr import Transcription
from abhinaya.models.base import Abstention, Ballot
from abhinaya.models.labels import Attributes
from abhinaya.stream.wire.codec import MAX_WORKER_HEADER_BYTES, Decoder, Encoder
from abhinaya.stream.wire.messages import Failed, Service, Task, Transcript, Vote, Word


@dataclass(frozen=True, slots=True)
class Failure:
    """A task without an answer, and the reason."""

    reason: str
    retry: bool = True
    """Whether another try may succeed."""


CANCELLED: Final = Failure("cancelled", retry=False)

Outcome = Ballot | Abstention | Transcription | Failure
Answer = Vote | Transcript | Failed

_DECODER: Final[Decoder[Answer]] = Decoder(Answer, MAX_WORKER_HEADER_BYTES)


def answer_of(
    task: Task,
    service: Service,
    outcome: Outcome,
    queue_ms: float = 0.0,
    run_ms: float = 0.0,
    batch_size: int = 1,
) -> Answer:
    """Return the outcome of a task as a message."""
    if isinstance(outcome, Abstention | Failure):
        return Failed(
            stream=task.stream,
            sequence=task.sequence,
            service=service.name,
            part=task.part,
            reason=outcome.reason,
            retry=isinstance(outcome, Failure) and outcome.retry,
            state=outcome.state if isinstance(outcome, Abstention) else b"",
        )
    if isinstance(outcome, Ballot):
        rated = outcome.attributes
        return Vote(
            stream=task.stream,
            sequence=task.sequence,
            voter=service.name,
            label=outcome.label,
            probabilities=outcome.probabilities,
            attributes=None if rated is None else Attributes(*map(float, rated)),
            part=task.part,
            model=service.model,
            version=service.version,
            queue_ms=queue_ms,
            run_ms=run_ms,
            batch_size=batch_size,
            state=outcome.state,
        )
    return Transcript(
        stream=task.stream,
        sequence=task.sequence,
        text=outcome.text,
        translation=outcome.translation,
        confidence=outcome.confidence,
        language=outcome.language,
        language_probability=outcome.language_probability,
        words=tuple(
            Word(
                text=word.text,
                start=task.start + word.start,
                end=task.start + word.end,
                confidence=word.confidence,
            )
            for word in outcome.words
        ),
        reason=outcome.reason,
        part=task.part,
        stable=_stable(outcome, task.final),
        model=service.model,
        queue_ms=queue_ms,
        run_ms=run_ms,
        batch_size=batch_size,
        state=outcome.state,
    )


def sendable(task: Task, service: Service, outcome: Outcome, **cost: Any) -> Answer:
    """Return `answer_of`; a `Failed` if a model put values into it that no message may carry.

    The hub would refuse the whole node for such a message.
    """
    try:
        return _DECODER.decode(Encoder().encode(answer_of(task, service, outcome, **cost)))
    except Exception as error:  # a model may return anything
        reason = f"gave an answer that cannot be sent: {error}"
        return answer_of(task, service, Failure(reason[:500], retry=False))


def _stable(transcription: Transcription, final: bool) -> int:
    words = len(transcription.words) or len(transcription.text.split())
    return words if final else min(max(0, transcription.stable), words)
