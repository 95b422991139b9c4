"""Live network inputs: reconnect after a failure, and mark the audio lost meanwhile.

The loss is the time since the start less the audio delivered.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import Block
from abhinaya.stream.sources.web import Web

_WAITING_BLOCKS: Final = 64
_LEAST_LOSS_S: Final = 0.05
"""A shorter gap is network jitter, not a loss."""
_JUMP_S: Final = 1.0
_POLL_S: Final = 0.1

_Waiting = queue.Queue[Block | SourceError | None]


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection to a live input."""

    channels: int
    description: str
    """Codec, rate and channels, for the user."""
    blocks: Iterator[Block]
    """Raises SourceError if the connection fails; ends when the server declares the end."""
    silent_s: float
    """Seconds without audio after which the connection counts as lost."""
    close: Callable[[], None]
    """Only the thread that reads `blocks` may call this."""
    cancel: Callable[[], None] = lambda: None
    """End `blocks` soon. Any thread may call this."""


class Live:
    """A live input over successive connections.

    Args:
        web: HTTP requests and settings of the input.
        first: the first connection.
        dial: returns a new connection, or raises SourceError.
        clock: wall clock in Unix seconds.

    """

    def __init__(
        self,
        web: Web,
        first: Connection,
        dial: Callable[[], Connection],
        clock: Callable[[], float] = unix_time,
    ) -> None:
        self._web = web
        self._connection = first
        self._dial = dial
        self._clock = clock
        self._start_s = clock()
        self._given_s = 0.0
        self._lead_s = 0.0  # the most that the audio was ahead of the clock

    def blocks(self) -> Iterator[Block]:
        """Yield the audio; audio missed between two connections is marked as lost.

        Raises:
            SourceError: no new connection in time.

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
        """Connect again; return False if stopped meanwhile."""
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
        """Count delivered seconds; ignore a loss that the clock contradicts (wrong time stamps)."""
        ahead_s = self._given_s - (self._clock() - self._start_s)
        if block.lost_samples / block.rate > self._lead_s - ahead_s + _JUMP_S:
            block = replace(block, lost_samples=0)
        self._given_s += block.length_s
        self._lead_s = max(self._lead_s, ahead_s + len(block.samples) / block.rate)
        return block


def pumped(connection: Connection, stop: threading.Event) -> Iterator[Block]:
    """Yield the blocks of a connection, read by another thread: a dead server cannot block us.

    Raises:
        SourceError: the connection failed, or delivered nothing for too long.

    """
    waiting: _Waiting = queue.Queue(_WAITING_BLOCKS)
    abandoned = threading.Event()
    threading.Thread(target=_pump, args=(connection, waiting, abandoned), daemon=True).start()
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
        abandoned.set()
        connection.cancel()


def _pump(connection: Connection, waiting: _Waiting, abandoned: threading.Event) -> None:
    end: SourceError | None = None
    try:
        for block in connection.blocks:
            if not _put(waiting, block, abandoned):
                return
    except SourceError as error:
        end = error
    except Exception as error:  # a closed connection may raise anything
        end = SourceError("", f"stopped on an unexpected {type(error).__name__}: {error}")
    finally:
        connection.close()
    _put(waiting, end, abandoned)


def _put(waiting: _Waiting, found: Block | SourceError | None, abandoned: threading.Event) -> bool:
    """Queue a block or the end; return False if the reader has stopped."""
    while not abandoned.is_set():
        with contextlib.suppress(queue.Full):
            waiting.put(found, timeout=_POLL_S)
            return True
    return False
