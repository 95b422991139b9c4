"""Messages of SIP (RFC 3261) as bytes and as values; nothing here sends or remembers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from abhinaya.stream.errors import WireError

MAX_MESSAGE: Final = 65_535
MAX_HEADERS: Final = 200
DEFAULT_PORT: Final = 5060

PHRASES: Final = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 405: "Method Not Allowed",
    415: "Unsupported Media Type", 420: "Bad Extension", 422: "Session Interval Too Small",
    481: "Call/Transaction Does Not Exist", 486: "Busy Here", 488: "Not Acceptable Here",
    500: "Server Internal Error", 501: "Not Implemented", 503: "Service Unavailable",
    505: "Version Not Supported", 513: "Message Too Large",
}  # fmt: skip

_COMPACT: Final = {
    "b": "referred-by", "c": "content-type", "e": "content-encoding", "f": "from", "i": "call-id",
    "k": "supported", "l": "content-length", "m": "contact", "o": "event", "r": "refer-to",
    "s": "subject", "t": "to", "u": "allow-events", "v": "via", "x": "session-expires",
}  # fmt: skip
_LISTS: Final = frozenset({
    "accept", "allow", "contact", "proxy-require", "record-route", "require", "route", "supported",
    "via",
})  # fmt: skip
"""Headers whose value is a list with commas."""
_ONCE: Final = ("from", "to", "call-id", "cseq")
_NAME: Final = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_TEXT: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_METHOD: Final = re.compile(r"[A-Z]{1,20}")
_CSEQ: Final = re.compile(r"(\d{1,10})\s+([A-Z]{1,20})")
_QUOTED: Final = r'"(?:\\.?|[^"\\])*"?'
_PART: Final = re.compile(rf"{_QUOTED}|<[^<>]*>|[^\",;<]+|.", re.S)
_ASIDE: Final = re.compile(rf"{_QUOTED}|<[^<>]*>")
_TOP: Final = re.compile(r"SIP\s*/\s*2\.0\s*/\s*(\w+)\s+(\[[^\]]+\]|[^\s:;]+)\s*(?::\s*(\d{1,5}))?")
_LENGTH: Final = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*(\d+)[ \t]*\r?$", re.I | re.M)


class SipError(WireError):
    """A request gets an answer other than 200."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(f"SIP {status}", reason)
        self.status, self.reason = status, reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers of a message, in their order, with long names in lower case."""

    fields: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> list[str]:
        """Return the values of a header; a list with commas is split."""
        return [value for found, value in self.fields if found == name]

    def get(self, name: str) -> str:
        """Return the first value; empty if there is none."""
        return next((value for found, value in self.fields if found == name), "")

    def tags(self, name: str) -> set[str]:
        """Return the option tags of a header, in lower case."""
        return {value.lower() for value in self.all(name) if value}


@dataclass(frozen=True, slots=True)
class Request:
    """A request, whose `fault` says why its framing is wrong, if it is."""

    method: str
    uri: str
    headers: Headers
    body: bytes = b""
    fault: str = ""

    @property
    def call_id(self) -> str:
        """The identifier of the call."""
        return self.headers.get("call-id")

    @property
    def number(self) -> int:
        """The number of CSeq; only of a checked request."""
        found = _CSEQ.fullmatch(self.headers.get("cseq"))
        return int(found[1]) if found else -1

    @property
    def via(self) -> Via:
        """The hop that sent the request; only of a checked request."""
        return parse_via(self.headers.get("via"))


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to a request of ours."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Via:
    """A hop of a message: where its answer goes."""

    transport: str
    host: str
    port: int
    parameters: dict[str, str] = field(default_factory=dict)


def parse(data: bytes) -> Request | Response:
    """Return the message of a datagram or of a frame.

    Raises:
        ValueError: it is not SIP, so that nobody can be answered.

    """
    if len(data) > MAX_MESSAGE:
        raise ValueError("too long")
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    headers = Headers(tuple(_fields(lines)))
    start = first.split(" ", 2)
    if len(start) < 3:
        raise ValueError("no start line")
    if start[0] == "SIP/2.0":
        if not re.fullmatch(r"[1-6]\d\d", start[1]):
            raise ValueError("no status")
        return Response(int(start[1]), headers)
    if not _METHOD.fullmatch(start[0]) or not start[2].startswith("SIP/"):
        raise ValueError("no request line")
    fault = "" if start[2] == "SIP/2.0" else "version"
    lengths = set(headers.all("content-length"))
    if lengths:
        length = lengths.pop()
        if lengths or not re.fullmatch(r"\d{1,9}", length) or int(length) > len(body):
            fault = fault or "Content-Length does not fit the body"
        else:
            body = body[: int(length)]
    return Request(start[0], start[1], headers, body, fault)


def _fields(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    unfolded: list[str] = []
    for line in lines:
        if not _TEXT.fullmatch(line):
            raise ValueError("a header has control characters")
        if line[:1] in (" ", "\t") and unfolded:
            unfolded[-1] += f" {line.strip()}"
        else:
            unfolded.append(line)
    if len(unfolded) > MAX_HEADERS:
        raise ValueError("too many headers")
    for line in unfolded:
        name, colon, value = line.partition(":")
        name = name.rstrip().lower()
        if not colon or not _NAME.fullmatch(name):
            raise ValueError("a header has no name")
        name = _COMPACT.get(name, name)
        for part in split(value) if name in _LISTS else [value.strip()]:
            yield name, part


def split(value: str, mark: str = ",") -> list[str]:
    """Return the parts of a list; marks in quotes and in <> do not separate."""
    parts = [""]
    for found in _PART.finditer(value):
        if found[0] == mark:
            parts.append("")
        else:
            parts[-1] += found[0]
    return [part.strip() for part in parts]


def check(request: Request) -> None:
    """Check what each request must have.

    Raises:
        SipError: it cannot be handled.

    """
    if request.fault == "version":
        raise SipError(505, "only SIP/2.0 is spoken here")
    if request.fault:
        raise SipError(513 if "large" in request.fault else 400, request.fault)
    for name in _ONCE:
        if len(request.headers.all(name)) != 1 or not request.headers.get(name):
            raise SipError(400, f"{name} must be there once")
    found = _CSEQ.fullmatch(request.headers.get("cseq"))
    if not found or found[2] != request.method or int(found[1]) >= 1 << 31:
        raise SipError(400, "CSeq does not fit the method")
    if not parameter(request.headers.get("from"), "tag"):
        raise SipError(400, "From has no tag")


def parse_via(value: str) -> Via:
    """Return the parts of a Via.

    Raises:
        ValueError: it is malformed: nobody can be answered.

    """
    found = _TOP.match(value)
    if not found or int(found[3] or 0) > 65_535:
        raise ValueError("Via is malformed")
    host, port = found[2].strip("[]"), int(found[3] or DEFAULT_PORT)
    return Via(found[1].upper(), host, port, _parameters(value[found.end() :]))


def parameter(value: str, name: str) -> str:
    """Return a parameter of an address (after its <>), as `tag`; empty if it is not there."""
    return _parameters(_ASIDE.sub("", value).partition(";")[2]).get(name, "")


def _parameters(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in split(text, ";") if part)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def uri_of(address: str) -> str:
    """Return the URI of From, To or Contact."""
    found = re.search(r"<([^<>]*)>", re.sub(_QUOTED, "", address))
    return found[1].strip() if found else address.partition(";")[0].strip()


def plain(host: str) -> str:
    """Return an address in its one spelling; what is not an address stays as it is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)


