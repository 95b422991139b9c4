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
from typing import Final

from abhinaya.stream.sinks.alerts.worker import DeliveryError, Job

POLL_S: Final = 0.05
QUOTED_BYTES: Final = 200
"""Number of last bytes of standard error that are searched for an error message."""
CHUNK_BYTES: Final = 1 << 16


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
        with tempfile.TemporaryFile() as body:
            body.write(job.body)
            body.seek(0)
            try:
                process = subprocess.Popen(  # noqa: S603 - the user's own command
                    self.arguments,
                    stdin=body,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                raise DeliveryError(f"{name} cannot be started: {error.strerror}") from error
        assert process.stderr is not None  # a pipe
        with process.stderr as errors:
            last = self._finishes(process, errors.fileno(), stop)
        if last is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise DeliveryError(f"{name} was killed after {self.timeout_s:g} s")
        if process.returncode:
            raise DeliveryError(f"{name} {_end(process.returncode)}{_quoted(last)}")

    def _finishes(
        self, process: subprocess.Popen[bytes], errors: int, stop: threading.Event
    ) -> bytes | None:
        """Wait for the end; return the last bytes of standard error, None if it takes too long.

        A program may write without limit, so that only the last bytes are kept.
        """
        os.set_blocking(errors, False)
        deadline, last = time.monotonic() + self.timeout_s, b""
        while time.monotonic() < deadline and not stop.is_set():
            ended = process.poll() is not None
            with suppress(BlockingIOError):
                # a child that lives on may hold the pipe open: after the end, nothing is awaited
                while (piece := os.read(errors, CHUNK_BYTES)) and time.monotonic() < deadline:
                    last = (last + piece)[-QUOTED_BYTES:]
            if ended:
                return last
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
        return None


def _end(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with {code}"


def _quoted(errors: bytes) -> str:
    text = errors.decode("utf-8", "replace")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return f": {lines[-1]}" if lines else ""
