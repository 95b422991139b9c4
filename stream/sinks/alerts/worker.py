"""Delivers alerts in a thread, so that the run never waits for a receiver."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from abhinaya.models.interrupts import INTERRUPTS

DEPTH: Final = 64
"""Number of alerts that may wait for one command or webhook; further ones are dropped."""


@dataclass(frozen=True, slots=True)
class Job:
    """One alert to deliver."""

    body: bytes
    """The event as JSON."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Identifier of the alert, the same in every try, so that a receiver can detect repetitions."""


class DeliveryError(Exception):
    """An alert could not be delivered; the text says why, without naming the rule."""


class AlertSender(Protocol):
    """Sends alerts to one receiver."""

    def deliver(self, job: Job, stop: threading.Event) -> None:
        """Deliver one alert, with retries; give up when `stop` is set.

        Raises:
            DeliveryError: the alert was not delivered.

        """
        ...


class Worker:
    """Delivers one alert after the other in a thread of its own.

    Args:
        sender: delivers the alerts.
        report: called with error messages, also from the thread.

    """

    def __init__(self, sender: AlertSender, report: Callable[[str], None]) -> None:
        self._sender = sender
        self._report = report
        self._waiting: queue.Queue[Job | None] = queue.Queue(DEPTH)
        self._left = 0
        """Number of accepted alerts that are not delivered yet."""
        self._lock = threading.Lock()
        self._closing = False
        self._stop = threading.Event()
        self._dropped = 0
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def offer(self, job: Job) -> None:
        """Queue an alert, or drop it if the queue is full; never block."""
        try:
            self._count(1)
            self._waiting.put_nowait(job)
        except queue.Full:
            self._count(-1)
            self._dropped += 1
            if self._dropped == 1:
                self._report(f"alerts are dropped: {DEPTH} wait already")

    def close(self, deadline: float) -> None:
        """Deliver the queued alerts until `deadline` (monotonic seconds), then give up."""
        self._closing = True
        with contextlib.suppress(queue.Full):  # then the thread is busy, and checks `_closing`
            self._waiting.put_nowait(None)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        left = self._left
        self._stop.set()
        if left:
            self._report(f"{_alerts(left)} not delivered: the run is over")
        if self._dropped:
            self._report(f"{_alerts(self._dropped)} dropped in all")
        self._thread.join(INTERRUPTS.left_s(1.0))

    def _loop(self) -> None:
        while not (self._stop.is_set() or (self._closing and self._waiting.empty())):
            job = self._waiting.get()
            if job is None:
                return
            try:
                self._sender.deliver(job, self._stop)
            except DeliveryError as error:
                if not self._stop.is_set():
                    self._report(f"an alert was not delivered: {error}")
            except Exception as error:  # a bug must not end the deliveries
                self._report(f"an alert was not delivered: {type(error).__name__}: {error}")
            finally:
                self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._left += change


def _alerts(number: int) -> str:
    return "1 alert was" if number == 1 else f"{number} alerts were"
