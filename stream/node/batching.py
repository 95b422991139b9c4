"""Groups the tasks of a node into batches. Pure.

A batch closes when it is full, when its padded length would pass the limit, or when its oldest task
has waited long enough. That wait adapts to the load: 0 while batches have one task, up to the limit
when batches are full.

Partials come last: one at a time, and only when no other task waits.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from abhinaya.stream.hub.segments import Key
from abhinaya.stream.wire.messages import Task

SMOOTHING: Final = 0.3
"""Weight of the latest batch in the running mean of the load."""


class Batcher:
    """Tasks of a node that have not begun.

    Args:
        max_batch: maximum tasks in a batch.
        max_padded_samples: maximum padded length of a batch: longest task times number of tasks.
        max_wait_s: longest wait of a task, under full load.

    """

    def __init__(self, max_batch: int, max_padded_samples: int, max_wait_s: float) -> None:
        self._max_batch = max_batch
        self._max_padded_samples = max_padded_samples
        self._max_wait_s = max_wait_s
        self._tasks: dict[Key, tuple[float, Task]] = {}
        self._parts: dict[Key, tuple[float, Task]] = {}
        self._load = 0.0

    def __len__(self) -> int:
        return len(self._tasks) + len(self._parts)

    def add(self, now: float, task: Task) -> None:
        """Add a task; join it with a waiting task for the same segment or partial."""
        tasks, key = self._tasks if task.final else self._parts, (task.stream, task.sequence)
        known = tasks.get(key)
        if known is None or known[1].part != task.part:
            tasks[key] = (now, task)
        else:
            tasks[key] = (known[0], _joined(known[1], task))

    def cancel(self, key: Key, part: int = 0) -> list[Task]:
        """Remove a partial, or with part 0 all tasks of a segment; return the removed tasks."""
        dropped = [] if part else [self._tasks.pop(key, None)]
        if key in self._parts and part in (0, self._parts[key][1].part):
            dropped.append(self._parts.pop(key))
        return [entry[1] for entry in dropped if entry]

    def clear(self) -> None:
        """Remove all tasks."""
        self._tasks.clear()
        self._parts.clear()

    def take(self, now: float) -> list[tuple[float, Task]]:
        """Return the next batch as (arrival, task), sorted by length; empty while it still fills.

        Call it only while the worker is idle.
        """
        if not self._tasks and self._parts:
            return [self._parts.pop(next(iter(self._parts)))]
        if not self._tasks or now < self._due():
            return []
        batch = self._fill()
        for _, task in batch:
            del self._tasks[task.stream, task.sequence]
        share = (len(batch) - 1) / max(1, self._max_batch - 1)
        self._load += SMOOTHING * (share - self._load)
        return sorted(batch, key=lambda entry: _length(entry[1]))

    def next_due(self) -> float | None:
        """Return when `take` will return a batch without further tasks; None without tasks."""
        if not self._tasks and self._parts:
            return next(iter(self._parts.values()))[0]
        return self._due() if self._tasks else None

    def _due(self) -> float:
        oldest = min(arrival for arrival, _ in self._tasks.values())
        longest = max(_length(task) for _, task in self._tasks.values())
        one_more = len(self._tasks) + 1
        if one_more > self._max_batch or longest * one_more > self._max_padded_samples:
            return oldest  # no further task would fit
        return oldest + self._max_wait_s * self._load

    def _fill(self) -> list[tuple[float, Task]]:
        """Return the oldest task, so that none starves, and others of similar length."""
        entries = sorted(self._tasks.values(), key=lambda entry: entry[0])
        length = _length(entries[0][1])
        others = sorted(entries[1:], key=lambda entry: abs(_length(entry[1]) - length))
        batch = [entries[0]]
        longest = length
        for entry in others:
            longest = max(longest, _length(entry[1]))
            if len(batch) == self._max_batch:
                break
            if longest * (len(batch) + 1) > self._max_padded_samples:
                break
            batch.append(entry)
        return batch


def _length(task: Task) -> int:
    return task.end - task.start


def _joined(first: Task, second: Task) -> Task:
    """Join two tasks on the same segment for different services."""
    with_words = second if second.transcript is not None else first
    return replace(
        first,
        services=tuple(dict.fromkeys((*first.services, *second.services))),
        samples=first.samples or second.samples,
        transcript=with_words.transcript,
        language=with_words.language,
        previous=max(first.previous, second.previous, key=len),
        context=max(first.context, second.context, key=len),
        states=first.states | second.states,
    )
