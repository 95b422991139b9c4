"""Runs a program for an alert: JSON on its standard input, no shell, a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Final

from abhinaya.stream.sinks.alerts.worker import DeliveryError, Job

POLL_S: Final = 0.05
QUOTED_BYTES: Final = 200
"""Number of last bytes of standard error that are searched for an error message."""


@dataclass(frozen=True, slots=True)
class Command:
    """Runs a program for each alert."""

    arguments: Sequence[str]
    timeout_s: float
    """Seconds after which the program is killed, with its child processes."""

    def deliver(self, job: Job, stop: threading.Event) -> None:
        """Run the program once; a second try could repeat its effect.

        Raises:
            DeliveryError: the program does not start, fails, or takes too long.

        """
        name = self.arguments[0]
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(  # noqa: S603 - the user's own command
                    self.arguments,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise DeliveryError(f"{name} cannot be started: {error.strerror}") from error
            if not self._finishes(process, job.body, stop):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise DeliveryError(f"{name} was killed after {self.timeout_s:g} s")
            if process.returncode:
                raise DeliveryError(f"{name} {_end(process.returncode)}{_quoted(errors)}")

    def _finishes(
        self, process: subprocess.Popen[bytes], body: bytes, stop: threading.Event
    ) -> bool:
        deadline = time.monotonic() + self.timeout_s
        data: bytes | None = body
        while time.monotonic() < deadline and not stop.is_set():
            try:
                process.communicate(data, timeout=POLL_S)
            except subprocess.TimeoutExpired:
                data = None  # `communicate` continues with the data of the first call
            else:
                return True
        return False


def _end(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with {code}"


def _quoted(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - QUOTED_BYTES))
    text = errors.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return f": {lines[-1]}" if lines else ""
