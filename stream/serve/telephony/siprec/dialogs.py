"""Answers SIP requests and keeps the dialogs of recorders (RFC 3261, 4028, 7866).

Messages and times are passed in, messages are returned: no sockets here. Each INVITE gets its final
answer at once, so a CANCEL always comes too late, and is only confirmed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from abhinaya.models.text import one_line, short_name
from abhinaya.stream.serve.telephony.siprec import sdp, sip
from abhinaya.stream.serve.telephony.siprec.body import ACCEPT, SDP, Body, read, track_names
from abhinaya.stream.serve.telephony.siprec.sip import Request, Response, SipError

T1_S: Final = 0.5
T2_S: Final = 4.0
GIVE_UP_S: Final = 64 * T1_S
MAX_ANSWERS: Final = 4_096
"""Answers that are kept for repeated requests."""
LEAST_INTERVAL_S: Final = 90
"""Shortest session timer (RFC 4028)."""

EXTENSIONS: Final = frozenset({"siprec", "timer"})
_ALLOW: Final = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE"
_KNOWN: Final = frozenset(
    {"INFO", "MESSAGE", "NOTIFY", "PRACK", "PUBLISH", "REFER", "REGISTER", "SUBSCRIBE"}
)
"""Methods of SIP that a recorder does not have."""


class Path(NamedTuple):
    """How a message came, and so how the answer goes."""

    transport: str
    peer: tuple[str, int]
    local: str
    """Our address, as the peer sees it."""
    connection: int = 0


class Out(NamedTuple):
    """A message to send."""

    path: Path
    data: bytes


@dataclass(frozen=True, slots=True)
class Invitation:
    """A recorder wants to send a call."""

    call_id: str
    media: tuple[sdp.Media, ...]
    tracks: tuple[str, ...]
    """Name of each media line."""
    facts: Mapping[str, str]
    path: Path


class Session(Protocol):
    """The media of a call."""

    answer: bytes
    """The SDP that holds now."""

    def agree(self, now: float, media: tuple[sdp.Media, ...], path: Path) -> None:
        """Change what is agreed; raises SipError and changes nothing if that is impossible."""

    def close(self, reason: str) -> None:
        """End the call; an empty reason is a natural end."""


@dataclass(slots=True)
class Dialog:
    """A call between a recorder and us."""

    call_id: str
    tag: str
    peer_tag: str
    local: str
    remote: str
    """To and From of the first INVITE, with our tag."""
    routes: tuple[str, ...]
    target: str
    path: Path
    number: int
    session: Session
    expires: float | None = None
    own_number: int = 0


@dataclass(slots=True)
class _Repeat:
    """A message that is sent until it is confirmed."""

    out: Out
    at: float
    until: float
    interval_s: float = T1_S
    dialog: Dialog | None = None
    """The dialog that ends if nothing confirms it."""


class Answerer:
    """The server side of SIP for recorders.

    Args:
        open_session: opens the media of a call; raises SipError if that is impossible.
        port: our port of the signalling.
        allowed: whether a host may call.

    """

    def __init__(
        self,
        open_session: Callable[[float, Invitation], Session],
        port: int,
        allowed: Callable[[str], bool],
    ) -> None:
        self.dialogs: dict[tuple[str, str], Dialog] = {}
        self._open, self._port, self._allowed = open_session, port, allowed
        self._answers: dict[tuple[str, ...], tuple[float, Out]] = {}
        self._repeats: dict[tuple[str, ...], _Repeat] = {}

    def receive(self, now: float, message: Request | Response, path: Path) -> list[Out]:
        """Take a message; return what to send."""
        if isinstance(message, Response):
            if message.status >= 200:
                self._repeats.pop(("BYE", _branch(message.headers)), None)
            return []
        try:
            via = message.via
        except ValueError:
            return []
        if message.method == "ACK":
            self._repeats.pop(_invite_key(message), None)
            return []
        key = _transaction(message)
        if key in self._answers:
            return [self._answers[key][1]]
        if path.transport == "UDP" and "rport" not in via.parameters:
            back = path._replace(peer=(path.peer[0], via.port))
        else:
            back = path
        status, tag, headers, body = 200, secrets.token_hex(8), list[tuple[str, str]](), b""
        try:
            if not self._allowed(path.peer[0]):
                raise SipError(403, "this host is not one of the allowed peers")
            sip.check(message)
            headers, body = self._handle(now, message, back, tag)
        except SipError as error:
            status, warning = error.status, f'399 abhinaya "{_quotable(error.reason)}"'
            headers = [*error.headers.items(), ("Warning", warning)]
        headers += [("Content-Type", SDP)] if body else []
        data = sip.response(message, status, path.peer, tag=tag, headers=headers, body=body)
        out = Out(back, data)
        if message.method != "OPTIONS" and status != 403:
            self._remember(now, key, out)
        if message.method == "INVITE" and status != 403:
            tag = sip.parameter(message.headers.get("to"), "tag") or tag
            dialog = self.dialogs.get((message.call_id, tag)) if status == 200 else None
            if dialog or path.transport == "UDP":
                again = _Repeat(out, now + T1_S, now + GIVE_UP_S, dialog=dialog)
                self._repeats[_invite_key(message, tag)] = again
        return [out]

    def tick(self, now: float) -> list[Out]:
        """Return what to send because time has passed."""
        outs = []
        for key, repeat in list(self._repeats.items()):
            if now >= repeat.until:
                self._repeats.pop(key, None)
                if repeat.dialog:
                    outs += self.hang_up(now, repeat.dialog, "the answer was not acknowledged")
            elif now >= repeat.at:
                repeat.interval_s = min(2 * repeat.interval_s, T2_S)
                repeat.at = now + repeat.interval_s
                outs.append(repeat.out)
        for dialog in list(self.dialogs.values()):
            if dialog.expires is not None and now >= dialog.expires:
                outs += self.hang_up(now, dialog, "the session timer expired")
        while self._answers and next(iter(self._answers.values()))[0] <= now:
            del self._answers[next(iter(self._answers))]
        return outs

    def hang_up(self, now: float, dialog: Dialog, reason: str) -> list[Out]:
        """End a call from our side."""
        if not self._forget(dialog):
            return []
        dialog.session.close(reason)
        dialog.own_number += 1
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        host = f"{sip.bracketed(dialog.path.local)}:{self._port}"
        headers = [
            ("Via", f"SIP/2.0/{dialog.path.transport} {host};rport;branch={branch}"),
            ("Max-Forwards", "70"),
            *(("Route", route) for route in dialog.routes),
            ("From", dialog.local),
            ("To", dialog.remote),
            ("Call-ID", dialog.call_id),
            ("CSeq", f"{dialog.own_number} BYE"),
            ("Reason", f'SIP;text="{_quotable(reason)}"'),
        ]
        out = Out(dialog.path, sip.request("BYE", dialog.target, headers))
        if dialog.path.transport == "UDP":
            self._repeats["BYE", branch] = _Repeat(out, now + T1_S, now + GIVE_UP_S)
        return [out]

    def _forget(self, dialog: Dialog) -> bool:
        self._repeats = {k: r for k, r in self._repeats.items() if r.dialog is not dialog}
        return self.dialogs.pop((dialog.call_id, dialog.tag), None) is not None

    def _remember(self, now: float, key: tuple[str, ...], out: Out) -> None:
        if len(self._answers) >= MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = now + GIVE_UP_S, out

    def _handle(
        self, now: float, request: Request, path: Path, tag: str
    ) -> tuple[list[tuple[str, str]], bytes]:
        """Return headers and body of the answer 200."""
        method = request.method
        if method in _KNOWN:
            raise SipError(405, f"{method} is not supported", Allow=_ALLOW)
        if method not in _ALLOW.split(", "):
            raise SipError(501, f"{method} is unknown", Allow=_ALLOW)
        if method == "CANCEL":
            if _transaction(request, "INVITE") not in self._answers:
                raise SipError(481, "the call to cancel is unknown")
            return [], b""
        required = request.headers.tags("require") | request.headers.tags("proxy-require")
        if unknown := sorted(required - EXTENSIONS):
            raise SipError(420, "an extension is unknown", Unsupported=one_line(", ".join(unknown)))
        if method == "OPTIONS":
            return self._abilities(path), b""
        if not sip.parameter(request.headers.get("to"), "tag"):
            if method != "INVITE":
                raise SipError(481, "To has no tag")
            return self._invited(now, request, path, tag)
        dialog = self._dialog(request)
        if method == "BYE":
            self._forget(dialog)
            dialog.session.close("")
            return [], b""
        return self._changed(now, request, path, dialog)

    def _dialog(self, request: Request) -> Dialog:
        dialog = self.dialogs.get((request.call_id, _tag(request, "to")))
        if dialog is None or dialog.peer_tag != _tag(request, "from"):
            raise SipError(481, "this call is unknown or has ended")
        if request.number <= dialog.number:
            raise SipError(500, "CSeq is not higher than before")
        dialog.number = request.number
        return dialog

    def _invited(
        self, now: float, request: Request, path: Path, tag: str
    ) -> tuple[list[tuple[str, str]], bytes]:
        if any(call_id == request.call_id for call_id, _ in self.dialogs):
            raise SipError(486, "a call with this Call-ID is open")
        body = _body(request)
        if body.sdp is None:
            raise SipError(488, "the SDP offer is missing")
        target = _target(request)
        if not target:
            raise SipError(400, "Contact is missing")
        interval_s = _interval_s(request)
        media = sdp.parse(body.sdp)
        tracks, facts = track_names(media, body.metadata), dict(_facts(request, body))
        invitation = Invitation(request.call_id, media, tracks, facts, path)
        dialog = Dialog(
            call_id=request.call_id,
            tag=tag,
            peer_tag=_tag(request, "from"),
            local=f"{request.headers.get('to')};tag={tag}",
            remote=request.headers.get("from"),
            routes=tuple(request.headers.all("record-route")),
            target=target,
            path=path,
            number=request.number,
            session=self._open(now, invitation),
        )
        self.dialogs[dialog.call_id, tag] = dialog
        routes = [("Record-Route", route) for route in dialog.routes]
        return routes + self._agreed(now, dialog, interval_s), dialog.session.answer

    def _changed(
        self, now: float, request: Request, path: Path, dialog: Dialog
    ) -> tuple[list[tuple[str, str]], bytes]:
        """Take a re-INVITE or an UPDATE; without SDP, it refreshes the session."""
        body, interval_s = _body(request), _interval_s(request)
        if body.sdp is not None:
            dialog.session.agree(now, sdp.parse(body.sdp), path)
        dialog.target, dialog.path = _target(request) or dialog.target, path
        answered = request.method == "INVITE" or body.sdp is not None
        return self._agreed(now, dialog, interval_s), dialog.session.answer if answered else b""

    def _agreed(self, now: float, dialog: Dialog, interval_s: int) -> list[tuple[str, str]]:
        headers = self._abilities(dialog.path)
        dialog.expires = now + interval_s if interval_s else None
        if interval_s:
            headers.append(("Session-Expires", f"{interval_s};refresher=uac"))
            headers.append(("Require", "timer"))
        return headers

    def _abilities(self, path: Path) -> list[tuple[str, str]]:
        over = ";transport=tcp" if path.transport == "TCP" else ""
        contact = f"<sip:abhinaya@{sip.bracketed(path.local)}:{self._port}{over}>;+sip.srs"
        tags = ", ".join(sorted(EXTENSIONS))
        return [("Contact", contact), ("Allow", _ALLOW), ("Accept", ACCEPT), ("Supported", tags)]


def _quotable(text: str) -> str:
    return one_line(text).replace("\\", "/").replace('"', "'")


def _transaction(request: Request, method: str = "") -> tuple[str, ...]:
    """Return what all repetitions of a request share; `method`: of the request to cancel."""
    via, cseq = request.via, request.headers.get("cseq").split()
    number = cseq[0] if cseq else ""
    sender = (via.parameters.get("branch", ""), via.host, str(via.port), _tag(request, "from"))
    return (method or request.method, number, request.call_id, *sender)


def _invite_key(request: Request, tag: str = "") -> tuple[str, ...]:
    """Return what the answer to an INVITE and its ACK share."""
    return ("INVITE", request.call_id, tag or _tag(request, "to"), str(request.number))


def _tag(request: Request, name: str) -> str:
    return sip.parameter(request.headers.get(name), "tag")


def _branch(headers: sip.Headers) -> str:
    try:
        return sip.parse_via(headers.get("via")).parameters.get("branch", "")
    except ValueError:
        return ""


def _body(request: Request) -> Body:
    if request.headers.get("content-encoding").lower() not in ("", "identity"):
        raise SipError(415, "the body is encoded", Accept_Encoding="identity", Accept=ACCEPT)
    return read(request.headers.get("content-type"), request.body)


def _target(request: Request) -> str:
    uri = sip.uri_of(request.headers.get("contact"))
    return uri if re.fullmatch(r"sips?:[^\s<>]+", uri) else ""


def _interval_s(request: Request) -> int:
    """Return the interval of a session timer that the peer keeps; 0: none.

    Raises:
        SipError: it is too short.

    """
    value = request.headers.get("session-expires")
    found = re.match(r"\s*(\d{1,9})", value)
    able = "timer" in request.headers.tags("supported") | request.headers.tags("require")
    refresher = sip.parameter(value, "refresher").lower()
    if not found or not able or refresher == "uas":
        return 0
    if int(found[1]) < LEAST_INTERVAL_S:
        raise SipError(422, "the session timer is too short", Min_SE=str(LEAST_INTERVAL_S))
    return int(found[1])


def _facts(request: Request, body: Body) -> Iterator[tuple[str, str]]:
    """Yield what is known of a call: fact and value."""
    yield "call_id", short_name(request.call_id)
    yield "from", short_name(one_line(sip.uri_of(request.headers.get("from"))))
    if body.metadata.sessions:
        yield "session", short_name(", ".join(body.metadata.sessions))
    for label, party in body.metadata.parties.items():
        yield f"party {short_name(one_line(label))}", short_name(f"{party.name} {party.address}")
    if body.fault:
        yield "metadata", body.fault
