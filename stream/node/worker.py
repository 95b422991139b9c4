"""Runs the models on a batch: converts tasks to model inputs, and outcomes to messages."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from abhinaya.models import registry
from abhinaya.models.asr import Hearing, Transcriber, Transcription, load_transcriber
from abhinaya.models.base import Card, Utterance, Voter
from abhinaya.models.errors import near_miss
from abhinaya.models.trial import attempt, fault_of_answer, utterance
from abhinaya.stream.clock import INT16_FULL_SCALE
from abhinaya.stream.errors import AbhinayaError, ConfigError, ModelError
from abhinaya.stream.node.answers import Answer, Failure, Outcome, sendable
from abhinaya.stream.settings.config import Config, WorkerConfig, guests, workers_of
from abhinaya.stream.wire.messages import (
    Payload,
    Ready,
    Service,
    Task,
)

_LOG = logging.getLogger("abhinaya.node")


class Model(Protocol):
    """A model of a node, with the service that it offers."""

    service: Service

    def run(self, batch: Sequence[Task]) -> Sequence[Outcome]:
        """Return one outcome for each task, in the same order."""
        ...

    def forget(self, stream: str, sequence: int) -> None:
        """Delete the data of the partials of a segment."""
        ...


class Voting:
    """A voter as a `Model`."""

    def __init__(self, name: str, voter: Voter) -> None:
        card: Card = voter.card
        self._voter = voter
        self.service = Service(
            name=name,
            kind="vote",
            needs=tuple(sorted(card.needs)),
            labels=card.labels,
            attributes=card.attributes,
            model=card.model,
            version=card.version,
            licence=card.licence,
            noncommercial=card.noncommercial,
            context_turns=card.context_turns,
            stateful=card.stateful,
            trial=card.trial,
            trial_ms=None if card.served else _trial_ms(lambda: _try_voter(name, voter)),
        )

    def run(self, batch: Sequence[Task]) -> Sequence[Outcome]:
        """Return the votes."""
        return self._voter.vote([self._utterance(task) for task in batch])

    def forget(self, stream: str, sequence: int) -> None:
        """Do nothing: voters keep no data of partials."""

    def _utterance(self, task: Task) -> Utterance:
        needs, turns = self.service.needs, self.service.context_turns
        return Utterance(
            samples=samples_of(task.samples if "audio" in needs else None),
            state=task.states.get(self.service.name, b""),
            transcript=task.transcript or "" if "transcript" in needs else "",
            language=task.language if "transcript" in needs else "",
            context=task.context[-turns:] if turns else (),
            choices=task.choices,
        )


class Transcribing:
    """A transcriber as a `Model`."""

    def __init__(self, name: str, transcriber: Transcriber) -> None:
        self._transcriber = transcriber
        self.service = Service(
            name=name,
            kind="transcript",
            needs=("audio",),
            model=transcriber.model,
            version=transcriber.version,
            licence=transcriber.licence,
            noncommercial=transcriber.noncommercial,
            context_turns=transcriber.context_turns,
            stateful=transcriber.stateful,
            trial_ms=None if transcriber.incremental else _trial_ms(self._try),
            incremental=transcriber.incremental,
        )

    def run(self, batch: Sequence[Task]) -> Sequence[Outcome]:
        """Return the transcripts."""
        return self._transcriber.transcribe([self._hearing(task) for task in batch])

    def forget(self, stream: str, sequence: int) -> None:
        """Delete the transcriber's data of a segment."""
        self._transcriber.forget(stream, sequence)

    def _hearing(self, task: Task) -> Hearing:
        return Hearing(
            samples=samples_of(task.samples),
            stream=task.stream,
            sequence=task.sequence,
            final=task.final,
            previous=" ".join(task.previous),
            state=task.states.get(self.service.name, b""),
        )

    def _try(self) -> float:
        """Transcribe a second twice; return the time of the second run: the first is slower."""
        for _ in range(2):
            begun = time.perf_counter()
            self._transcriber.transcribe([Hearing(utterance().samples, final=False)])
            took_ms = 1000 * (time.perf_counter() - begun)
            self._transcriber.forget("", 0)
        return took_ms


