"""The thread between the gateway's calls and the push fronts. It alone uses their socket.

Each cell has a push front of its own, and each call belongs to one cell. A hub without cells is the
cell with an empty name. What a push front cannot take yet waits, for each of them apart: audio of a
cell whose push front is away or slow never costs audio of another cell.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import zmq

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import NetworkError, WireError
from abhinaya.stream.wire.push import (
    MAX_BATCH_BYTES,
    Audio,
    Calls,
    CloseCall,
    Decoder,
    Here,
    OpenCall,
    Part,
    ToGateway,
    ToPushFront,
    encode,
    push_endpoint,
)
from abhinaya.stream.wire.sockets import receive

_LOG = logging.getLogger("abhinaya.calls")

FLUSH_MS: Final = 20
"""Time in which the audio of all calls is collected: one message costs less than many."""
IDLE_MS: Final = 100
MAX_MESSAGES: Final = 256
"""Messages to a push front that is slow, about 5 s at the earliest; then audio waits here."""
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""Audio that waits for one push front, 5 s of 200 telephone calls; then it is dropped."""
AWAY_S: Final = 60.0
"""Time without a push front after which the open calls of its cell are given up."""
STARTING: Final = "the monitor is still starting"
GONE: Final = "the process that takes audio has stopped and did not come back"
MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""Audio that waits for this thread; then it is dropped."""


class Owner(Protocol):
    """The call that an entry belongs to."""

    def lose(self, count: int) -> None:
        """Count bytes that were dropped on the way to the push front."""
        ...

    def refuse(self, reason: str) -> None:
        """Note that the push front does not process the call."""
        ...


@dataclass(slots=True)
class _Line:
    """What this thread knows of a call."""

    owner: Owner
    opening: OpenCall
    width: int
    """Bytes of a sample."""
    positions: list[int]
    """Of each track: the first sample that was not sent."""
    closing: CloseCall | None = None

    def told(self) -> OpenCall:
        """Return the call for a new push front."""
        found = zip(self.opening.tracks, self.positions, strict=True)
        tracks = tuple(msgspec.structs.replace(track, position=at) for track, at in found)
        return msgspec.structs.replace(self.opening, tracks=tracks)


@dataclass(slots=True)
class _Front:
    """The push front of a cell, and what is meant for it."""

    cell: str
    away_since: float = -math.inf
    """When it went, or when the first call needed it; -inf: the run has not started it yet."""
    peer: bytes = b""
    """Identity of its socket; empty while it is away."""
    lines: dict[int, _Line] = field(default_factory=dict)
    waiting: deque[tuple[ToPushFront, bytes]] = field(default_factory=deque)
    """What it cannot take yet, in order, each with its sound."""
    waiting_bytes: int = 0

    def add(self, message: ToPushFront, sound: bytes) -> None:
        """Keep a message for later."""
        self.waiting.append((message, sound))
        self.waiting_bytes += len(sound)

    def greet(self, peer: bytes) -> None:
        """Begin again with a new push front: all calls, what they brought since, then the ends."""
        self.peer = peer
        kept = [item for item in self.waiting if isinstance(item[0], Audio)]
        told = Calls(calls=tuple(line.told() for line in self.lines.values()))
        ends = [(line.closing, b"") for line in self.lines.values() if line.closing is not None]
        self.waiting = deque([(told, b""), *kept, *ends])

    def sent(self, audio: Audio) -> None:
        """Note that samples are on their way: another push front cannot get them."""
        for part in audio.parts:
            if (line := self.lines.get(part.call)) is not None:
                line.positions[part.track] = part.position + part.size // line.width

    def give_up(self, fault: str) -> None:
        """Refuse all calls."""
        for line in self.lines.values():
            line.owner.refuse(fault)
        self.lines.clear()
        self.waiting.clear()
        self.waiting_bytes = 0

    @property
    def fault(self) -> str:
        """Why it takes no calls; empty if it is there, or will be soon."""
        is_new = bool(self.cell) and not self.lines  # the run starts it for the first call
        if self.peer or is_new or time.monotonic() - self.away_since < AWAY_S:
            return ""
        return GONE if self.away_since > 0 else STARTING


@dataclass(frozen=True, slots=True)
class _Opened:
    """A new call."""

    opening: OpenCall
    owner: Owner
    width: int
    cell: str


_Sound = tuple[int, int, int, bytes]
"""Call, track, position and samples; empty samples end a segment."""


class Pump:
    """Sends what is put in from any one thread, in order; never makes that thread wait.

    Args:
        directory: the directory of the run.

    Raises:
        NetworkError: the endpoint cannot be bound.

    """

    def __init__(self, directory: Path) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.sndhwm = MAX_MESSAGES
        self._socket.router_mandatory = True
        self._socket.router_handover = True
        endpoint = push_endpoint(str(directory))
        try:
            self._socket.bind(os.fsencode(endpoint))  # type: ignore[arg-type]
        except zmq.ZMQError as error:
            self._socket.close()
            raise NetworkError(endpoint, f"cannot be bound: {error.strerror}") from error
        self._decoder = Decoder(ToGateway)
        self._queue: deque[_Sound | _Opened | CloseCall] = deque()
        self._put = self._taken = 0  # bytes so far; each is written by one thread only
        self._fronts: dict[str, _Front] = {}
        """By cell."""
        self._of: dict[int, _Front] = {}
        """By call that is not over."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="calls", daemon=True)
        self._thread.start()

    def here(self, cell: str = "") -> bool:
        """Return whether the push front of a cell is there, as far as is known."""
        front = self._fronts.get(cell)
        return front is not None and bool(front.peer)

    def fault(self, cell: str) -> str:
        """Return why calls of a cell cannot be taken; empty if they can, now or soon."""
        front = self._fronts.get(cell)
        if front is not None:
            return front.fault
        return "" if cell else STARTING  # that of a cell starts when it is needed

    def cells(self) -> frozenset[str]:
        """Return the cells with calls that are not over."""
        return frozenset(front.cell for front in list(self._fronts.values()) if front.lines)

    def open(self, opening: OpenCall, owner: Owner, width: int, cell: str = "") -> None:
        """Begin a call of a cell, whose samples have `width` bytes."""
        self._queue.append(_Opened(opening, owner, width, cell))

    def close_call(self, closing: CloseCall) -> None:
        """End a call."""
        self._queue.append(closing)

    def sound(self, call: int, track: int, position: int, samples: bytes) -> bool:
        """Send samples; return False without room. Empty samples end a segment."""
        if self._put - self._taken > MAX_QUEUED_BYTES:
            return False
        self._put += len(samples)
        self._queue.append((call, track, position, samples))
        return True

    def stop(self) -> None:
        """Send what is queued, and end the thread."""
        self._stopping.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    if self._socket.poll(FLUSH_MS if self._of or self._queue else IDLE_MS):
                        self._receive()
                    self._flush()
                    self._give_up()
                except Exception:  # a bug: one call must not end the others
                    _LOG.exception("the calls go on")
            self._flush()
        finally:
            self._socket.close(linger=200)
            self._context.term()

    def _receive(self) -> None:
        while (frames := receive(self._socket)) is not None:
            peer = frames[0].bytes
            try:
                message, _ = self._decoder.decode(frames[1:])
            except WireError as error:
                _LOG.warning("a message was dropped: %s", error)
                continue
            if isinstance(message, Here):
                self._front(message.cell).greet(peer)
            elif (front := self._of.get(message.call)) is not None and front.peer == peer:
                del self._of[message.call]
                line = front.lines.pop(message.call)
                if line.closing is None:
                    line.owner.refuse(message.reason)

    def _front(self, cell: str) -> _Front:
        return self._fronts.setdefault(cell, _Front(cell))

    def _give_up(self) -> None:
        for front in self._fronts.values():
            if front.lines and (fault := front.fault):
                for call in front.lines:
                    del self._of[call]
                front.give_up(fault)

    def _flush(self) -> None:
        for front in self._fronts.values():
            self._send_waiting(front)
        sounds: dict[str, list[tuple[Part, bytes]]] = {}
        """By cell."""
        size = 0
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, tuple):
                call, track, position, samples = item
                self._taken += len(samples)
                of = self._of.get(call)
                if of is None or of.lines[call].closing is not None:
                    continue
                part = Part(call, track, position, len(samples))
                sounds.setdefault(of.cell, []).append((part, samples))
                size += len(samples)
                if size <= MAX_BATCH_BYTES:
                    continue
            self._audio(sounds)
            sounds, size = {}, 0
            if not isinstance(item, tuple):
                self._control(item)
        self._audio(sounds)

    def _control(self, item: _Opened | CloseCall) -> None:
        if isinstance(item, CloseCall):
            if (of := self._of.get(item.call)) is not None:
                of.lines[item.call].closing = item
                self._must(of, item)
            return
        opening, front = item.opening, self._front(item.cell)
        if front.cell and not front.lines:
            front.away_since = time.monotonic()
        front.lines[opening.call] = _Line(
            item.owner, opening, item.width, [0] * len(opening.tracks)
        )
        self._of[opening.call] = front
        self._must(front, opening)

    def _audio(self, sounds: dict[str, list[tuple[Part, bytes]]]) -> None:
        """Send samples, keep them for later, or count them as lost.

        The push front finds the hole by the positions.
        """
        for cell, found in sounds.items():
            front = self._fronts[cell]
            message = Audio(sent_unix_s=unix_time(), parts=tuple(part for part, _ in found))
            sound = b"".join(samples for _, samples in found)
            if not front.waiting and self._send(front, message, sound):
                front.sent(message)
            elif front.waiting_bytes + len(sound) <= MAX_WAITING_BYTES:
                front.add(message, sound)
            else:
                for part in message.parts:
                    front.lines[part.call].owner.lose(part.size)

    def _must(self, front: _Front, message: ToPushFront) -> None:
        """Send a message now or later; without a push front it is in the table of calls."""
        if front.peer and (front.waiting or not self._send(front, message)):
            front.add(message, b"")

    def _send_waiting(self, front: _Front) -> None:
        while front.waiting and self._send(front, *front.waiting[0]):
            message, sound = front.waiting.popleft()
            front.waiting_bytes -= len(sound)
            if isinstance(message, Audio):
                front.sent(message)

    def _send(self, front: _Front, message: ToPushFront, sound: bytes = b"") -> bool:
        if not front.peer:
            return False
        try:
            self._socket.send_multipart([front.peer, *encode(message, sound)], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError:  # it has gone; the next one asks for all calls
            front.peer, front.away_since = b"", time.monotonic()
            return False
        return True
