"""One track of a call whose audio is pushed: a live source that never makes its reader wait.

If audio stops arriving, the speech so far becomes a segment, so that its label comes in time.
Nothing is invented: what comes late is still read where it belongs, and what never comes is a gap.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.stream.clock import SAMPLE_RATE, unix_time
from abhinaya.stream.sources.base import AudioChunk, Block, Opened, SampleFormat, Warn
from abhinaya.stream.sources.condition import Conditioner
from abhinaya.stream.sources.pcm import sample_bytes, to_float

STALL_S: Final = 1.0
"""Time without audio after which the speech so far becomes a segment."""
MAX_WAITING_S: Final = 20.0
"""Audio that may wait to be read; more is dropped, and becomes a gap."""

MAX_CHUNK_S: Final = 0.5
"""Audio that is read at once: 16-bit samples need less room while they wait."""

MISSING: Final = "no audio came for this time"
TOO_SLOW: Final = "audio came faster than this machine could process it"


@dataclass(frozen=True, slots=True)
class _Piece:
    """Samples as they came; empty ones end a segment."""

    position: int
    data: bytes
    captured_unix_s: float


class PushedTrack:
    """The audio of a track. One thread puts it in, another reads it.

    Args:
        subject: name for warnings.
        encoding: how samples are written.
        rate: samples a second.
        begin: position of the first sample that can come.
        warn: receives warnings for the user.
        running: seconds of a monotonic clock.

    """

    def __init__(
        self,
        subject: str,
        encoding: SampleFormat,
        rate: int,
        begin: int,
        warn: Warn,
        running: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encoding, self._rate, self._running = encoding, rate, running
        self._width = sample_bytes(encoding)
        self._conditioner = Conditioner("split", subject, warn)
        self._pieces: deque[_Piece] = deque()
        self._put = self._read = 0
        """Bytes put in and taken out; each is written by one thread only."""
        self._slow = False
        """Whether audio was dropped here."""
        self._position = begin
        self._chunks: deque[AudioChunk] = deque()
        self._last = running()
        self._stalled = True
        self._over = self._finished = False
        self._reason = ""

    def opened(self, source: str, start_unix_s: float) -> Opened:
        """Return the track as a source of one channel."""
        return Opened(
            channels=1,
            live=True,
            description=source,
            start_unix_s=start_unix_s,
            audio=self._read_all(),
            interrupting=self.end,
            repeatable=False,
            ready=self._ready,
            reason=lambda: self._reason,
        )

    def put(self, position: int, data: bytes, captured_unix_s: float) -> None:
        """Add samples; empty `data` ends the segment that is being spoken."""
        if self._put - self._read > MAX_WAITING_S * self._rate * self._width:
            self._slow = True
            return
        self._put += len(data)
        self._pieces.append(_Piece(position, data, captured_unix_s))

    def end(self, reason: str = "") -> None:
        """End the track after what was put in."""
        self._reason, self._over = self._reason or reason, True

    def _ready(self) -> bool:
        if self._pieces or self._chunks or self._over:
            return True
        return not self._stalled and self._running() - self._last > STALL_S

    def _read_all(self) -> Iterator[AudioChunk]:
        while True:
            if not self._chunks:
                self._fill()
            if self._chunks:
                yield self._chunks.popleft()
            elif self._finished:
                return
            else:
                yield _nothing()

    def _fill(self) -> None:
        """Condition what has come, or the beginning of it."""
        over, now = self._over, self._running()  # before the queue is empty: `end` comes last
        data = bytearray()
        captured = 0.0
        while self._pieces and len(data) < MAX_CHUNK_S * self._rate * self._width:
            piece = self._pieces.popleft()
            self._read += len(piece.data)
            ahead = piece.position - self._position - len(data) // self._width
            if data and (ahead > 0 or not piece.data):
                self._condition(bytes(data), captured)
                data.clear()
            if not piece.data:
                self._stall()
                continue
            if ahead > 0:
                self._lose(ahead, piece.captured_unix_s)
            elif ahead < 0:  # the gateway sends none such
                continue
            data += piece.data
            captured, self._last, self._stalled = piece.captured_unix_s, now, False
        if data:
            self._condition(bytes(data), captured)
        elif not self._stalled and now - self._last > STALL_S:
            self._stall()
        if over and not self._pieces and not self._finished:
            self._finished = True
            self._chunks.extend(self._conditioner.finish())

    def _condition(self, data: bytes, captured: float, lost: int = 0, why: str = "") -> None:
        samples = to_float(data, self._encoding).reshape(-1, 1)
        self._position += lost + len(samples)
        block = Block(samples, self._rate, captured, lost, why)
        self._chunks.extend(self._conditioner.feed(block))

    def _lose(self, count: int, captured: float) -> None:
        self._condition(b"", captured, count, TOO_SLOW if self._slow else MISSING)
        self._slow = False

    def _stall(self) -> None:
        self._stalled = True
        self._chunks.append(_nothing(stalled=True))


def _nothing(stalled: bool = False) -> AudioChunk:
    return AudioChunk(np.zeros((0, 1), np.float32), unix_time(), stalled=stalled)


def to_stream(position: int, rate: int) -> int:
    """Return a position of a track as one of its stream, at 16 kHz."""
    return round(position * SAMPLE_RATE / rate)
