"""The calls of the gateway: audio that others push, for example a telephone line or a browser.

A call is an input of the run; each of its tracks is a stream. The audio goes on to the push front
of its cell, one process for all calls there (`front/push.py`). All methods but `cells` are for one
thread, that of the event loop. None of them waits.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, get_args

from abhinaya.models.text import LONGEST_NAME, clean, short_name
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import NetworkError, SourceError
from abhinaya.stream.serve.pump import Pump
from abhinaya.stream.serve.tracks import TrackClock
from abhinaya.stream.settings.serve import ServeConfig
from abhinaya.stream.sources.base import RATES, SampleFormat
from abhinaya.stream.sources.pcm import sample_bytes
from abhinaya.stream.wire.push import MAX_MESSAGE_BYTES, MAX_TRACKS, CloseCall, OpenCall, Track

REMEMBERED: Final = 8192
"""Names of ended calls that get a number when they come again. Hub and recorder remember fewer
streams."""
_SEPARATORS: Final = re.compile("[/~]")
"""What stands before a track and before a number."""
_LONGEST_FACT: Final = 1024
_DEFAULTS: Final = ServeConfig()


class CallError(SourceError):
    """A call, or its audio, is refused.

    Args:
        code: `in use`, `too many`, `unavailable`, `unknown format`, `too large`, `unknown track` or
            `refused`.
        name: name of the call.
        reason: what is wrong.
        remedy: what the sender can do.

    """

    def __init__(self, code: str, name: str, reason: str, remedy: str = "") -> None:
        super().__init__(name, reason, remedy)
        self.code = code

    def __reduce__(self) -> tuple[type[CallError], tuple[str, str, str, str]]:  # type: ignore[override]
        return type(self), (self.code, self.subject, self.reason, self.remedy)


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How the samples of a call are written; each track has one channel."""

    encoding: SampleFormat
    rate: int
    """Samples a second."""

    @property
    def fault(self) -> str:
        """Why it cannot be used; empty if it can."""
        if not self.encoding or self.encoding not in get_args(SampleFormat):
            return f"encoding {self.encoding[:40]!r} is unknown"
        return "" if self.rate in RATES else f"a rate of {self.rate} is impossible"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has come since the start, by the `source` of its call."""

    frames: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Messages with audio, by source and number of the track."""
    lost: Counter[str] = field(default_factory=Counter)
    """Messages of which not all was used, by source."""


class Call:
    """One call. `Calls.open` makes it."""

    def __init__(
        self,
        opening: OpenCall,
        facts: Mapping[str, str],
        clocks: tuple[TrackClock, ...],
        pump: Pump,
        traffic: Traffic,
        ended: Callable[[], object],
        clock: Callable[[], float],
    ) -> None:
        self.name = opening.name
        self.streams = tuple(track.stream for track in opening.tracks)
        self.facts = facts
        self._number = opening.call
        self._clocks = clocks
        self._pump = pump
        self._source, self._traffic = opening.source, traffic
        self._ended = ended
        self._now = clock
        self._dropped = self._lost = 0
        self.closed = False
        """Whether nothing more is taken."""
        self.refused = ""
        """Why the call is not processed, if the push front or the hub has refused it."""

    @property
    def dropped(self) -> int:
        """Bytes that were not used: they came late, were no whole sample, or found no room."""
        return self._dropped + self._lost

    @property
    def jumps(self) -> int:
        """How often the sender has set a clock anew, so that its audio just follows on."""
        return sum(clock.jumps for clock in self._clocks)

    @property
    def ahead_s(self) -> float:
        """Seconds of audio that came before their time. A sender that is not live should wait."""
        now = self._now()
        return max(clock.ahead_s(now) for clock in self._clocks)

    def feed(self, track: int, data: bytes, position: int | None = None) -> None:
        """Take the next samples of a track.

        Args:
            track: number of the track, from 0.
            data: the samples as they came; without a position they may end within a sample.
            position: the first sample on the sender's clock of this track; None: it follows on.
                What is ahead leaves a gap, what is behind is dropped and counted.

        Raises:
            CallError: the message is too large, the track unknown, or the call is refused.

        """
        if self.refused:
            raise CallError("refused", self.name, self.refused, "open another call")
        if not 0 <= track < len(self._clocks):
            raise CallError("unknown track", self.name, f"has no track {track}")
        if len(data) > MAX_MESSAGE_BYTES:
            reason = f"a message has {len(data)} bytes, more than {MAX_MESSAGE_BYTES}"
            raise CallError("too large", self.name, reason, "send shorter ones")
        self._traffic.frames[self._source, str(track)] += 1
        if self.closed:
            self._drop(len(data))
            return
        start, samples, dropped = self._clocks[track].place(self._now(), bytes(data), position)
        if samples and not self._pump.sound(self._number, track, start, samples):
            dropped += len(samples)
        self._drop(dropped)

    def flush(self, track: int) -> None:
        """End the segment that is being spoken now, without waiting for silence."""
        if not self.closed and 0 <= track < len(self._clocks):
            self._pump.sound(self._number, track, self._clocks[track].next, b"")

    def close(self, reason: str = "") -> None:
        """End the streams; `reason` says why the call broke off. Further calls do nothing."""
        if not self.closed:
            self.closed = True
            self._dropped += sum(len(clock.rest) for clock in self._clocks)
            self._pump.close_call(CloseCall(call=self._number, reason=clean(reason)[:1000]))
            self._ended()

    def _drop(self, count: int) -> None:
        self._dropped += count
        if count:
            self._traffic.lost[self._source] += 1

    def lose(self, count: int) -> None:
        """Count bytes that were dropped on the way; for the thread of `Pump`."""
        self._lost += count
        self._traffic.lost[self._source] += 1

    def refuse(self, reason: str) -> None:
        """Note that the call is not processed; for the thread of `Pump`."""
        self.refused = reason or "the call was refused"


