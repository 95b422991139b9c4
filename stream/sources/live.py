"""Audio that runs by itself: connect again when it breaks off, and say what is missing.

What is missing follows from the clock: where the stream should be by now, less what it delivered.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import Block
from abhinaya.stream.sources.web import Web

_WAITING_BLOCKS: Final = 64
_LEAST_LOSS_S: Final = 0.05
"""Less is the jitter of a network, not a loss."""
_JUMP_S: Final = 1.0
_POLL_S: Final = 0.1

_Waiting = queue.Queue[Block | SourceError | None]


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection to a live input."""

    channels: int
    description: str
    """Codec, rate and channels, for people."""
    blocks: Iterator[Block]
    """Raises SourceError where it breaks off; ends where the input says that it is over."""
    silent_s: float
    """Seconds without audio after which it counts as lost."""
    close: Callable[[], None]
    """By the thread that reads `blocks`."""
    cancel: Callable[[], None] = lambda: None
    """End `blocks` soon; by any thread."""


class Live:
    """A live input through all its connections.

    Args:
        web: of the input.
        first: connected.
        dial: connects again, or raises SourceError.
        clock: wall clock in Unix seconds.

    """

    def __init__(
        self,
        web: Web,
        first: Connection,
        dial: Callable[[], Connection],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._web = web
        self._connection = first
        self._dial = dial
        self._clock = clock
        self._start_s = clock()
        self._given_s = 0.0
        self._lead_s = 0.0  # how far the audio has been ahead of the clock at most

    def blocks(self) -> Iterator[Block]:
        """Yield the audio; what was missed between two connections is marked as lost.

        Raises:
            SourceError: it did not come back in time.

        """
        reason = ""
        tries: Iterator[None] | None = None
        while True:
            try:
                for block in pumped(self._connection, self._web.stop):
                    if reason:
                        block = self._after_loss(block, reason)
                        reason, tries = "", None
                    yield self._counted(block)
                return
            except SourceError as error:
                if self._web.stop.is_set():
                    return
                if not reason:
                    self._web.remark(
                        f"lost at {self._given_s:.1f} s ({error.reason}); connecting again"
                    )
                reason = error.reason
            tries = tries or self._web.tries(self._web.settings.give_up_s)
            if not self._connect(tries, reason):
                return

    def _connect(self, tries: Iterator[None], reason: str) -> bool:
        """Connect again; False if stopped meanwhile."""
        for _ in tries:
            try:
                self._connection = self._dial()
            except SourceError as error:
                reason = error.reason
            else:
                return True
        if self._web.stop.is_set():
            return False
        lost = f"was lost at {self._given_s:.1f} s"
        back = f"and is not back within {self._web.settings.give_up_s:g} s"
        raise self._web.error(f"{lost} {back} ({reason})", "is it still on the air?")

    def _after_loss(self, block: Block, reason: str) -> Block:
        due_s = self._clock() - self._start_s - len(block.samples) / block.rate
        missed_s = due_s - self._given_s
        if missed_s < _LEAST_LOSS_S:
            missed_s = 0.0
        missing = f"{missed_s:.1f} s are missing" if missed_s else "nothing is missing"
        self._web.remark(f"connected again, {missing}")
        why = f"the connection was lost: {reason}"
        return replace(block, lost_samples=round(missed_s * block.rate), lost_reason=why)

    def _counted(self, block: Block) -> Block:
        """Count what is delivered; time stamps that jump further than the clock are wrong."""
        ahead_s = self._given_s - (self._clock() - self._start_s)
        if block.lost_samples / block.rate > self._lead_s - ahead_s + _JUMP_S:
            block = replace(block, lost_samples=0)
        self._given_s += block.length_s
        self._lead_s = max(self._lead_s, ahead_s + len(block.samples) / block.rate)
        return block


def pumped(connection: Connection, stop: threading.Event) -> Iterator[Block]:
    """Yield the blocks that another thread reads, so that nothing here waits for a dead server.

    Raises:
        SourceError: the connection broke off, or delivered nothing for too long.

    """
    waiting: _Waiting = queue.Queue(_WAITING_BLOCKS)
    left = threading.Event()  # nobody listens any more
    threading.Thread(target=_pump, args=(connection, waiting, left), daemon=True).start()
    quiet_since = time.monotonic()
    try:
        while not stop.is_set():
            try:
                found = waiting.get(timeout=_POLL_S)
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


def _pump(connection: Connection, waiting: _Waiting, left: threading.Event) -> None:
    end: SourceError | None = None
    try:
        for block in connection.blocks:
            if not _put(waiting, block, left):
                return
    except SourceError as error:
        end = error
    except Exception as error:  # a closed connection may fail in any way
        end = SourceError("", f"stopped on an unexpected {type(error).__name__}: {error}")
    finally:
        connection.close()
    _put(waiting, end, left)


def _put(waiting: _Waiting, found: Block | SourceError | None, left: threading.Event) -> bool:
    """Put it where it is waited for; False if nobody waits any more."""
    while not left.is_set():
        with contextlib.suppress(queue.Full):
            waiting.put(found, timeout=_POLL_S)
            return True
    return False
