"""A node that only takes time: the real batches, and the time of the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from abhinaya.bench.capacity.demand import Group
from abhinaya.bench.capacity.simulation.events import Events
from abhinaya.models.labels import LABELS
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.hub.validation import TRANSCRIBER
from abhinaya.stream.node.batching import Batcher
from abhinaya.stream.settings.config import WorkerConfig
from abhinaya.stream.wire.messages import Cancel, Ready, Service, Task, Transcript, Vote

Answer = Vote | Transcript
EVEN: Final = (1 / len(LABELS),) * len(LABELS)


class Pool:
    """A server with GPUs that the nodes of a cell ask: its share of the requests at a time."""

    def __init__(self, slots: float, batch_s: float) -> None:
        self._slots, self._batch_s = slots, batch_s
        self.asked = 0

    def seconds(self) -> float:
        """Return how long an answer takes now: longer if more wait than fit."""
        return self._batch_s * max(1.0, self.asked / self._slots)


class SimNode:
    """One node: it answers with all services of a task when its batch is done."""

    def __init__(
        self,
        name: str,
        group: Group,
        worker: WorkerConfig,
        events: Events,
        answer: Callable[[float, str, Sequence[Answer]], None],
        pool: Pool | None = None,
    ) -> None:
        self.name, self.group, self.worker = name, group, worker
        self._events, self._answer, self._pool = events, answer, pool
        wait_s = worker.max_wait_ms / 1000
        self._batcher = Batcher(worker.max_batch, to_samples(worker.max_padded_s), wait_s)
        self._began: float | None = None
        self.busy_s = 0.0
        self.done = 0

    def ready(self) -> Ready:
        """Return its introduction."""
        trial_ms = None if self._pool else 1000 * self.group.alone_s
        common: dict[str, Any] = {"model": "simulated", "version": "0", "licence": "none"}
        gives = tuple(
            Service(
                name=service,
                kind="transcript" if service == TRANSCRIBER else "vote",
                needs=self.group.needs[service],
                labels=() if service == TRANSCRIBER else LABELS,
                stateful=service in self.group.stateful,
                trial_ms=trial_ms and trial_ms / len(self.group.services),
                **common,
            )
            for service in self.group.services
        )
        held = 2 * self.worker.max_batch
        return Ready(node=self.name, incarnation="0", gives=gives, credits=held)

    def work_age_s(self, now: float) -> float | None:
        """Return for how long it has worked on its batch; None if it is idle."""
        return None if self._began is None else now - self._began

    def take(self, now: float, task: Task) -> None:
        """Take a task."""
        self._batcher.add(now, task)
        self._begin(now)

    def cancel(self, cancel: Cancel) -> None:
        """Drop a task that has not begun."""
        self._batcher.cancel((cancel.stream, cancel.sequence), cancel.part)

    def _begin(self, now: float) -> None:
        if self._began is not None:
            return
        batch = [task for _, task in self._batcher.take(now)]
        if not batch:
            if (due := self._batcher.next_due()) is not None:
                self._events.at(due, self._begin)
            return
        took_s = self._seconds(batch)
        self._began = now
        self.busy_s += took_s

        def end(now: float) -> None:
            self._began = None
            self.done += len(batch)
            if self._pool:
                self._pool.asked -= min(len(batch), self.group.batch)
            self._answer(
                now, self.name, [a for task in batch for a in self._answers(task, batch, took_s)]
            )
            self._begin(now)

        self._events.at(now + took_s, end)

    def _seconds(self, batch: Sequence[Task]) -> float:
        if self._pool is None:
            return self.group.speed.seconds([to_seconds(task.end - task.start) for task in batch])
        self._pool.asked += min(len(batch), self.group.batch)
        return -(-len(batch) // self.group.batch) * self._pool.seconds()

    def _answers(self, task: Task, batch: Sequence[Task], took_s: float) -> list[Answer]:
        each_ms = 1000 * took_s / len(self.group.services)
        of: dict[str, Any] = {
            "stream": task.stream,
            "sequence": task.sequence,
            "model": "simulated",
        }
        of |= {"queue_ms": 0.0, "run_ms": each_ms, "batch_size": len(batch)}
        found: list[Answer] = []
        for service in task.services:
            state = b"s" if service in self.group.stateful else b""
            if service == TRANSCRIBER:
                found.append(Transcript(text="words", state=state, **of))
            else:
                vote: dict[str, Any] = {
                    "voter": service,
                    "label": LABELS[0],
                    "probabilities": EVEN,
                    "version": "0",
                }
                found.append(Vote(state=state, **vote, **of))
        return found
