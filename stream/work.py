"""What a node does with a batch: the seam between the wire and the models."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from abhinaya.models import registry
from abhinaya.models.asr import Hearing, Transcriber, Transcription, load_transcriber
from abhinaya.models.base import Abstention, Ballot, Card, Heard, Utterance, Voter
from abhinaya.models.errors import ModelError as FaultyModelError
from abhinaya.models.trial import attempt
from abhinaya.stream.clock import INT16_FULL_SCALE
from abhinaya.stream.config import WorkerConfig
from abhinaya.stream.errors import AbhinayaError, ModelError
from abhinaya.stream.messages import (
    Failed,
    HeardSoFar,
    Message,
    Payload,
    Ready,
    Task,
    Transcript,
    Vote,
    Word,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one task: exactly one of the three."""

    ballot: Ballot | None = None
    transcription: Transcription | None = None
    failure: str = ""
    retry: bool = False
    """Whether another try could end a failure."""

    def message(
        self, task: Task, ready: Ready, queue_ms: float, run_ms: float, batch_size: int
    ) -> Message:
        """Give the answer as it travels."""
        if self.ballot is not None:
            return Vote(
                stream=task.stream,
                sequence=task.sequence,
                voter=ready.service,
                label=self.ballot.label,
                probabilities=self.ballot.probabilities,
                part=task.part,
                model=ready.model,
                version=ready.version,
                queue_ms=queue_ms,
                run_ms=run_ms,
                batch_size=batch_size,
            )
        if self.transcription is not None:
            return Transcript(
                stream=task.stream,
                sequence=task.sequence,
                text=self.transcription.text,
                confidence=self.transcription.confidence,
                language=self.transcription.language,
                words=tuple(
                    Word(
                        text=word.text,
                        start=task.start + word.start,
                        end=task.start + word.end,
                        confidence=word.confidence,
                    )
                    for word in self.transcription.words
                ),
                reason=self.transcription.reason,
                part=task.part,
                stable=_stable(self.transcription, task.final),
                model=ready.model,
                queue_ms=queue_ms,
                run_ms=run_ms,
                batch_size=batch_size,
            )
        return Failed(
            stream=task.stream,
            sequence=task.sequence,
            service=ready.service,
            part=task.part,
            reason=self.failure,
            retry=self.retry,
        )


class Work(Protocol):
    """What a node needs of the thing it runs."""

    def ready(self, node: str, incarnation: str, tasks: int) -> Ready:
        """Introduce the node, which holds up to `tasks` tasks."""
        ...

    def run(self, batch: Sequence[Task]) -> list[Answer]:
        """Give one answer for each task, in the same order."""
        ...

    def forget(self, stream: str, sequence: int) -> None:
        """Drop what is kept of the parts of a segment."""
        ...


class Voting:
    """A voter at work."""

    def __init__(self, service: str, voter: Voter) -> None:
        self._service = service
        self._voter = voter

    def ready(self, node: str, incarnation: str, tasks: int) -> Ready:
        """Introduce the voter by its card."""
        card: Card = self._voter.card
        return Ready(
            node=node,
            incarnation=incarnation,
            service=self._service,
            needs=tuple(sorted(card.needs)),
            gives="vote",
            labels=card.labels,
            model=card.model,
            version=card.version,
            licence=card.licence,
            noncommercial=card.noncommercial,
            credits=tasks,
            context_turns=card.context_turns,
            trial_ms=None if card.served else _trial_ms(self._voter),
        )

    def run(self, batch: Sequence[Task]) -> list[Answer]:
        """Let the voter vote."""
        return [
            Answer(ballot=vote) if isinstance(vote, Ballot) else _abstained(vote)
            for vote in self._voter.vote([_utterance(task) for task in batch])
        ]

    def forget(self, stream: str, sequence: int) -> None:
        """Do nothing: a voter keeps nothing of a segment."""


