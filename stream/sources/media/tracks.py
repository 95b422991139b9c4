"""Which audio track of a container is heard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import Warn
from abhinaya.stream.sources.media.frames import to_float

_SPECIAL: Final = {
    "comment": "commentary",
    "visual_impaired": "audio description",
    "descriptions": "audio description",
    "karaoke": "karaoke",
    "clean_effects": "without voices",
    "dependent": "to be mixed with another",
}
"""Dispositions of tracks that replace or comment the sound."""
_SOUND: Final = 2e-4
"""Half of the range of samples in a track with sound (-74 dB); a dithered silence has less."""
_SOUND_S: Final = 0.05
_LOOK_BYTES: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class Track:
    """What a container declares about an audio track."""

    number: int
    """Counts from 1 among the audio tracks."""
    format: str
    default: bool = False
    special: str = ""
    language: str = ""
    title: str = ""

    @property
    def name(self) -> str:
        """The track in messages."""
        facts = [self.format, self.language, self.title, self.special]
        return f"track {self.number} ({', '.join(fact for fact in facts if fact)})"


def track_of(stream: Any, number: int) -> Track:
    """Return the facts of PyAV's audio stream."""
    names = {flag.name for flag in type(stream.disposition) if flag in stream.disposition}
    special = next((text for name, text in _SPECIAL.items() if name in names), "")
    metadata = {key.lower(): value for key, value in stream.metadata.items()}
    language = stream.language or ""
    title = metadata.get("title", "") or metadata.get("handler_name", "")
    return Track(
        number,
        stream.codec_context.name,
        "default" in names,
        special,
        "" if language == "und" else language,
        "" if title == "SoundHandler" else title[:60],
    )


def preferred(tracks: Sequence[Track]) -> list[int]:
    """Return the places of the tracks in the order in which they are chosen if they have sound.

    The default comes first, then the order of the container. Of several defaults, one that replaces
    or comments the sound comes last.
    """

    def rank(place: int) -> tuple[bool, bool, int]:
        track = tracks[place]
        return not track.default, bool(track.special), place

    return sorted(range(len(tracks)), key=rank)


def choice(tracks: Sequence[Track], sounding: Collection[int], filled: Collection[int]) -> int:
    """Return the place of the track to hear: the first with sound, else the first with samples."""
    order = preferred(tracks)
    for places in (sounding, filled, order):
        for place in order:
            if place in places:
                return place
    return 0


def remark(tracks: Sequence[Track], chosen: int, silent: Collection[int]) -> str:
    """Return a message that names the tracks left out."""
    left = [
        track.name + (", which is silent" if place in silent else "")
        for place, track in enumerate(tracks)
        if place != chosen
    ]
    return (
        f"{tracks[chosen].name} of {len(tracks)} audio tracks is heard. Left out: "
        f"{'; '.join(left)}. --track N chooses"
    )


class Tracks:
    """The audio tracks of a container: chooses one, and notes which have had sound.

    Args:
        streams: PyAV's audio streams.
        subject: name of the input in messages.
        warn: receives the message that names the tracks left out.

    """

    def __init__(self, streams: Sequence[Any], subject: str, warn: Warn) -> None:
        self._streams = streams
        self._subject = subject
        self._warn = warn
        self._silent: dict[int, float] = {}
        """Seconds of sound of each track that has had too little of it, by its index; empty as soon
        as the chosen track has had sound."""

    def choose(
        self, number: int, packets: Iterator[Any], over: Callable[[], bool]
    ) -> tuple[Any, list[Any]]:
        """Return the track to hear, and the packets of audio that were read to choose it.

        Args:
            number: number of the track, from 1; 0: the default, or the first with sound.
            packets: packets of the container.
            over: returns whether the beginning has been read in which a track must have sound.

        Raises:
            SourceError: there is no such track.

        """
        streams = self._streams
        tracks = [track_of(stream, place) for place, stream in enumerate(streams, 1)]
        if number > len(tracks):
            reason = f"has {len(tracks)} audio tracks, not {number}"
            remedy = f"choose from: {'; '.join(track.name for track in tracks)}"
            raise SourceError(self._subject, reason, remedy)
        if number or len(tracks) == 1:
            return streams[max(0, number - 1)], []
        self._silent = dict.fromkeys((stream.index for stream in streams), 0.0)
        held = list(self._look(streams[preferred(tracks)[0]].index, packets, over))
        for stream in streams:
            if stream.codec_context.is_open:
                stream.codec_context.flush_buffers()
        filled = {packet.stream.index for packet in held if packet.size}
        silent = {place for place, s in enumerate(streams) if s.index in self._silent}
        chosen = choice(
            tracks,
            set(range(len(streams))) - silent,
            {place for place, s in enumerate(streams) if s.index in filled},
        )
        # if the preferred track has sound, the others have not been listened to for long
        known = silent if chosen in silent or chosen != preferred(tracks)[0] else set()
        self._warn(f"{self._subject}: {remark(tracks, chosen, known)}")
        if chosen not in silent:
            self._silent = {}
        return streams[chosen], held

    def is_overheard(self, packet: Any) -> bool:
        """Return whether a track left out has its first sound while the chosen one had none."""
        if packet.stream.index not in self._silent:
            return False
        self._listen(packet)
        if heard := packet.stream.index not in self._silent:
            self._silent = {}
        return heard

    def note(self, chosen: int, frames: Sequence[Any]) -> None:
        """Note the frames of the chosen track."""
        if self._silent:
            self._count(chosen, frames)
            if chosen not in self._silent:
                self._silent = {}

    def _look(self, first: int, packets: Iterator[Any], over: Callable[[], bool]) -> Iterator[Any]:
        """Yield packets of audio until the preferred track has had sound."""
        size, indexes = 0, {stream.index for stream in self._streams}
        for packet in packets:
            if packet.stream.index in indexes:
                yield packet
                size += packet.size
                self._listen(packet)
                if first not in self._silent or size > _LOOK_BYTES or over():
                    return

    def _listen(self, packet: Any) -> None:
        import av

        if packet.stream.index in self._silent and packet.size:
            with contextlib.suppress(av.FFmpegError):
                self._count(packet.stream.index, packet.decode())

    def _count(self, track: int, frames: Sequence[Any]) -> None:
        """Count the sound in decoded frames."""
        for frame in frames:
            if track in self._silent and np.ptp(to_float(frame), axis=0).max() > 2 * _SOUND:
                self._silent[track] += frame.samples / frame.sample_rate
                if self._silent[track] >= _SOUND_S:
                    del self._silent[track]