class Cells(Protocol):
    """Divides calls between cells."""

    def open(self) -> Collection[str]:
        """Return the names of the cells that take calls. Any thread may ask."""
        ...

    def choose(self, call: str) -> str:
        """Return the cell of a new call, by its name.

        Raises:
            NetworkError: no cell is open.

        """
        ...


class OneHub:
    """A hub without cells: the only cell has an empty name."""

    def open(self) -> Collection[str]:
        """Return the one empty name."""
        return ("",)

    def choose(self, call: str) -> str:
        """Return the empty name."""
        return ""


class Calls:
    """The open calls.

    Args:
        directory: the directory of the run.
        config: how many calls may be open.
        clock: seconds of a monotonic clock.

    Raises:
        NetworkError: the endpoint for the push front cannot be bound.

    """

    def __init__(
        self,
        directory: Path,
        config: ServeConfig = _DEFAULTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = config.calls
        self._clock = clock
        self._pump = Pump(directory)
        self.traffic = Traffic()
        self._cells: Cells = OneHub()
        self._numbers = itertools.count(1)
        self._open: dict[str, Call] = {}
        """By name, as the caller gave it, made safe."""
        self._names: OrderedDict[str, int] = OrderedDict()
        """How often each name was used, the latest last."""

    def __len__(self) -> int:
        """Return the number of open calls."""
        return len(self._open)

    @property
    def ready(self) -> bool:
        """Whether the push front takes audio, of a hub without cells."""
        return self._pump.here()

    def divide(self, cells: Cells) -> None:
        """Give each call that is opened from now on to one of these cells."""
        self._cells = cells

    def cells(self) -> Collection[str]:
        """Return the cells that need a push front: see `run.plan.Lines`. Any thread.

        These are the open ones, and those with a call whose end is not written.
        """
        return {*self._cells.open(), *self._pump.cells()}

    def open(
        self,
        name: str,
        tracks: tuple[str, ...],
        format: AudioFormat,
        *,
        source: str,
        facts: Mapping[str, str] = MappingProxyType({}),
    ) -> Call:
        """Open a call.

        Args:
            name: `provider:call`; when it comes again after its end, it gets a number.
            tracks: a name for each track; its stream is `name/track`. One empty name: `name`.
            format: how the samples are written.
            source: where the audio comes from, for people.
            facts: what is known of the call besides.

        Raises:
            CallError: a call of this name is open, there are too many, the format is unknown, no
                process takes audio yet, or no cell is open.

        """
        name = clean(short_name(_SEPARATORS.sub("-", name)))
        if name in self._open:
            raise CallError("in use", name, "a call of this name is open", "use another name")
        if len(self._open) >= self._most:
            reason = f"{len(self._open)} calls are open already"
            raise CallError("too many", name, reason, "try again later")
        if fault := format.fault:
            raise CallError("unknown format", name, fault)
        named = tuple(clean(short_name(track))[:64] if track else "" for track in tracks)
        if not 0 < len(named) <= MAX_TRACKS or len(set(named)) < len(named):
            reason = f"has {len(named)} tracks; 1 to {MAX_TRACKS} of different names are possible"
            raise CallError("unknown track", name, reason)
        number, now = self._names.get(name, 0) + 1, self._clock()
        unique = name if number == 1 else f"{name}~{number}"
        cell = self._cell(unique)
        self._remember(name, number)
        opening = OpenCall(
            call=next(self._numbers),
            name=unique,
            source=clean(source)[:_LONGEST_FACT],
            start_unix_s=unix_time(),
            encoding=format.encoding,
            rate=format.rate,
            tracks=tuple(Track(stream=f"{unique}/{t}" if t else unique) for t in named),
            facts={clean(k)[:LONGEST_NAME]: clean(v)[:_LONGEST_FACT] for k, v in facts.items()},
        )
        width = sample_bytes(format.encoding)
        clocks = tuple(TrackClock(format.rate, width, now, now) for _ in named)
        forget = partial(self._open.pop, name, None)
        call = Call(opening, opening.facts, clocks, self._pump, self.traffic, forget, self._clock)
        self._open[name] = call
        self._pump.open(opening, call, width, cell)
        return call

    def close(self) -> None:
        """End all calls, and stop."""
        for call in list(self._open.values()):
            call.close("the monitor was stopped")
        self._pump.stop()

    def _cell(self, name: str) -> str:
        try:
            cell = self._cells.choose(name)
        except NetworkError as error:
            raise CallError("unavailable", name, str(error), "try again soon") from error
        if fault := self._pump.fault(cell):
            raise CallError("unavailable", name, fault, "try again soon")
        return cell

    def _remember(self, name: str, number: int) -> None:
        """Note how often a name was used: no stream of the run may have a name that was there."""
        self._names.pop(name, None)
        self._names[name] = number
        while len(self._names) > REMEMBERED:
            self._names.popitem(last=False)