class Transcribing:
    """A transcriber at work."""

    def __init__(self, service: str, transcriber: Transcriber) -> None:
        self._service = service
        self._transcriber = transcriber

    def ready(self, node: str, incarnation: str, tasks: int) -> Ready:
        """Introduce the transcriber."""
        return Ready(
            node=node,
            incarnation=incarnation,
            service=self._service,
            needs=("audio",),
            gives="transcript",
            model=self._transcriber.model,
            version=self._transcriber.version,
            licence=self._transcriber.licence,
            noncommercial=self._transcriber.noncommercial,
            credits=tasks,
            context_turns=self._transcriber.context_turns,
            incremental=self._transcriber.incremental,
        )

    def run(self, batch: Sequence[Task]) -> list[Answer]:
        """Let the transcriber transcribe."""
        texts = self._transcriber.transcribe([_hearing(task) for task in batch])
        return [Answer(transcription=text) for text in texts]

    def forget(self, stream: str, sequence: int) -> None:
        """Let the transcriber drop what it keeps of a segment."""
        self._transcriber.forget(stream, sequence)


def load_work(service: str, worker: WorkerConfig) -> Work:
    """Load the model of a service.

    Raises:
        ModelError: it is unknown, missing or damaged, or its options do not fit.

    """
    if service == "asr":
        return Transcribing(service, transcriber_of(worker))
    with _translated(service, worker):
        return Voting(service, registry.load(worker.model, worker.options))


def transcriber_of(worker: WorkerConfig) -> Transcriber:
    """Load a transcriber.

    Raises:
        ModelError: it is unknown, missing or damaged, or its options do not fit.

    """
    with _translated("asr", worker):
        return load_transcriber(worker.model, worker.options)


@contextlib.contextmanager
def _translated(service: str, worker: WorkerConfig) -> Iterator[None]:
    """Turn what loading a model raises into an error of this program."""
    try:
        yield
    except AbhinayaError:
        raise
    except FaultyModelError as error:
        raise ModelError(
            f"{service} ({worker.model})",
            f"cannot be loaded: {error.subject}: {error.reason}",
            error.remedy,
        ) from error
    except Exception as error:  # models know nothing of this program's errors
        raise ModelError(
            f"{service} ({worker.model})",
            f"cannot be loaded: {error}",
            f"check the options of {service} in the profile",
        ) from error


def samples_of(payload: Payload | None) -> npt.NDArray[np.float32]:
    """Give samples [n] as float32 in [-1, 1]; none as an empty array."""
    if payload is None:
        return np.zeros(0, np.float32)
    array: npt.NDArray[Any] = payload.array()
    if array.dtype == np.int16:
        return array.astype(np.float32) / INT16_FULL_SCALE
    return array


def _heard(told: HeardSoFar) -> Heard:
    heard = Heard(told.frames, told.mean.array(), told.std.array())
    if told.habits is None:
        return heard
    return replace(heard, utterances=told.utterances, habits=told.habits.array())


def _utterance(task: Task) -> Utterance:
    return Utterance(
        samples=samples_of(task.samples),
        heard=_heard(task.heard) if task.heard else None,
        transcript=task.transcript or "",
        context=task.context,
        choices=task.choices,
    )


def _hearing(task: Task) -> Hearing:
    return Hearing(
        samples=samples_of(task.samples),
        stream=task.stream,
        sequence=task.sequence,
        final=task.final,
        previous=" ".join(task.context),
    )


def _stable(transcription: Transcription, final: bool) -> int:
    words = len(transcription.words) or len(transcription.text.split())
    return words if final else min(max(0, transcription.stable), words)


def _trial_ms(voter: Voter) -> float | None:
    """Let a voter vote before it counts: the first vote is slow, the second tells its speed."""
    try:
        return attempt(voter).again_ms
    except Exception as error:  # what is wrong with it will show with the first segment
        print(f"the trial failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return None


def _abstained(vote: Abstention) -> Answer:
    return Answer(failure=vote.reason)
