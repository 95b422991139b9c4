"""What a recorder's client is answered, and when: without sockets, with times passed in."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from fakes import patient
from hypothesis import given
from hypothesis import strategies as st
from recorder_client import BODY, TWO_LINES, multipart, request, sdp, sdp_line

from abhinaya.stream.serve.telephony.siprec import sip
from abhinaya.stream.serve.telephony.siprec.dialogs import Answerer, Invitation, Out, Path
from abhinaya.stream.serve.telephony.siprec.sdp import Media
from abhinaya.stream.serve.telephony.siprec.sip import SipError

UDP = Path("UDP", ("127.0.0.1", 5070), "127.0.0.9")
TCP = Path("TCP", ("127.0.0.1", 39_000), "127.0.0.9", 4)


@dataclass
class FakeSession:
    invitation: Invitation
    answer: bytes = b"v=0 first"
    agreed: list[tuple[Media, ...]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def agree(self, now: float, media: tuple[Media, ...], path: Path) -> None:
        self.agreed.append(media)
        self.answer = b"v=0 changed"

    def close(self, reason: str) -> None:
        self.reasons.append(reason)


class Scene:
    """An answerer and what it opened."""

    def __init__(self, full: bool = False) -> None:
        self.sessions: list[FakeSession] = []
        self.full = full
        self.answerer = Answerer(self.open, 5060, lambda host: host.startswith("127."))

    def open(self, _: float, invitation: Invitation) -> FakeSession:
        if self.full:
            raise SipError(503, "too many calls", Retry_After="30")
        self.sessions.append(FakeSession(invitation))
        return self.sessions[-1]

    def send(self, data: bytes, *, now: float = 0.0, path: Path = UDP) -> list[Out]:
        return self.answerer.receive(now, sip.parse(data), path)

    def status(self, data: bytes, *, now: float = 0.0, path: Path = UDP) -> tuple[int, sip.Headers]:
        (out,) = self.send(data, now=now, path=path)
        answer = sip.parse(out.data)
        assert isinstance(answer, sip.Response)
        return answer.status, answer.headers

    def invite(self, path: Path = UDP, **changes: str) -> str:
        """Invite; return our tag."""
        status, headers = self.status(request(change=dict(changes)), path=path)
        assert status == 200
        return sip.parameter(headers.get("to"), "tag")


def in_call(method: str, tag: str, number: int, body: str = "") -> bytes:
    change = {"Content-Type": "application/sdp"} if body else {}
    branch = f"z9hG4bK{method}{number}"
    return request(method, body, number=number, branch=branch, to_tag=tag, change=change)


def test_a_call_from_invite_to_bye() -> None:
    scene = Scene()
    (out,) = scene.send(request(change={"Record-Route": "<sip:p1;lr>, <sip:p2;lr>"}))
    answer = sip.parse(out.data)
    assert isinstance(answer, sip.Response)
    head = answer.headers
    assert (answer.status, out.path) == (200, UDP)
    assert head.get("contact") == "<sip:abhinaya@127.0.0.9:5060>;+sip.srs"
    assert head.all("record-route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert "application/rs-metadata+xml" in head.all("accept")
    assert out.data.endswith(b"\r\n\r\nv=0 first")
    invitation = scene.sessions[0].invitation
    assert (invitation.call_id, invitation.tracks) == ("call-1", ("Asha", "Bo"))
    assert invitation.facts == {
        "call_id": "call-1",
        "from": "sip:src@127.0.0.1",
        "session": "c1",
        "party 1": "Asha sip:asha@shop.example",
        "party 2": "Bo sip:bo@home.example",
    }
    tag = sip.parameter(head.get("to"), "tag")
    assert scene.send(request("ACK", b"", to_tag=tag)) == []
    assert scene.answerer.tick(60) == []
    assert scene.status(in_call("BYE", tag, 2), now=60)[0] == 200
    assert scene.sessions[0].reasons == [""]
    assert scene.status(in_call("BYE", tag, 2), now=61)[0] == 200, "repeated"
    assert scene.status(in_call("BYE", tag, 3), now=62)[0] == 481
    assert not scene.answerer.dialogs


@pytest.mark.parametrize("path", [UDP, TCP])
def test_the_answer_is_repeated_until_ack(path: Path) -> None:
    scene = Scene()
    tag = scene.invite(path)
    times = [now / 10 for now in range(330) if scene.answerer.tick(now / 10)]
    assert times[:5] == [0.5, 1.5, 3.5, 7.5, 11.5]
    assert len([now for now in times if now < 32]) == 10
    assert scene.sessions[0].reasons == ["the answer was not acknowledged"]
    assert scene.status(in_call("BYE", tag, 2))[0] == 481


def test_repeated_requests_get_the_same_answer_and_one_call() -> None:
    scene = Scene()
    assert scene.send(request()) == scene.send(request(), now=0.4)
    assert len(scene.sessions) == 1
    assert scene.status(request(branch="z9hG4bK2"))[0] == 486
    scene.answerer.tick(40)
    assert scene.status(request(branch="z9hG4bK2"), now=40)[0] == 200


def test_an_error_is_repeated_over_udp_until_ack() -> None:
    scene = Scene(full=True)
    status, headers = scene.status(request())
    assert (status, headers.get("retry-after")) == (503, "30")
    assert len(scene.answerer.tick(0.5)) == 1
    tag = sip.parameter(headers.get("to"), "tag")
    scene.send(request("ACK", b"", to_tag=tag))
    assert scene.answerer.tick(1.5) == []
    assert Scene(full=True).answerer.tick(0.5) == []


@pytest.mark.parametrize(
    ("data", "status", "header", "value"),
    [
        (request(change={"Require": "siprec, 100rel"}), 420, "unsupported", "100rel"),
        (request(change={"Content-Type": "text/plain"}), 415, "accept", "application/sdp"),
        (request(change={"Content-Encoding": "gzip"}), 415, "accept-encoding", "identity"),
        (request(body=b""), 488, "warning", '399 abhinaya "the SDP offer is missing"'),
        (
            request(body=multipart(("application/sdp", sdp("m=audio 4 RTP/SAVP 0")))),
            488,
            "warning",
            '399 abhinaya "SRTP is not supported, offer RTP/AVP"',
        ),
        (request(body=BODY[:80]), 400, "warning", None),
        (request(change={"Contact": None}), 400, "warning", '399 abhinaya "Contact is missing"'),
        (request(to_tag="unknown"), 481, "", None),
        (request("BYE", b""), 481, "", None),
        (request("CANCEL", b""), 481, "", None),
        (request("REGISTER", b""), 405, "allow", "INVITE"),
        (request("DANCE", b""), 501, "allow", "INVITE"),
        (request(change={"Session-Expires": "30", "Supported": "timer"}), 422, "min-se", "90"),
        (request(change={"CSeq": "x"}), 400, "", None),
    ],
)
def test_what_cannot_be_done_has_its_status(
    data: bytes, status: int, header: str, value: str | None
) -> None:
    scene = Scene()
    found, headers = scene.status(data)
    assert found == status
    if value:
        assert value in headers.all(header)
    assert not scene.sessions


def test_strangers_are_refused_and_nothing_is_kept_of_them() -> None:
    scene = Scene()
    path = Path("UDP", ("192.0.2.1", 5070), "127.0.0.9")
    assert scene.status(request(), path=path)[0] == 403
    assert (scene.sessions, scene.answerer.tick(0.5)) == ([], [])


def test_options_and_cancel() -> None:
    scene = Scene()
    status, headers = scene.status(request("OPTIONS", b""))
    assert (status, headers.tags("supported")) == (200, {"siprec", "timer"})
    scene.invite()
    assert scene.status(request("CANCEL", b""))[0] == 200
    assert len(scene.answerer.dialogs) == 1, "the final answer was given before"


def test_hold_and_refresh_within_a_call() -> None:
    scene = Scene()
    tag = scene.invite()
    held = sdp(sdp_line(40_000, "1", direction="inactive"), sdp_line(40_002, "2"))
    (out,) = scene.send(in_call("INVITE", tag, 2, held))
    assert out.data.endswith(b"v=0 changed")
    assert [line.held for line in scene.sessions[0].agreed[0]] == [True, False]
    assert scene.status(in_call("UPDATE", tag, 3))[0] == 200
    assert scene.status(in_call("INVITE", tag, 4))[0] == 200
    assert len(scene.sessions[0].agreed) == 1, "a refresh changes nothing"
    assert scene.status(in_call("INVITE", tag, 4, TWO_LINES.replace("v=0", "v=9")))[0] == 200
    assert scene.status(in_call("UPDATE", tag, 5, TWO_LINES.replace("v=0", "v=9")))[0] == 400
    assert scene.status(in_call("BYE", tag, 4))[0] == 500, "an old number"
    assert scene.sessions[0].reasons == []


def test_a_session_timer_ends_a_dead_call_and_bye_is_repeated() -> None:
    scene = Scene()
    change = {"Session-Expires": "120;refresher=uac", "Supported": "timer"}
    change |= {"Record-Route": "<sip:p1;lr>"}
    status, headers = scene.status(request(change=change))
    tag = sip.parameter(headers.get("to"), "tag")
    assert (status, headers.get("session-expires")) == (200, "120;refresher=uac")
    scene.send(request("ACK", b"", to_tag=tag))
    refresh = in_call("UPDATE", tag, 2).replace(
        b"CSeq", b"Supported: timer\r\nSession-Expires: 120\r\nCSeq"
    )
    assert scene.status(refresh, now=100)[1].get("session-expires") == "120;refresher=uac"
    assert scene.answerer.tick(219) == []
    (bye,) = scene.answerer.tick(220)
    message = sip.parse(bye.data)
    assert isinstance(message, sip.Request)
    sip.check(message)
    assert (message.method, message.uri) == ("BYE", "sip:src@127.0.0.1:5070")
    assert message.headers.get("route") == "<sip:p1;lr>"
    assert sip.parameter(message.headers.get("to"), "tag") == "src"
    assert sip.parameter(message.headers.get("from"), "tag") == tag
    assert scene.sessions[0].reasons == ["the session timer expired"]
    assert len(scene.answerer.tick(220.5)) == 1
    scene.send(sip.response(message, 200, ("127.0.0.9", 5060)))
    assert scene.answerer.tick(230) == []


@pytest.mark.parametrize(
    ("via", "path", "port"),
    [
        ("SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK1", UDP, 6000),
        ("SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1", UDP, 5060),
        ("SIP/2.0/UDP 127.0.0.1:6000;rport;branch=z9hG4bK1", UDP, 5070),
        ("SIP/2.0/TCP 127.0.0.1:6000;branch=z9hG4bK1", TCP, 39_000),
    ],
)
def test_an_answer_goes_where_via_says(via: str, path: Path, port: int) -> None:
    (out,) = Scene().send(request("OPTIONS", b"", change={"Via": via}), path=path)
    assert out.path == path._replace(peer=("127.0.0.1", port))


def test_a_request_that_nobody_can_be_answered_for_is_dropped() -> None:
    assert Scene().send(request(change={"Via": None})) == []
    assert Scene().send(request(change={"Via": "SIP/2.0/UDP"})) == []


def test_many_requests_keep_a_bounded_memory() -> None:
    scene = Scene()
    for i in range(5_000):
        scene.send(request("BYE", b"", branch=f"z9hG4bK{i}", to_tag="x"))
    assert len(scene.answerer._answers) <= 4_096
    scene.answerer.tick(33)
    assert not scene.answerer._answers


MESSAGES = [
    request(), request(branch="z9hG4bK2"), request("OPTIONS", b""), request("CANCEL", b""),
    request("ACK", b"", to_tag="TAG"), in_call("BYE", "TAG", 9), in_call("INVITE", "TAG", 3),
    in_call("UPDATE", "TAG", 4, TWO_LINES),
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=b\r\n\r\n",
]  # fmt: skip


@patient
@given(st.lists(st.tuples(st.sampled_from(MESSAGES), st.integers(0, 700), st.binary(max_size=3))))
def test_any_messages_in_any_order_are_answered(steps: list[tuple[bytes, int, bytes]]) -> None:
    """With bytes replaced anywhere: at most one answer each, and in the end nothing is kept."""
    scene, tag = Scene(), "TAG"
    for now, (data, at, piece) in enumerate(steps):
        data = data.replace(b"TAG", tag.encode())
        data = data[:at] + piece + data[at + len(piece) :]
        try:
            message = sip.parse(data)
        except ValueError:
            continue
        outs = scene.answerer.receive(now * 5, message, UDP)
        assert len(outs) <= 1
        scene.answerer.tick(now * 5)
        tag = next((dialog.tag for dialog in scene.answerer.dialogs.values()), tag)
    scene.answerer.tick(5 * len(steps) + 40)
    scene.answerer.tick(5 * len(steps) + 80)
    assert not scene.answerer._answers
    assert not scene.answerer._repeats
