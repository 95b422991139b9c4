"""The thread between the gateway's calls and the push front. It alone uses their socket."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
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
    Done,
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
"""Messages that wait for a push front; then live audio is dropped, about 5 s at the earliest."""
AWAY_S: Final = 60.0
"""Time without a push front after which the open calls are given up."""
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
        self._queue: deque[_Sound | tuple[OpenCall, Owner, int] | CloseCall] = deque()
        self._put = self._taken = 0  # bytes so far; each is written by one thread only
        self._lines: dict[int, _Line] = {}
        self._peer = b""
        self._away_since = -math.inf
        self._late: deque[ToPushFront] = deque()
        """What must not be dropped, and found no room."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="calls", daemon=True)
        self._thread.start()

    @property
    def here(self) -> bool:
        """Whether a push front is there, as far as is known."""
        return bool(self._peer)

    @property
    def fault(self) -> str:
        """Why calls cannot be taken; empty if a push front is there, or will be again soon."""
        if self.here or time.monotonic() - self._away_since < AWAY_S:
            return ""
        return GONE if self._away_since > 0 else "the monitor is still starting"

    def open(self, opening: OpenCall, owner: Owner, width: int) -> None:
        """Begin a call whose samples have `width` bytes."""
        self._queue.append((opening, owner, width))

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
                    if self._socket.poll(FLUSH_MS if self._lines or self._queue else IDLE_MS):
                        self._receive()
                    self._flush()
                    if self._lines and (fault := self.fault):
                        self._give_up(fault)
                except Exception:  # a bug: one call must not end the others
                    _LOG.exception("the calls go on")
            self._flush()
        finally:
            self._socket.close(linger=200)
            self._context.term()

    def _receive(self) -> None:
        while (frames := receive(self._socket)) is not None:
            try:
                message, _ = self._decoder.decode(frames[1:])
            except WireError as error:
                _LOG.warning("a message was dropped: %s", error)
                continue
            if isinstance(message, Here):
                self._greet(frames[0].bytes)
            elif frames[0].bytes == self._peer:
                self._done(message)

    def _greet(self, peer: bytes) -> None:
        """Tell a new push front all calls."""
        self._peer = peer
        self._late.clear()
        self._must(Calls(calls=tuple(line.told() for line in self._lines.values())))
        for line in self._lines.values():
            if line.closing is not None:
                self._must(line.closing)

    def _done(self, done: Done) -> None:
        line = self._lines.pop(done.call, None)
        if line is not None and line.closing is None:
            line.owner.refuse(done.reason)

    def _give_up(self, fault: str) -> None:
        for line in self._lines.values():
            line.owner.refuse(fault)
        self._lines.clear()

    def _flush(self) -> None:
        parts: list[Part] = []
        sounds: list[bytes] = []
        size = 0
        while self._late and self._send(self._late[0]):
            self._late.popleft()
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, tuple) and len(item) == 4:
                call, track, position, samples = item
                self._taken += len(samples)
                line = self._lines.get(call)
                if line is None or line.closing is not None:
                    continue
                line.positions[track] = position + len(samples) // line.width
                parts.append(Part(call, track, position, len(samples)))
                sounds.append(samples)
                size += len(samples)
                if size > MAX_BATCH_BYTES:
                    self._audio(parts, sounds)
                    parts, sounds, size = [], [], 0
                continue
            if parts:
                self._audio(parts, sounds)
                parts, sounds, size = [], [], 0
            self._control(item)
        if parts:
            self._audio(parts, sounds)

    def _control(self, item: tuple[OpenCall, Owner, int] | CloseCall) -> None:
        if isinstance(item, CloseCall):
            line = self._lines.get(item.call)
            if line is None:
                return
            line.closing = item
            self._must(item)
            return
        opening, owner, width = item
        self._lines[opening.call] = _Line(owner, opening, width, [0] * len(opening.tracks))
        self._must(opening)

    def _audio(self, parts: list[Part], sounds: list[bytes]) -> None:
        """Send samples, or count them as lost: the push front finds the hole by the positions."""
        message = Audio(sent_unix_s=unix_time(), parts=tuple(parts))
        if not self._late and self._send(message, b"".join(sounds)):
            return
        for part in parts:
            self._lines[part.call].owner.lose(part.size)

    def _must(self, message: ToPushFront) -> None:
        """Send a message now or later; without a push front it is in the table of calls."""
        if self._peer and (self._late or not self._send(message)):
            self._late.append(message)

    def _send(self, message: ToPushFront, sound: bytes = b"") -> bool:
        if not self._peer:
            return False
        try:
            self._socket.send_multipart([self._peer, *encode(message, sound)], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError:  # it has gone; the next one asks for all calls
            self._peer, self._away_since = b"", time.monotonic()
            self._late.clear()
            return False
        return True