class Adapter:
    """Runs the models of a node: the transcriber first, then the voters, which read its words."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = sorted(models, key=lambda model: model.service.kind != "transcript")
        self.gives = tuple(model.service for model in self._models)

    def run(self, begun: float, batch: Sequence[tuple[float, Task]]) -> Iterator[list[Answer]]:
        """Yield the answers of one service after the other to a batch of (arrival, task)."""
        tasks = [task for _, task in batch]
        without_words: dict[int, Failure] = {}
        """By index: tasks whose transcription failed."""
        for model in self._models:
            service = model.service
            wanted = [i for i, task in enumerate(tasks) if service.name in task.services]
            failed = [i for i in wanted if i in without_words and "transcript" in service.needs]
            ready = [i for i in wanted if i not in failed]
            if not wanted:
                continue
            started = time.monotonic()
            results = run_safely(model, [tasks[i] for i in ready])
            run_ms = 1000 * (time.monotonic() - started)
            outcomes = dict(zip(ready, results, strict=True))
            outcomes |= {i: without_words[i] for i in failed}
            yield [
                sendable(
                    tasks[i],
                    service,
                    outcome,
                    queue_ms=1000 * (begun - batch[i][0]),
                    run_ms=run_ms,
                    batch_size=len(outcomes),
                )
                for i, outcome in outcomes.items()
            ]
            for i, outcome in outcomes.items() if service.kind == "transcript" else ():
                if isinstance(outcome, Transcription):
                    english = outcome.translation or outcome.text
                    language = "en" if outcome.translation else outcome.language
                    tasks[i] = replace(tasks[i], transcript=english, language=language)
                elif isinstance(outcome, Failure):
                    without_words[i] = Failure(f"no transcript: {outcome.reason}", outcome.retry)

    def forget(self, stream: str, sequence: int) -> None:
        """Delete the data of the partials of a segment; an error is only logged."""
        for model in self._models:
            try:
                model.forget(stream, sequence)
            except Exception as error:
                name = model.service.name
                _LOG.warning("%s could not delete data of partials: %s", name, _named(error))


def run_safely(model: Model, batch: Sequence[Task]) -> Sequence[Outcome]:
    """Run a batch; if it fails, run each task alone, so that a bad task does not harm others."""
    if not batch:
        return []
    try:
        outcomes = model.run(batch)
        if len(outcomes) != len(batch):
            raise ValueError(f"gave {len(outcomes)} answers to {len(batch)} tasks")
        return outcomes
    except Exception as error:  # an error of a model must not end the node
        if len(batch) > 1:
            return [outcome for task in batch for outcome in run_safely(model, [task])]
        _LOG.error("%s failed: %s", model.service.name, _named(error))
        return [Failure(f"{type(error).__name__}: {str(error)[:200]}")]


def load_node(run: Config, service: str, name: str, incarnation: str) -> tuple[Ready, Adapter]:
    """Load the models of a service and its guests; return the node's introduction and its models.

    Raises:
        ConfigError: the profile does not have the service.
        ModelError: a model cannot be loaded.

    """
    workers = workers_of(run)
    if service not in workers:
        reason = f"is not a service of profile {run.profile!r}"
        raise ConfigError(f"service {service!r}", reason, near_miss(service, workers))
    names = [service, *guests(run.voters, service)]
    adapter = Adapter([load_model(each, workers[each]) for each in names])
    held = 2 * workers[service].max_batch  # one batch in work, one that fills
    return Ready(node=name, incarnation=incarnation, gives=adapter.gives, credits=held), adapter


def load_model(service: str, worker: WorkerConfig) -> Model:
    """Load the model of a service.

    Raises:
        ModelError: the model is unknown, missing or damaged, or its options do not fit.

    """
    if service == "asr":
        return Transcribing(service, transcriber_of(worker))
    with _translated(service, worker):
        return Voting(service, registry.load(worker.model, worker.options))


def transcriber_of(worker: WorkerConfig) -> Transcriber:
    """Load a transcriber.

    Raises:
        ModelError: the model is unknown, missing or damaged, or its options do not fit.

    """
    with _translated("asr", worker):
        return load_transcriber(worker.model, worker.options)


@contextlib.contextmanager
def _translated(service: str, worker: WorkerConfig) -> Iterator[None]:
    """Turn any error of loading a model into a `ModelError`."""
    try:
        yield
    except ModelError as error:
        what = f"{error.subject}: {error.reason}" if error.reason else error.subject
        raise ModelError(
            f"{service} ({worker.model})", f"cannot be loaded: {what}", error.remedy
        ) from error
    except AbhinayaError:
        raise
    except Exception as error:  # models may raise any error
        raise ModelError(
            f"{service} ({worker.model})",
            f"cannot be loaded: {error}",
            f"check the options of {service} in the profile",
        ) from error


def samples_of(payload: Payload | None) -> npt.NDArray[np.float32]:
    """Return samples [n] as float32 in [-1, 1]; empty without a payload."""
    if payload is None:
        return np.zeros(0, np.float32)
    array: npt.NDArray[Any] = payload.array()
    if array.dtype == np.int16:
        return array.astype(np.float32) / INT16_FULL_SCALE
    return array


def _try_voter(name: str, voter: Voter) -> float:
    """Return the time of a trial run in ms.

    Raises:
        ModelError: the voter answers wrongly.

    """
    trial = attempt(voter)
    if fault := fault_of_answer(voter, trial.answer):
        raise ModelError(
            f"{name} ({voter.card.model})", fault, "install the model again: its files are damaged"
        )
    return trial.again_ms


def _trial_ms(trial: Callable[[], float]) -> float | None:
    """Return the time of a trial run in ms; None if it failed."""
    try:
        return trial()
    except ModelError:
        raise
    except Exception as error:  # the first segment will show the fault
        _LOG.warning("the trial failed: %s", _named(error))
        return None


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
