"""A provider's media stream: what its messages do to a call. Without I/O; times are passed in."""

from __future__ import annotations

from typing import Final

from abhinaya.models.text import distinct
from abhinaya.stream.serve.telephony.dialects import (
    PARTIES,
    Dialect,
    Media,
    Start,
    Stop,
    parse,
    parties,
)
from abhinaya.stream.serve.telephony.jitter import JitterBuffer
from abhinaya.stream.serve.telephony.line import Line, Opens
from abhinaya.stream.serve.telephony.sockets import POLICY, LineError
from abhinaya.stream.serve.telephony.width import WidthCheck
from abhinaya.stream.sources.pcm import sample_bytes

SILENCE: Final = {"mulaw": b"\xff", "alaw": b"\xd5", "s16le": b"\0\0"}
STEADY_S: Final = 0.06
"""A time stamp so near to where the samples end means that place."""
PAIRS: Final = 50
"""Neighbouring messages after which the declared rate must fit the time stamps."""


class _Track:
    """Puts the messages of a track in order, and compares their time stamps with their length."""

    def __init__(self, start: Start) -> None:
        self.rate, self._sample_bytes = start.rate, sample_bytes(start.encoding)
        silence = SILENCE[start.encoding]
        self.width = WidthCheck(start.encoding)
        self.buffer = JitterBuffer(start.rate, silence=silence, sample_bytes=self._sample_bytes)
        self._chunk = 0
        self._time = self._end = 0
        self._pairs = self._fitting = 0

    def push(self, now: float, media: Media) -> None:
        count, rest = divmod(len(media.data), self._sample_bytes)
        if rest:
            raise LineError(POLICY, "payload", "ends within a sample", "send whole samples")
        chunk = self._chunk + 1 if media.chunk is None else media.chunk
        time = self._end if media.time_ms is None else media.time_ms * self.rate // 1_000
        follows = chunk == self._chunk + 1
        if follows and self._chunk:
            self._compare(time - self._time, self._end - self._time)
        if follows and abs(time - self._end) <= STEADY_S * self.rate and self._fitting:
            time = self._end
        self._chunk, self._time, self._end = chunk, time, time + count
        self.buffer.push(now, chunk, time, media.data)

    def _compare(self, passed: int, samples: int) -> None:
        self._pairs += 1
        self._fitting += abs(passed - samples) < samples / 4
        if self._pairs == PAIRS and self._fitting < PAIRS // 10:
            reason = f"messages are longer or shorter than their time at {self.rate} samples/s"
            raise LineError(POLICY, "audio", reason, "declare the true rate")


class MediaSession:
    """What one connection of a provider has said so far.

    Args:
        dialect: the form of the messages.
        opens: opens the call that `start` names.
        tracks: tracks of a provider that does not say them in `start`.

    """

    def __init__(self, dialect: Dialect, opens: Opens, tracks: tuple[str, ...] = ()) -> None:
        self.dialect, self._opens, self._tracks_wanted = dialect, opens, tracks
        self.ended = False
        self.line: Line | None = None
        self._start: Start | None = None
        self._tracks: dict[str, tuple[int, _Track]] = {}

    def receive(self, now: float, message: str | bytes) -> str:
        """Take a message; return a warning about its audio, else an empty text.

        Raises:
            LineError: it breaks the rules; end the session with `close` and this reason.

        """
        match parse(self.dialect, message):
            case Media() as media:
                return self._media(now, media)
            case Start() as start:
                self._begin(now, start)
            case Stop():
                self.ended = True
        return ""

    def close(self, now: float, reason: str = "") -> None:
        """End the call; a second call does nothing."""
        self.ended = True
        line, self.line = self.line, None
        if not line:
            return
        for number, track in self._tracks.values():
            track.buffer.restart()
            self._pass_on(now, line, number, track)
        line.close(reason)

    def _begin(self, now: float, start: Start) -> None:
        if self._start:
            raise LineError(POLICY, "start", "came twice", "open one connection a call")
        tracks = start.tracks or self._tracks_wanted or tuple(PARTIES)
        names = tracks if self.dialect.bare else tuple(distinct(parties(tracks, start.facts)))
        facts = {key: value for key, value in start.facts.items() if key not in PARTIES}
        name = f"{self.dialect.name}:{start.call}"
        self.line = self._opens(name, names, start.encoding, start.rate, facts)
        self._start = start
        for number, track in enumerate(tracks):
            self._tracks[track] = number, _Track(start)
            self._tracks[track][1].buffer.begin(now)

    def _media(self, now: float, media: Media) -> str:
        if not self.line:
            raise LineError(POLICY, "audio", "came before `start`", "send `start` first")
        if media.track not in self._tracks:
            reason = "is not one of the tracks in `start`"
            raise LineError(POLICY, f"track {media.track[:20]!r}", reason, "name it there")
        number, track = self._tracks[media.track]
        if not media.data:
            return ""
        track.push(now, media)
        self._pass_on(now, self.line, number, track)
        return track.width.feed(media.data)

    def _pass_on(self, now: float, line: Line, number: int, track: _Track) -> None:
        for position, data in track.buffer.pop(now):
            line.feed(number, data, position)
