"""What a client of SIPREC sends (SDP, metadata, SIP, RTP), and calls that keep what they get."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from abhinaya.stream.sources.base import SampleFormat

BOUNDARY = "split-here"
NAMESPACE = "urn:ietf:params:xml:ns:recording:1"


def sdp_line(
    port: int, label: str = "", payload: str = "0", direction: str = "sendonly", extra: str = ""
) -> str:
    """Return a media line and its attributes."""
    names = {"0": "PCMU", "8": "PCMA", "18": "G729"}
    maps = [f"a=rtpmap:{n} {names[n]}/8000" for n in payload.split() if n in names]
    label_line = [f"a=label:{label}"] if label else []
    lines = [f"m=audio {port} RTP/AVP {payload}", *maps, f"a={direction}", *label_line]
    return "\r\n".join([*lines, *([extra] if extra else [])])


def sdp(*media: str, host: str = "127.0.0.1") -> str:
    """Return an offer."""
    head = ["v=0", f"o=src 77 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0"]
    return "\r\n".join([*head, *media, ""])


def metadata(people: Mapping[str, tuple[str, str]]) -> str:
    """Return rs-metadata: label -> name and address."""
    text = [f'<?xml version="1.0" encoding="UTF-8"?>\n<recording xmlns="{NAMESPACE}">']
    text.append('<datamode>complete</datamode><session session_id="c1">')
    text.append("<sipSessionID>ab30317f1a784dc48ff824d0d3715d86</sipSessionID></session>")
    for label, (name, address) in people.items():
        text.append(f'<participant participant_id="p{label}"><nameID aor="{address}">')
        text.append(f'<name xml:lang="en">{name}</name></nameID></participant>')
        text.append(f'<stream stream_id="s{label}" session_id="c1"><label>{label}</label></stream>')
        text.append(f'<participantstreamassoc participant_id="p{label}"><send>s{label}</send>')
        text.append("</participantstreamassoc>")
    return "".join([*text, "</recording>"])


def multipart(*parts: tuple[str, str]) -> str:
    """Return a body of parts: type and content."""
    text = "".join(f"--{BOUNDARY}\r\nContent-Type: {t}\r\n\r\n{body}\r\n" for t, body in parts)
    return f"{text}--{BOUNDARY}--\r\n"


PEOPLE = {"1": ("Asha", "sip:asha@shop.example"), "2": ("Bo", "sip:bo@home.example")}
TWO_LINES = sdp(sdp_line(40_000, "1"), sdp_line(40_002, "2"))
BODY = multipart(("application/sdp", TWO_LINES), ("application/rs-metadata+xml", metadata(PEOPLE)))
MIXED = f"multipart/mixed;boundary={BOUNDARY}"


def request(
    method: str = "INVITE",
    body: str | bytes = BODY,
    *,
    call: str = "call-1",
    number: int = 1,
    branch: str = "z9hG4bK1",
    to_tag: str = "",
    change: Mapping[str, str | None] | None = None,
) -> bytes:
    """Return a request; `change` replaces headers, adds some, or leaves out those of None."""
    data = body.encode() if isinstance(body, str) else body
    headers: dict[str, str | None] = {
        "Via": f"SIP/2.0/UDP 127.0.0.1:5070;branch={branch}",
        "Max-Forwards": "70",
        "From": "<sip:src@127.0.0.1>;tag=src",
        "To": "<sip:srs@127.0.0.1>" + (f";tag={to_tag}" if to_tag else ""),
        "Call-ID": call,
        "CSeq": f"{number} {method}",
        "Contact": "<sip:src@127.0.0.1:5070>;+sip.src",
    }
    if data:
        headers |= {"Require": "siprec", "Content-Type": MIXED}
    headers |= {"Content-Length": str(len(data)), **(change or {})}
    lines = [f"{method} sip:srs@127.0.0.1 SIP/2.0"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def rtp(
    sequence: int, time: int, data: bytes, *, payload: int = 0, ssrc: int = 7, first: int = 0x80
) -> bytes:
    """Return a packet."""
    head = (first, payload, sequence & 0xFFFF, time & 0xFFFFFFFF, ssrc)
    return struct.pack("!BBHII", *head) + data


def sound(seed: int, seconds: float) -> bytes:
    """Return codes of G.711 that differ everywhere, never that of silence."""
    codes = np.random.default_rng(seed).integers(0, 0xD0, round(seconds * 8_000))
    return bytes(codes.astype(np.uint8).tobytes())


@dataclass
class FakeLine:
    """A call that keeps what it gets."""

    streams: tuple[str, ...]
    encoding: str
    facts: Mapping[str, str]
    audio: list[bytearray] = field(default_factory=list)
    gaps: list[tuple[int, int, int]] = field(default_factory=list)
    """Track, position, samples."""
    reason: str | None = None
    error: Exception | None = None

    def feed(self, track: int, data: bytes, position: int | None = None) -> None:
        assert self.reason is None, "fed after its end"
        if self.error:
            raise self.error
        kept = self.audio[track]
        missing = len(kept) if position is None else position - len(kept)
        assert missing >= 0, "fed backwards"
        if missing:
            self.gaps.append((track, len(kept), missing))
            kept += bytes(missing)
        kept += data

    def flush(self, track: int) -> None:
        raise AssertionError("recorders do not end segments")

    def close(self, reason: str = "") -> None:
        self.reason = reason


class FakeCalls:
    """Opens calls as the gateway does."""

    def __init__(self, error: Exception | None = None) -> None:
        self.lines: dict[str, FakeLine] = {}
        self.error = error

    def __call__(
        self,
        name: str,
        tracks: tuple[str, ...],
        encoding: SampleFormat,
        rate: int,
        facts: Mapping[str, str],
    ) -> FakeLine:
        if self.error:
            raise self.error
        assert rate == 8_000
        streams = tuple(f"{name}/{track}" for track in tracks)
        self.lines[name] = FakeLine(streams, encoding, facts, [bytearray() for _ in tracks])
        return self.lines[name]


def ports_of(answer: bytes) -> Sequence[int]:
    """Return the ports of an answer's SDP."""
    lines = answer.decode().split("\r\n")
    return [int(line.split()[1]) for line in lines if line.startswith("m=")]
