"""The body of a recorder's INVITE (RFC 7866), and its metadata (RFC 7865): who is on which line.

Clients write the metadata in several ways: participants have `participant_id` or `id`, their
address is an attribute or an element, their streams are beside them or inside. All are understood.
Of broken metadata nothing is used: the labels of the SDP take the place of the names.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Final
from xml.etree import ElementTree

from abhinaya.models.text import clean, distinct, one_line
from abhinaya.stream.serve.telephony.siprec.sdp import Media
from abhinaya.stream.serve.telephony.siprec.sip import SipError, uri_of

SDP: Final = "application/sdp"
METADATA: Final = ("application/rs-metadata+xml", "application/rs-metadata")
ACCEPT: Final = f"{SDP}, {', '.join(METADATA)}, multipart/mixed"
MAX_PARTS: Final = 20
LONGEST_TRACK: Final = 60


@dataclass(frozen=True, slots=True)
class Party:
    """A participant of the recorded call."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the metadata says."""

    parties: dict[str, Party] = field(default_factory=dict)
    """Label of a media line -> who is heard on it."""
    sessions: tuple[str, ...] = ()
    """Identifiers of the recorded calls."""


@dataclass(frozen=True, slots=True)
class Body:
    """The parts of a body."""

    sdp: bytes | None = None
    metadata: Metadata = Metadata()
    fault: str = ""
    """Why the metadata is not used; empty if it is."""


def read(content_type: str, data: bytes) -> Body:
    """Return the parts of a body.

    Raises:
        SipError: it is of another type, or is broken.

    """
    if not data:
        return Body()
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (SDP, "multipart/mixed", *METADATA):
        raise SipError(415, f"the body is {clean(kind) or 'of no type'}", Accept=ACCEPT)
    head = re.sub(r"[^\x20-\x7e]", "", content_type).encode()
    message = email.message_from_bytes(
        b"Content-Type: " + head + b"\r\n\r\n" + data, EmailMessage, policy=email.policy.HTTP
    )
    if kind == "multipart/mixed" and not message.is_multipart():
        raise SipError(400, "multipart body without its parts")
    sdp, metadata, fault = None, Metadata(), ""
    parts = [part for part in message.walk() if not part.is_multipart()]
    if len(parts) > MAX_PARTS:
        raise SipError(400, f"{len(parts)} parts, at most {MAX_PARTS} are possible")
    for part in parts:
        found = part.get_content_type()
        content = part.get_payload(decode=True)
        if not isinstance(content, bytes):
            continue
        if found == SDP and sdp is None:
            sdp = content
        elif found in METADATA:
            try:
                metadata = parse_metadata(content)
            except ValueError as error:
                fault = str(error)
    return Body(sdp, metadata, fault)


def parse_metadata(data: bytes) -> Metadata:
    """Return what a document says.

    Raises:
        ValueError: it is not well formed, or declares entities.

    """
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("the metadata is not UTF-8") from None
    if "<!DOCTYPE" in text:  # entities can be declared only there
        raise ValueError("the metadata declares a document type")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        raise ValueError("the metadata is not well-formed XML") from None
    people: dict[str, Party] = {}
    senders: dict[str, str] = {}
    labels: dict[str, str] = {}
    sessions: list[str] = []
    for element in root:
        match _local(element):
            case "participant":
                who = _identifier(element, "participant_id")
                people[who] = _party(element)
                senders |= dict.fromkeys(_texts(element, "send"), who)
            case "participantstreamassoc":
                who = _identifier(element, "participant_id")
                senders |= dict.fromkeys(_texts(element, "send"), who)
            case "stream":
                stream = _identifier(element, "stream_id")
                labels |= dict.fromkeys(_texts(element, "label"), stream)
            case "session":
                sessions.append(_identifier(element, "session_id"))
    parties = {
        label: people[senders[stream]]
        for label, stream in labels.items()
        if senders.get(stream) in people
    }
    return Metadata(parties, tuple(one_line(found) for found in sessions if found))


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _identifier(element: ElementTree.Element, name: str) -> str:
    return (element.get(name) or element.get("id") or "").strip()


def _texts(element: ElementTree.Element, name: str) -> list[str]:
    return [(e.text or "").strip() for e in element.iter() if _local(e) == name]


def _party(element: ElementTree.Element) -> Party:
    addresses = [e.get("aor") or "" for e in element.iter()] + _texts(element, "aor")
    address = uri_of(next(filter(None, addresses), ""))
    return Party(one_line(next(iter(_texts(element, "name")), "")), one_line(address))


def track_names(media: Sequence[Media], metadata: Metadata) -> tuple[str, ...]:
    """Return the name of each line that is received: of its party, else its label or number."""
    names = []
    for number, line in enumerate(media, 1):
        party = metadata.parties.get(line.label, Party("", ""))
        address = re.sub(r"^(sips?|tel):", "", party.address)
        name = party.name or address or one_line(line.label) or f"line {number}"
        names.append(name.replace("/", "_")[:LONGEST_TRACK])
    return tuple(distinct(names))
