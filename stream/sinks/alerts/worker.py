"""A thread that delivers, so that who raises an alert never waits for who receives it."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

DEPTH: Final = 64
"""Alerts that may wait for one command or webhook; more are dropped, counted, and told."""


@dataclass(frozen=True, slots=True)
class Job:
    """One alert to deliver."""

    body: bytes
    """The event as JSON."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The same in every try, so that a receiver can tell a repetition."""


class DeliveryError(Exception):
    """An alert could not be delivered; the text says why, without naming the rule."""


class Courier(Protocol):
    """Brings an alert somewhere."""

    def deliver(self, job: Job, stop: threading.Event) -> None:
        """Deliver, with as many tries as it takes; give up when `stop` is set.

        Raises:
            DeliveryError: it was not delivered.

        """
        ...


class Worker:
    """Delivers one alert after the other in a thread of its own.

    Args:
        courier: who delivers.
        say: is told, from that thread too, what went wrong.
        depth: how many alerts may wait.

    """

    def __init__(self, courier: Courier, say: Callable[[str], None], depth: int = DEPTH) -> None:
        self._courier = courier
        self._say = say
        self._depth = depth
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._closing = False
        self._stop = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def offer(self, job: Job) -> None:
        """Take an alert, or drop it if too many wait; never wait."""
        with self._changed:
            full = len(self._waiting) >= self._depth
            if full:
                self.dropped += 1
            else:
                self._waiting.append(job)
                self._changed.notify()
        if full and self.dropped == 1:
            self._say(f"alerts are dropped: {self._depth} wait already")

    def close(self, deadline: float) -> None:
        """Let what waits be delivered until `deadline` (monotonic seconds), then give up."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            left = len(self._waiting) + self._busy
            self._waiting.clear()
        self._stop.set()
        if left:
            self._say(f"{_count(left)} not delivered: the run is over")
        if self.dropped:
            self._say(f"{_count(self.dropped)} dropped in all")
        self._thread.join(1.0)

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._courier.deliver(job, self._stop)
            except DeliveryError as error:
                if not self._stop.is_set():
                    self._say(f"an alert was not delivered: {error}")
            except Exception as error:  # a fault of ours must not end the deliveries
                self._say(f"an alert was not delivered: {type(error).__name__}: {error}")
            finally:
                with self._changed:
                    self._busy = False

    def _next(self) -> Job | None:
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._waiting:
                return None
            self._busy = True
            return self._waiting.popleft()


def _count(number: int) -> str:
    return "1 alert was" if number == 1 else f"{number} alerts were"
