"""A thread that delivers, so that who raises an alert never waits for who receives it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

DEPTH: Final = 64
"""Alerts that may wait for one command or webhook; more are dropped, counted, and reported."""


@dataclass(frozen=True, slots=True)
class Job:
    """One alert to deliver."""

    body: bytes
    """The event as JSON."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The same in every try, so that a receiver notices a repetition."""


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
        say: gets, from that thread too, what went wrong.

    """

    def __init__(self, courier: Courier, say: Callable[[str], None]) -> None:
        self._courier = courier
        self._say = say
        self._waiting: queue.Queue[Job | None] = queue.Queue(DEPTH)
        self._left = 0
        """Alerts that were taken and not delivered yet."""
        self._lock = threading.Lock()
        self._closing = False
        self._stop = threading.Event()
        self._dropped = 0
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def offer(self, job: Job) -> None:
        """Take an alert, or drop it if too many wait; never wait."""
        try:
            self._count(1)
            self._waiting.put_nowait(job)
        except queue.Full:
            self._count(-1)
            self._dropped += 1
            if self._dropped == 1:
                self._say(f"alerts are dropped: {DEPTH} wait already")

    def close(self, deadline: float) -> None:
        """Let what waits be delivered until `deadline` (monotonic seconds), then give up."""
        self._closing = True
        with contextlib.suppress(queue.Full):  # then the thread is not waiting for one
            self._waiting.put_nowait(None)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        left = self._left
        self._stop.set()
        if left:
            self._say(f"{_alerts(left)} not delivered: the run is over")
        if self._dropped:
            self._say(f"{_alerts(self._dropped)} dropped in all")
        self._thread.join(1.0)

    def _loop(self) -> None:
        while not (self._stop.is_set() or (self._closing and self._waiting.empty())):
            job = self._waiting.get()
            if job is None:
                return
            try:
                self._courier.deliver(job, self._stop)
            except DeliveryError as error:
                if not self._stop.is_set():
                    self._say(f"an alert was not delivered: {error}")
            except Exception as error:  # a fault of ours must not end the deliveries
                self._say(f"an alert was not delivered: {type(error).__name__}: {error}")
            finally:
                self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._left += change


def _alerts(number: int) -> str:
    return "1 alert was" if number == 1 else f"{number} alerts were"
