"""Audio that runs by itself: connect again when it breaks off, and say what is missing.

What is missing is told by the clock: where the stream should be by now, less what it has given.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Protocol

from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.base import Block, Warn
from abhinaya.stream.sources.web import Backoff

_WAITING_BLOCKS: Final = 64
_LEAST_LOSS_S: Final = 0.05
"""Less is the jitter of a network, not a loss."""
_JUMP_S: Final = 1.0
_LOOK_S: Final = 0.1


class Connection(Protocol):
    """One connection to a live input."""

    @property
    def channels(self) -> int:
        """Channels of its audio."""
        ...

    @property
    def description(self) -> str:
        """Codec, rate and channels, for people."""
        ...

    @property
    def silent_s(self) -> float:
        """Seconds without audio after which it counts as lost."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Give the audio; it ends where the input says that it is over.

        Raises:
            SourceError: it broke off.

        """
        ...

    def cancel(self) -> None:
        """Make `blocks` end soon; by another thread than its reader's."""
        ...

    def close(self) -> None:
        """Let go of it; by its reader's thread."""
        ...


class Live:
    """A live input through all its connections.

    Args:
        subject: how people name it.
        first: connected.
        dial: connects again, or raises SourceError.
        settings: patience.
        warn: told at each loss and return.
        stop: ends it.
        clock: wall clock in Unix seconds.

    """

    def __init__(
        self,
        subject: str,
        first: Connection,
        dial: Callable[[], Connection],
        settings: NetworkConfig,
        warn: Warn,
        stop: threading.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._subject = subject
        self._connection = first
        self._dial = dial
        self._settings = settings
        self._warn = warn
        self._stop = stop
        self._clock = clock
        self._start_s = clock()
        self._given_s = 0.0
        self._lead_s = 0.0  # how far the audio has been ahead of the clock at most

    def blocks(self) -> Iterator[Block]:
        """Give the audio, with what was missed between two connections told as lost.

        Raises:
            SourceError: it did not come back in time.

        """
        reason = ""
        failing_since: float | None = None
        backoff = Backoff(self._settings, self._stop)
        while not self._stop.is_set():
            try:
                for block in pumped(self._connection, self._stop):
                    if reason:
                        block = self._after_loss(block, reason)
                        reason, failing_since = "", None
                        backoff = Backoff(self._settings, self._stop)
                    yield self._counted(block)
                return
            except SourceError as error:
                if not reason:
                    self._warn(
                        f"{self._subject}: lost at {self._given_s:.1f} s ({error.reason}); "
                        "connecting again"
                    )
                reason = error.reason
            if failing_since is None:
                failing_since = self._clock()
            if not self._connect(failing_since, backoff, reason):
                return

    def _connect(self, since_s: float, backoff: Backoff, reason: str) -> bool:
        """Connect again; False if stopped while at it."""
        while self._clock() - since_s < self._settings.give_up_s and backoff.wait():
            try:
                self._connection = self._dial()
            except SourceError as error:
                reason = error.reason
            else:
                return True
        if self._stop.is_set():
            return False
        lost = f"was lost at {self._given_s:.1f} s"
        back = f"and is not back within {self._settings.give_up_s:g} s"
        raise SourceError(self._subject, f"{lost} {back} ({reason})", "is it still on the air?")

    def _after_loss(self, block: Block, reason: str) -> Block:
        due_s = self._clock() - self._start_s - len(block.samples) / block.rate
        missed_s = due_s - self._given_s
        if missed_s < _LEAST_LOSS_S:
            missed_s = 0.0
        missing = f"{missed_s:.1f} s are missing" if missed_s else "nothing is missing"
        self._warn(f"{self._subject}: connected again, {missing}")
        why = f"the connection was lost: {reason}"
        return replace(block, lost_samples=round(missed_s * block.rate), lost_reason=why)

    def _counted(self, block: Block) -> Block:
        """Count what is given; a jump of time stamps that the clock denies is no loss."""
        ahead_s = self._given_s - (self._clock() - self._start_s)
        length_s = len(block.samples) / block.rate
        if block.lost_samples / block.rate > self._lead_s - ahead_s + _JUMP_S:
            block = replace(block, lost_samples=0)
        self._given_s += block.lost_samples / block.rate + length_s
        self._lead_s = max(self._lead_s, ahead_s + length_s)
        return block


def pumped(connection: Connection, stop: threading.Event) -> Iterator[Block]:
    """Give the blocks that another thread reads, so that nothing here waits for a dead server.

    Raises:
        SourceError: the connection broke off, or gave nothing for too long.

    """
    waiting: queue.Queue[Block | SourceError | None] = queue.Queue(_WAITING_BLOCKS)
    left = threading.Event()  # nobody listens any more
    thread = threading.Thread(target=_pump, args=(connection, waiting, left), daemon=True)
    thread.start()
    quiet_since = time.monotonic()
    try:
        while not stop.is_set():
            try:
                found = waiting.get(timeout=_LOOK_S)
            except queue.Empty:
                if time.monotonic() - quiet_since > connection.silent_s:
                    reason = f"gave no audio for {connection.silent_s:g} s"
                    raise SourceError("", reason) from None
                continue
            if found is None:
                return
            if isinstance(found, SourceError):
                raise found
            yield found
            quiet_since = time.monotonic()
    finally:
        left.set()
        connection.cancel()


def _pump(
    connection: Connection,
    waiting: queue.Queue[Block | SourceError | None],
    left: threading.Event,
) -> None:
    end: SourceError | None = None
    try:
        for block in connection.blocks():
            if not _put(waiting, block, left):
                return
    except SourceError as error:
        end = error
    except Exception as error:  # a closed connection may fail in any way
        end = SourceError("", f"stopped on an unexpected {type(error).__name__}: {error}")
    finally:
        connection.close()
    _put(waiting, end, left)


def _put(
    waiting: queue.Queue[Block | SourceError | None],
    found: Block | SourceError | None,
    left: threading.Event,
) -> bool:
    """Put it where it is waited for; False if nobody does any more."""
    while not left.is_set():
        try:
            waiting.put(found, timeout=_LOOK_S)
        except queue.Full:
            continue
        return True
    return False