def bracketed(host: str) -> str:
    """Return a host as URIs have it."""
    return f"[{host}]" if ":" in host else host


def response(
    request: Request,
    status: int,
    source: tuple[str, int],
    *,
    tag: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> bytes:
    """Return the answer to a request that came from this address, for the wire."""
    top, *others = request.headers.all("via")
    via = parse_via(top)
    if "rport" in via.parameters:
        top = re.sub(r";\s*rport\s*(=[^;]*)?(?=;|$)", f";rport={source[1]}", top, flags=re.I)
    if via.host != plain(source[0]) or "rport" in via.parameters:
        top += f";received={plain(source[0])}"
    to = request.headers.get("to")
    if tag and not parameter(to, "tag"):
        to += f";tag={tag}"
    fields = [("Via", value) for value in (top, *others)]
    fields += [("From", request.headers.get("from")), ("To", to)]
    fields += [("Call-ID", request.call_id), ("CSeq", request.headers.get("cseq")), *headers]
    return _written(f"SIP/2.0 {status} {PHRASES[status]}", fields, body)


def request(method: str, uri: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a request without a body, for the wire."""
    return _written(f"{method} {uri} SIP/2.0", headers, b"")


def _written(start: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in headers)]
    text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    return text.encode("utf-8", "surrogateescape") + body


class Framer:
    """Cuts the bytes of a connection into messages, by Content-Length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.pings = 0
        """Keep-alives (RFC 5626: two line ends) that wait for their answer, one line end."""
        self.broken = False
        """Whether the rest of the connection cannot be read."""

    def feed(self, data: bytes) -> list[Request | Response]:
        """Return the messages that are complete now.

        Raises:
            ValueError: this is not SIP.

        """
        self._buffer += data
        found: list[Request | Response] = []
        while not self.broken:
            while self._buffer[:2] == b"\r\n":
                self.pings += self._buffer[:4] == b"\r\n\r\n"
                del self._buffer[: 4 if self._buffer[:4] == b"\r\n\r\n" else 2]
            end = self._buffer.find(b"\r\n\r\n") + 4
            if end == 3:
                if len(self._buffer) > MAX_MESSAGE:
                    raise ValueError("too long")
                break
            head = bytes(self._buffer[:end])
            lengths = _LENGTH.findall(head)
            length = int(lengths[0][:9]) if lengths else 0
            if end + length > MAX_MESSAGE:
                self.broken = True
                message = parse(head)
                if isinstance(message, Request):
                    fault = f"message too large: at most {MAX_MESSAGE} bytes"
                    message = Request(message.method, message.uri, message.headers, b"", fault)
                found.append(message)
            elif len(self._buffer) < end + length:
                break
            else:
                found.append(parse(bytes(self._buffer[: end + length])))
                del self._buffer[: end + length]
        return found
