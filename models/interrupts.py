"""The signals that ask a program to end: Ctrl-C (SIGINT), SIGTERM, SIGHUP and SIGQUIT.

A signal handler belongs to the whole process, and so does its state here. There are three modes:

1. During the imports: print one line and exit.
2. `raising`, for a command: raise `Signalled` in the main thread, so that everything is closed.
3. `counting`, for a run that ends in order: count the signals; the loop reads the count. If it does
   not end in time, for example because it writes to a pipe that nobody reads, `Signalled` is raised
   after all, several times; the last resort ends the process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

AGAIN_S: Final = 0.4
"""Interval of `Signalled` after the time of a counting program is over."""
RESERVE_S: Final = 0.3
"""Seconds before it that are kept for the rest, when something waits for others."""
LAST_S: Final = 1.5
"""Seconds after the first of them until the process is ended without further tidying."""


class Signalled(KeyboardInterrupt):
    """A signal asks the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = exit_code(number)


def exit_code(number: int) -> int:
    """Return the exit code of a program that a signal has ended, as shells have it."""
    return 128 + number


def exit_code_of(error: KeyboardInterrupt) -> int:
    """Return the exit code for an interruption: 130 for Ctrl-C, 143 for SIGTERM."""
    return error.exit_code if isinstance(error, Signalled) else exit_code(signal.SIGINT)


class Interrupts:
    """The signals of this process. Use the one instance, `INTERRUPTS`."""

    def __init__(self) -> None:
        self.number = 0
        """The first signal; 0 before one."""
        self.count = 0
        self.at = 0.0
        """Time of the first signal, monotonic."""
        self._grace_s: float | None = None
        """Seconds until `Signalled` is raised; None: at once."""
        self._bearable = 0
        """Number of signals after which `Signalled` is raised at once."""
        self._whole_program = False
        self._alarm: tuple[Any, tuple[float, float]] | None = None
        """The alarm of others, to be set again: handler and timer."""
        self._last: threading.Timer | None = None

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise `Signalled` for each signal. In threads other than the main one, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with self._handling(None, 0):
            whole, self._whole_program = self._whole_program, True
            try:
                yield
            finally:
                self._whole_program = whole

    @contextmanager
    def counting(self, grace_s: float, bearable: int = 1 << 30) -> Iterator[None]:
        """Count the signals. Raise `Signalled` after `grace_s`, or after `bearable` signals."""
        with self._handling(grace_s, bearable):
            yield

    def left_s(self, seconds: float) -> float:
        """Return how long a program may wait that would wait so many seconds without a signal."""
        if not self.count or self._grace_s is None:
            return seconds
        return max(0.0, min(seconds, self.at + self._grace_s - RESERVE_S - time.monotonic()))

    @contextmanager
    def _handling(self, grace_s: float | None, bearable: int) -> Iterator[None]:
        outermost = not any(signal.getsignal(n) == self._handle for n in SIGNALS)
        if outermost:
            self.number = self.count = 0
        mode = self._grace_s, self._bearable
        self._grace_s, self._bearable = grace_s, bearable
        handlers = install(self._handle)
        try:
            yield
        finally:
            self._grace_s, self._bearable = mode
            if outermost and self._alarm is not None:
                signal.setitimer(signal.ITIMER_REAL, *self._alarm[1])
                signal.signal(signal.SIGALRM, self._alarm[0])
                self._alarm = None
                if self._last is not None:
                    self._last.cancel()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self.number, self.at = number, time.monotonic()
            if self._grace_s is not None:
                self._limit(self._grace_s)
        if self._grace_s is None or self.count > self._bearable:
            raise Signalled(self.number)

    def _limit(self, grace_s: float) -> None:
        before = signal.signal(signal.SIGALRM, self._overdue)
        self._alarm = before, signal.setitimer(signal.ITIMER_REAL, grace_s, AGAIN_S)
        if self._whole_program:
            code = exit_code(self.number)
            self._last = threading.Timer(grace_s + LAST_S, lambda: os._exit(code))
            self._last.daemon = True
            self._last.start()

    def _overdue(self, _number: int, _frame: FrameType | None) -> NoReturn:
        raise Signalled(self.number)


INTERRUPTS: Final = Interrupts()


def install(handle: Callable[[int, FrameType | None], object]) -> dict[signal.Signals, Any]:
    """Handle all the signals; return the former handlers. A SIGHUP that nohup ignores stays so."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return {n: signal.signal(n, handle) for n in SIGNALS if not (ignored and n == signal.SIGHUP)}


def leave_at_once(program: str) -> None:
    """Until the imports are done: print one line for a signal, and exit.

    An exception would be lost, or become a traceback, if it came while a module is imported.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        os.write(2, f"{program}: {Signalled(number)}\n".encode())
        os._exit(exit_code(number))

    install(leave)
