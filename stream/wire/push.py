"""What the gateway and its push fronts say to each other about calls whose audio is pushed.

    gateway -> push front    Calls, OpenCall, CloseCall, Audio
    push front -> gateway    Here, Done

Each cell has a push front. It says `Here` when it has started; the gateway answers with all calls
of its cell that are open.
From then on it sends what changes. Positions are samples of a track, at the rate of the call.
Audio travels as it came, in one frame behind the message: the sounds of all parts, one after the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from abhinaya.models.text import all_encodable
from abhinaya.stream.errors import WireError
from abhinaya.stream.wire.messages import Count, Message, Name, Position, Text, UnixTime

MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Audio that a call may get at once."""
MAX_BATCH_BYTES: Final = 256 * 1024
"""Audio of one `Audio` message, not counting the last part."""
MAX_TRACKS: Final = 16
"""Tracks of one call."""


class Track(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One track of a call."""

    stream: Name
    """Name of its stream."""
    position: Position = 0
    """The first sample that the receiver can get: earlier ones were sent to its predecessor."""


class OpenCall(Message, frozen=True, kw_only=True):
    """A call has begun."""

    call: Count
    """Its number at this gateway."""
    name: Name
    """Name of the input, unique in the run."""
    source: Text
    """Where the audio comes from, for people."""
    start_unix_s: UnixTime
    """Wall-clock time of sample 0."""
    encoding: Name
    """How samples are written: see `SampleFormat`."""
    rate: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    tracks: Annotated[tuple[Track, ...], msgspec.Meta(min_length=1, max_length=MAX_TRACKS)]
    facts: dict[Text, Text] = msgspec.field(default_factory=dict)
    """What the gateway knows of the call besides."""


class CloseCall(Message, frozen=True, kw_only=True):
    """A call has ended: nothing more comes."""

    call: Count
    reason: Text = ""
    """Why it broke off; empty for a natural end."""


class Calls(Message, frozen=True, kw_only=True):
    """All calls of a cell of which no push front has said `Done`. Those that have ended follow."""

    calls: tuple[OpenCall, ...]


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive samples of a track."""

    call: Count
    track: Count
    position: Position
    size: Count
    """Bytes; 0: the speech before `position` ends a segment, whatever comes next."""


class Audio(Message, frozen=True, kw_only=True):
    """Samples of any tracks, those of each track in order."""

    sent_unix_s: UnixTime
    parts: tuple[Part, ...]


class Here(Message, frozen=True, kw_only=True):
    """The push front has started."""

    incarnation: Name
    cell: Text = ""
    """Name of its cell; empty: a hub without cells."""


class Done(Message, frozen=True, kw_only=True):
    """All streams of a call have ended and are written."""

    call: Count
    reason: Text = ""
    """Why the call cannot be processed, if it is not closed."""


ToPushFront = Calls | OpenCall | CloseCall | Audio
ToGateway = Here | Done
_ENCODER: Final = msgspec.msgpack.Encoder()


def push_endpoint(directory: str) -> str:
    """Return the endpoint of the gateway of the run in this directory."""
    return f"ipc://{directory}/push"


def encode(message: ToPushFront | ToGateway, sound: bytes = b"") -> list[bytes]:
    """Return the frames of a message; only `Audio` has sound."""
    try:
        header = _ENCODER.encode(message)
    except UnicodeEncodeError:  # a reason may quote what is not UTF-8
        header = _ENCODER.encode(all_encodable(message))
    return [header, sound] if isinstance(message, Audio) else [header]


class Decoder:
    """Turns frames into messages of a union of types, and their sound."""

    def __init__(self, kinds: Any) -> None:
        self._header: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(kinds)

    def decode(self, frames: Sequence[Any]) -> tuple[Any, memoryview]:
        """Return a message and its sound, as long as its parts say.

        Raises:
            WireError: the frames are malformed.

        """
        try:
            message = self._header.decode(memoryview(frames[0]))
        except (msgspec.DecodeError, UnicodeDecodeError, IndexError) as error:
            raise WireError("message", f"malformed ({str(error)[:200]})") from error
        sound = memoryview(frames[1]) if len(frames) > 1 else memoryview(b"")
        parts = message.parts if isinstance(message, Audio) else ()
        if sum(part.size for part in parts) != sound.nbytes or len(frames) > 2:
            raise WireError("message", "its sound is not as long as its parts say")
        return message, sound
