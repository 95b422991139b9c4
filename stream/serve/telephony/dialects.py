"""The messages of telephone providers' media streams, as values.

Twilio, SignalWire and Telnyx send JSON with base64 audio and differ in the names of fields; Vonage
sends one JSON message and then bare samples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec

from abhinaya.models.text import one_line, short_name
from abhinaya.stream.serve.telephony.sockets import INVALID, POLICY, UNSUPPORTED, LineError
from abhinaya.stream.sources.base import RATES, SampleFormat

PARTIES: Final = {"inbound": "customer", "outbound": "agent"}
"""Track -> who speaks on it, if the stream is that of the customer's leg of the call."""
ENCODINGS: Final[dict[str, SampleFormat]] = {
    "mulaw": "mulaw", "x-mulaw": "mulaw", "pcmu": "mulaw", "basic": "mulaw",
    "alaw": "alaw", "x-alaw": "alaw", "pcma": "alaw",
    "l16": "s16le", "x-l16": "s16le", "linear16": "s16le",
}  # fmt: skip
MOST_FACTS: Final = 20
_CONTENT: Final = re.compile(r"audio/l16;\s*rate=(\d{1,7})")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form of one provider's messages."""

    name: str
    """Begins the names of its calls."""
    call: tuple[str, ...] = ()
    """Fields of `start` that name the call: the first that is there."""
    format: str = ""
    """Field of `start` with the audio format."""
    rate: str = ""
    """Field of the format with the sample rate."""
    parameters: str = ""
    """Field of `start` with the user's own fields."""
    bare: bool = False
    """Whether audio comes as binary messages."""
    signed: bool = False
    """Whether the provider signs its requests as Twilio does."""


TWILIO: Final = Dialect(
    "twilio", ("callSid", "streamSid"), "mediaFormat", "sampleRate", "customParameters", signed=True
)
SIGNALWIRE: Final = replace(TWILIO, name="signalwire", signed=False)
TELNYX: Final = Dialect(
    "telnyx",
    ("call_control_id", "call_session_id"),
    "media_format",
    "sample_rate",
    "custom_parameters",
)
VONAGE: Final = Dialect("vonage", ("call_uuid", "uuid", "conversation_uuid"), bare=True)
DIALECTS: Final = {dialect.name: dialect for dialect in (TWILIO, SIGNALWIRE, TELNYX, VONAGE)}


@dataclass(frozen=True, slots=True)
class Start:
    """The stream of a call begins."""

    call: str
    """The provider's id of the call."""
    tracks: tuple[str, ...]
    """As the provider names them; empty: it does not say."""
    encoding: SampleFormat
    rate: int
    facts: Mapping[str, str]
    """Fields that the user has set at the provider."""


@dataclass(frozen=True, slots=True)
class Media:
    """Audio of one track."""

    track: str
    chunk: int | None
    """Counts the messages of the track."""
    time_ms: int | None
    """When its first sample is, on the provider's clock."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """The stream has ended."""


_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]


class _Media(msgspec.Struct):
    payload: bytes
    track: str = ""
    chunk: _Count | None = None
    timestamp: _Count | None = None


class _Message(msgspec.Struct):
    event: str
    media: _Media | None = None
    start: dict[str, Any] | None = None


_MESSAGE: Final = msgspec.json.Decoder(_Message, strict=False)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


def parse(dialect: Dialect, message: str | bytes) -> Start | Media | Stop | None:
    """Return what a message says; None: nothing that matters here.

    Raises:
        LineError: the message is not of this dialect.

    """
    if isinstance(message, bytes):
        if not dialect.bare:
            raise LineError(UNSUPPORTED, "message", "binary, but text is due", "send JSON")
        return Media("", None, None, message)
    try:
        if dialect.bare:
            return _vonage(dialect, _OBJECT.decode(message))
        found = _MESSAGE.decode(message)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as e:
        raise LineError(INVALID, "message", str(e), f"send {dialect.name}'s JSON") from None
    if found.event == "media" and found.media:
        media = found.media
        track = media.track.removesuffix("_track") or "inbound"
        return Media(track, media.chunk, media.timestamp, media.payload)
    if found.event == "start" and found.start is not None:
        return _start(dialect, found.start)
    if found.event in ("start", "media"):
        raise LineError(INVALID, found.event, f"has no field `{found.event}`", "send it")
    return Stop() if found.event == "stop" else None


def parties(tracks: tuple[str, ...], facts: Mapping[str, str]) -> tuple[str, ...]:
    """Return who speaks on each track: the user's own names (`inbound`, `outbound`), else ours."""
    return tuple(facts.get(track) or PARTIES[track] for track in tracks)


def _start(dialect: Dialect, start: dict[str, Any]) -> Start:
    form = _mapping(start.get(dialect.format))
    if (channels := form.get("channels", 1)) not in (1, "1"):
        reason = f"{_shown(channels)} channels in one track"
        raise LineError(POLICY, dialect.format, reason, "send one channel a track")
    kind = str(form.get("encoding", "")).lower().removeprefix("audio/").partition("@")[0]
    if kind not in ENCODINGS:
        reason = f"unknown encoding {_shown(kind)!r}"
        raise LineError(POLICY, dialect.format, reason, "let the provider send PCMU, PCMA or L16")
    tracks = start.get("tracks") or ()
    known = isinstance(tracks, (list, tuple)) and all(map(PARTIES.__contains__, map(str, tracks)))
    if not known or len(set(tracks)) != len(tracks):
        reason = f"unknown tracks {_shown(tracks)}"
        raise LineError(POLICY, "start", reason, "send inbound, outbound or both")
    rate = _rate(form.get(dialect.rate), dialect.format)
    facts = _facts(_mapping(start.get(dialect.parameters)))
    return Start(_call(dialect, start), tuple(tracks), ENCODINGS[kind], rate, facts)


def _vonage(dialect: Dialect, message: dict[str, Any]) -> Start | None:
    if message.get("event") != "websocket:connected":
        return None
    content = str(message.get("content-type", ""))
    if not (found := _CONTENT.fullmatch(content.lower())):
        reason = f"unknown {_shown(content)!r}"
        raise LineError(POLICY, "content-type", reason, "set audio/l16;rate=16000")
    headers = {**message, **_mapping(message.get("headers"))}
    facts = {k: v for k, v in headers.items() if k not in ("event", "content-type", "headers")}
    rate = _rate(found[1], "content-type")
    return Start(_call(dialect, headers), ("",), "s16le", rate, _facts(facts))


def _call(dialect: Dialect, start: Mapping[str, Any]) -> str:
    for field in dialect.call:
        if isinstance(name := start.get(field), str) and name:
            return short_name(one_line(name))
    wanted = " or ".join(dialect.call)
    raise LineError(POLICY, "start", "does not name the call", f"send {wanted}")


def _rate(value: Any, subject: str) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 8:
        value = int(value)
    if not isinstance(value, int) or value not in RATES:
        reason = f"impossible sample rate {_shown(value)}"
        raise LineError(POLICY, subject, reason, "send 8000 or 16000")
    return value


def _facts(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields that are text, short and few enough to be shown."""
    texts = [(k, v) for k, v in fields.items() if isinstance(v, str) and v]
    return {short_name(one_line(k)): short_name(one_line(v)) for k, v in texts[:MOST_FACTS]}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _shown(value: Any) -> str:
    return one_line(str(value)[:40])
