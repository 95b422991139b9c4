"""A Deepgram-shaped connection: its query and its messages, as values. Without I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from abhinaya.models.text import clean, one_line, short_name
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.serve.telephony.dialects import MOST_FACTS
from abhinaya.stream.serve.telephony.line import Line
from abhinaya.stream.serve.telephony.results import Answer, Wishes
from abhinaya.stream.serve.telephony.sockets import POLICY, LineError
from abhinaya.stream.serve.telephony.width import WidthCheck
from abhinaya.stream.sources.base import RATES, SampleFormat
from abhinaya.stream.sources.pcm import sample_bytes, to_float

ENCODINGS: Final[dict[str, SampleFormat]] = {
    "linear16": "s16le", "linear32": "f32le", "mulaw": "mulaw", "alaw": "alaw",
}  # fmt: skip
MOST_CHANNELS: Final = 16
PIECE: Final = 32_000
"""Bytes that a call takes at once."""
MOST_ERRORS: Final = 10
"""Text messages that are not understood before the connection is closed."""


@dataclass(frozen=True, slots=True)
class Listen:
    """The query of `/v1/listen`."""

    encoding: SampleFormat
    rate: int
    channels: int = 1
    tracks: tuple[str, ...] = ("",)
    """Names of the streams; one empty name if the channels are mixed."""
    call: str = ""
    wishes: Wishes = field(default_factory=Wishes)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def mixed(self) -> bool:
        """Whether several channels become one stream."""
        return self.channels > len(self.tracks)

    @property
    def fed(self) -> SampleFormat:
        """The encoding that the call gets."""
        return "f32le" if self.mixed else self.encoding


def parse_query(query: Sequence[tuple[str, str]]) -> Listen:
    """Return the query; what only changes the form of Deepgram's text is ignored.

    Raises:
        ConfigError: a field is missing or wrong.

    """
    fields = dict(query)
    encoding = fields.get("encoding", "")
    if encoding not in ENCODINGS:
        reason = f"unknown encoding {_shown(encoding)}" if encoding else "is missing"
        raise ConfigError("encoding", reason, f"give one of {', '.join(ENCODINGS)}")
    default = "8000" if ENCODINGS[encoding] in ("mulaw", "alaw") else ""
    rate = _number("sample_rate", fields.get("sample_rate", default), RATES)
    channels = _number("channels", fields.get("channels", "1"), range(1, MOST_CHANNELS + 1))
    names = tuple(one_line(short_name(n)) for n in fields.get("channel_names", "").split(",") if n)
    separate = channels > 1 and _switch(fields, "multichannel")
    streams = channels if separate else 1
    tracks = names or (tuple(str(n + 1) for n in range(channels)) if separate else ("",))
    if len(tracks) != streams or len(set(map(clean, tracks))) != streams:
        reason = f"{len(tracks)} names for {streams} streams, or one of them twice"
        raise ConfigError("channel_names", reason, "name each, and set multichannel=true for many")
    extra = [value.partition(":") for name, value in query if name == "extra"][:MOST_FACTS]
    facts = {short_name(one_line(k)): short_name(one_line(v)) for k, _, v in extra if k and v}
    wishes = Wishes(
        interim=_switch(fields, "interim_results"),
        revisions=_switch(fields, "revisions"),
        activity=_switch(fields, "vad_events"),
    )
    call = one_line(fields.get("name", ""))[:100]
    return Listen(ENCODINGS[encoding], rate, channels, tracks, call, wishes, facts)


def _number(name: str, text: str, allowed: range) -> int:
    if not text:
        raise ConfigError(name, "is missing", "give samples a second, such as 16000")
    if not (text.isascii() and text.isdecimal() and len(text) < 9) or int(text) not in allowed:
        reason = f"impossible value {_shown(text)}"
        raise ConfigError(name, reason, f"give {allowed[0]} to {allowed[-1]}")
    return int(text)


def _switch(fields: Mapping[str, str], name: str) -> bool:
    value = fields.get(name, "false").lower()
    if value not in ("true", "false"):
        raise ConfigError(name, f"impossible value {_shown(value)}", "give true or false")
    return value == "true"


def _shown(text: str) -> str:
    return repr(one_line(text[:40]))


class _Message(msgspec.Struct):
    type: str
    channel: int | None = None


_MESSAGE: Final = msgspec.json.Decoder(_Message)


class ListenSession:
    """What a client has sent so far."""

    def __init__(self, listen: Listen, line: Line) -> None:
        self.listen, self.line = listen, line
        self.ended = False
        """Whether the client wants the last results and then the end."""
        self.finalized = set[int]()
        """Channels whose next final result answers a `Finalize`."""
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._rest = b""
        self._errors = 0
        self._frame = sample_bytes(listen.encoding) * listen.channels
        self._width = WidthCheck(listen.encoding)

    def receive(self, message: str | bytes) -> Answer | None:
        """Take a message; return an answer if it needs one.

        Raises:
            LineError: too many messages were not understood.

        """
        if isinstance(message, bytes):
            self.ended = self.ended or not message  # as Deepgram: an empty one closes the stream
            return self._feed(message)
        try:
            found = _MESSAGE.decode(message)
            if found.type in ("KeepAlive", "Finalize", "CloseStream"):
                self._control(found)
                return None
            fault = f"unknown type {_shown(found.type)}"
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as e:
            fault = one_line(str(e))
        self._errors += 1
        if self._errors > MOST_ERRORS:
            remedy = "send audio as binary messages"
            raise LineError(POLICY, "DATA-0000", f"{self._errors} messages not understood", remedy)
        return {
            "type": "Error",
            "variant": "SchemaError",
            "description": f"{fault}; send audio as binary messages, and as text KeepAlive, "
            "Finalize or CloseStream",
            "message": one_line(message[:200]),
        }

    def metadata(self, request_id: str, created: str) -> Answer:
        """Return the message that ends the connection."""
        frames = self._bytes // self._frame
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": request_id,
            "sha256": self._hash.hexdigest(),
            "created": created,
            "duration": round(frames / self.listen.rate, 3),
            "channels": self.listen.channels,
        }

    def _control(self, message: _Message) -> None:
        if message.type == "CloseStream":
            self.ended = True
        elif message.type == "Finalize":
            tracks = range(len(self.listen.tracks))
            for track in tracks if message.channel is None else {message.channel} & {*tracks}:
                self.line.flush(track)
                self.finalized.add(track)

    def _feed(self, data: bytes) -> Answer | None:
        self._hash.update(data)
        self._bytes += len(data)
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._frame
        data, self._rest = data[:whole], data[whole:]
        step = PIECE - PIECE % self._frame
        warning = ""
        for begin in range(0, whole, step):
            tracks = self._tracks(data[begin : begin + step])
            for track, samples in enumerate(tracks):
                self.line.feed(track, samples)
            if not self.listen.mixed:
                warning = warning or self._width.feed(tracks[0])
        return {"type": "Warning", "description": f"audio: {warning}"} if warning else None

    def _tracks(self, data: bytes) -> list[bytes]:
        """Return the samples of each track from those of all channels, taken in turn."""
        listen = self.listen
        if listen.channels == 1:
            return [data]
        if listen.mixed:
            samples = to_float(data, listen.encoding).reshape(-1, listen.channels)
            return [samples.mean(1, dtype=np.float32).astype("<f4").tobytes()]
        turns = np.frombuffer(data, np.uint8).reshape(
            -1, listen.channels, self._frame // listen.channels
        )
        return [turns[:, channel].tobytes() for channel in range(listen.channels)]
