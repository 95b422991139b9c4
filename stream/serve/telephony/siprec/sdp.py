"""The offer of a recorder's client and our answer (SDP: RFC 8866, 3264), as text and as values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from abhinaya.stream.serve.telephony.siprec.sip import SipError

MAX_MEDIA: Final = 16
RATE: Final = 8_000

Law = Literal["mulaw", "alaw"]

_LAWS: Final[Mapping[str, Law]] = {"PCMU": "mulaw", "PCMA": "alaw"}
_STATIC: Final = {0: "PCMU", 8: "PCMA", 13: "CN"}
_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
_NOWHERE: Final = ("0.0.0.0", "::")  # noqa: S104
"""The older way to announce a hold."""
_MEDIA: Final = re.compile(
    r"([A-Za-z0-9\-]{1,20}) (\d{1,5})(?:/\d{1,3})? ([A-Za-z0-9/\-]{1,30})((?: [A-Za-z0-9*.\-]+)+)"
)
_HOST: Final = re.compile(r"IN IP[46] ([A-Za-z0-9.:\-]{1,255})(?:/\d+)*")
_MAP: Final = re.compile(r"(\d{1,3})\s+([A-Za-z0-9\-_.]+)/(\d{1,6})(?:/(\d{1,2}))?")


@dataclass(frozen=True, slots=True)
class Media:
    """A media line of an offer."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    host: str
    """Address that the sender names; empty: none."""
    direction: str
    label: str
    laws: Mapping[int, Law]
    """Payload type -> law, in the order of the offer."""
    noise: frozenset[int]
    """Payload types of comfort noise."""
    mux: bool
    """Whether RTCP may come to the same port."""

    @property
    def fault(self) -> str:
        """Why we cannot receive it; empty if we can."""
        if self.kind != "audio":
            return f"{self.kind} is not received"
        if self.port == 0:
            return "the port is 0"
        if "SAVP" in self.protocol:
            return "SRTP is not supported, offer RTP/AVP"
        if self.protocol not in ("RTP/AVP", "RTP/AVPF"):
            return f"{self.protocol} is not supported, offer RTP/AVP"
        return "" if self.laws else "no codec of PCMU and PCMA"

    @property
    def held(self) -> bool:
        """Whether the sender has announced that it does not send."""
        return self.direction in ("recvonly", "inactive") or self.host in _NOWHERE


def parse(body: bytes) -> tuple[Media, ...]:
    """Return the media lines of an offer.

    Raises:
        SipError: the SDP is broken, or nothing of it can be received.

    """
    try:
        lines = body.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise _broken("it is not UTF-8") from None
    sections: list[list[tuple[str, str]]] = [[]]
    for line in (line.rstrip("\r") for line in lines):
        if line[1:2] == "=" and line[0].isalpha():
            if line[0] == "m":
                sections.append([])
            sections[-1].append((line[0], line[2:].strip()))
        elif line:
            raise _broken("a line has no type")
    common, *media = sections
    if common[:1] != [("v", "0")]:
        raise _broken("it does not begin with v=0")
    if not 0 < len(media) <= MAX_MEDIA:
        raise _broken(f"it has {len(media)} media lines, 1 to {MAX_MEDIA} are possible")
    found = tuple(_media(common, lines) for lines in media)
    if all(entry.fault for entry in found):
        raise SipError(488, found[0].fault)
    return found


def _broken(reason: str) -> SipError:
    return SipError(400, f"SDP: {reason}")


def _media(common: Sequence[tuple[str, str]], lines: Sequence[tuple[str, str]]) -> Media:
    line = _MEDIA.fullmatch(lines[0][1])
    if not line or int(line[2]) > 65_535:
        raise _broken("a media line is malformed")
    both = [*common, *lines]
    hosts = [_HOST.fullmatch(value) for kind, value in both if kind == "c"]
    port = int(line[2])
    if not all(hosts) or (port and not hosts):
        raise _broken("the address (c=) is malformed or missing")
    attributes = [value for kind, value in both if kind == "a"]
    maps = dict(_STATIC)
    for value in attributes:
        found = _MAP.fullmatch(value.removeprefix("rtpmap:")) if value[:7] == "rtpmap:" else None
        if found:
            usable = (found[3], found[4] or "1") == (str(RATE), "1")
            maps[int(found[1])] = found[2].upper() if usable else ""
    formats = tuple(line[4].split())
    types = [int(entry) for entry in formats if re.fullmatch(r"\d{1,3}", entry)]
    label = [value.partition(":")[2].strip() for value in attributes if value[:6] == "label:"]
    directions = [value for value in attributes if value in _DIRECTIONS]
    return Media(
        kind=line[1],
        port=port,
        protocol=line[3].upper(),
        formats=formats,
        host=hosts[-1][1] if hosts and hosts[-1] else "",
        direction=directions[-1] if directions else "sendrecv",
        label=label[-1] if label else "",
        laws={number: _LAWS[maps[number]] for number in types if maps.get(number) in _LAWS},
        noise=frozenset(number for number, name in maps.items() if name == "CN"),
        mux="rtcp-mux" in attributes,
    )


def common_law(media: Sequence[Media]) -> Law:
    """Return the law that most lines can send: a call has one."""
    offered = [law for entry in media if not entry.fault for law in set(entry.laws.values())]
    return max(("mulaw", "alaw"), key=offered.count)


def payload_type(media: Media, law: Law) -> int:
    """Return the payload type to ask for: of this law if it is offered."""
    return next((n for n, found in media.laws.items() if found == law), next(iter(media.laws)))


def answer(
    media: Sequence[Media],
    ports: Sequence[int],
    law: Law,
    *,
    host: str,
    session: tuple[int, int],
) -> bytes:
    """Return the answer.

    Args:
        media: the lines of the offer.
        ports: our port for each line; 0 refuses it.
        law: the law of the call.
        host: our address.
        session: number and version of the session.

    """
    family = "IP6" if ":" in host else "IP4"
    lines = ["v=0", f"o=- {session[0]} {session[1]} IN {family} {host}", "s=-"]
    lines += [f"c=IN {family} {host}", "t=0 0"]
    for entry, port in zip(media, ports, strict=True):
        if port == 0:
            lines.append(f"m={entry.kind} 0 {entry.protocol} {' '.join(entry.formats)}")
            continue
        number = payload_type(entry, law)
        name = {"mulaw": "PCMU", "alaw": "PCMA"}[entry.laws[number]]
        lines.append(f"m=audio {port} {entry.protocol} {number}")
        lines.append(f"a=rtpmap:{number} {name}/{RATE}")
        lines += ["a=rtcp-mux"] if entry.mux else []
        lines.append("a=inactive" if entry.held else "a=recvonly")
    return ("\r\n".join(lines) + "\r\n").encode()
