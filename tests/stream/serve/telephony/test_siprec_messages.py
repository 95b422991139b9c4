"""Messages of SIP, SDP and metadata: tables of what clients send, and bytes that nobody should."""

from __future__ import annotations

import contextlib

import pytest
from fakes import patient
from hypothesis import given
from hypothesis import strategies as st
from recorder_client import BODY, MIXED, PEOPLE, metadata, multipart, request, sdp, sdp_line

from abhinaya.stream.serve.telephony.siprec import body as bodies
from abhinaya.stream.serve.telephony.siprec import sdp as offers
from abhinaya.stream.serve.telephony.siprec import sip
from abhinaya.stream.serve.telephony.siprec.sip import SipError

COMPACT = (
    b"INVITE sip:srs@192.0.2.9;transport=tcp SIP/2.0\r\n"
    b"v: SIP / 2.0 / TCP sbc.example:5062 ;branch=z9hG4bKx;rport,\r\n"
    b" SIP/2.0/UDP [2001:db8::5]:5070;branch=z9hG4bKy\r\n"
    b'f: "Shop, \\"north\\" <1>" <sip:shop@example.org;user=phone>;tag=a;x="1;tag=no"\r\n'
    b"t: sip:srs@192.0.2.9;note=1\r\n"
    b"i: 7a@192.0.2.1\r\nCSeq:  9   INVITE\r\n"
    b'm: "A, B" <sip:src@192.0.2.1>;+sip.src;audio, <sip:b@192.0.2.1>\r\n'
    b"Require: siprec , timer\r\nREQUIRE: 100rel\r\n"
    b"Subject: folded\r\n\tonce\r\n   and again\r\nl: 3\r\n\r\nabcdef"
)


def parsed(data: bytes) -> sip.Request:
    message = sip.parse(data)
    assert isinstance(message, sip.Request)
    return message


def test_short_folded_and_listed_headers() -> None:
    message = parsed(COMPACT)
    sip.check(message)
    head = message.headers
    assert (message.method, message.call_id, message.number) == ("INVITE", "7a@192.0.2.1", 9)
    assert message.body == b"abc"
    assert head.get("subject") == "folded once and again"
    assert head.tags("require") == {"siprec", "timer", "100rel"}
    assert [sip.uri_of(value) for value in head.all("contact")] == [
        "sip:src@192.0.2.1",
        "sip:b@192.0.2.1",
    ]
    assert sip.parameter(head.get("from"), "tag") == "a"
    assert sip.uri_of(head.get("from")) == "sip:shop@example.org;user=phone"
    assert sip.uri_of(head.get("to")) == "sip:srs@192.0.2.9"
    hops = [sip.parse_via(value) for value in head.all("via")]
    assert [(hop.transport, hop.host, hop.port) for hop in hops] == [
        ("TCP", "sbc.example", 5062),
        ("UDP", "2001:db8::5", 5070),
    ]


def test_an_answer_goes_back_over_all_hops() -> None:
    data = sip.response(parsed(COMPACT), 200, ("192.0.2.1", 4444), tag="ours", body=b"xy")
    lines = data.decode().split("\r\n")
    assert lines[0] == "SIP/2.0 200 OK"
    assert lines[1].endswith(";branch=z9hG4bKx;rport=4444;received=192.0.2.1")
    assert lines[2].startswith("Via: SIP/2.0/UDP [2001:db8::5]:5070")
    assert "To: sip:srs@192.0.2.9;note=1;tag=ours" in lines
    assert data.endswith(b"Content-Length: 2\r\n\r\nxy")
    answer = sip.parse(data)
    assert isinstance(answer, sip.Response)
    assert (answer.status, answer.headers.get("cseq")) == (200, "9   INVITE")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"From": None}, 400),
        ({"From": "<sip:a@b>"}, 400),
        ({"CSeq": "1 BYE"}, 400),
        ({"CSeq": "4294967296 INVITE"}, 400),
        ({"Call-ID": None}, 400),
        ({"t": "<sip:second@to>"}, 400),
        ({"Content-Length": "999999"}, 400),
        ({"Content-Length": "-1"}, 400),
        ({"l": "1"}, 400),
    ],
)
def test_faults_of_a_request_have_a_status(change: dict[str, str | None], status: int) -> None:
    with pytest.raises(SipError) as caught:
        sip.check(parsed(request(change=change)))
    assert caught.value.status == status


def test_another_version_of_sip_is_refused() -> None:
    with pytest.raises(SipError, match="505"):
        sip.check(parsed(request().replace(b"SIP/2.0\r\n", b"SIP/3.0\r\n", 1)))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"GET / HTTP/1.1\r\n\r\n", b"INVITE sip:a SIP/2.0\r\nNo colon\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nVia: a\rX: b\r\n\r\n", b"SIP/2.0 abc OK\r\n\r\n",
        request(change={f"X-{i}": "y" for i in range(201)}), b"x" * 70_000,
    ],
)  # fmt: skip
def test_what_is_not_sip_has_no_answer(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        sip.parse(data)


@patient
@given(st.lists(st.integers(0, 3), max_size=6), st.data())
def test_a_connection_is_cut_into_the_same_messages_anywhere(
    kinds: list[int], data: st.DataObject
) -> None:
    parts = (request(), request("BYE", b"", to_tag="t"), b"\r\n\r\n", b"\r\n")
    stream = b"".join(parts[kind] for kind in kinds)
    framer, found = sip.Framer(), list[sip.Request | sip.Response]()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += framer.feed(stream[begin:end])
    assert found == [parsed(parts[kind]) for kind in kinds if kind < 2]


def test_a_message_of_100_megabytes_is_refused_by_its_head() -> None:
    framer = sip.Framer()
    (message,) = framer.feed(request(change={"Content-Length": "100000000"})[:900])
    assert framer.broken
    assert isinstance(message, sip.Request)
    with pytest.raises(SipError, match="513"):
        sip.check(message)
    with pytest.raises(ValueError, match="too long"):
        sip.Framer().feed(b"INVITE sip:a SIP/2.0\r\nX: " + b"y" * 70_000)


# --- SDP ------------------------------------------------------------------------------------------


def test_an_offer_is_read_and_answered() -> None:
    lines = (
        sdp_line(40_000, "A", "8 0 101", extra="c=IN IP4 192.0.2.7/127\r\na=rtcp-mux"),
        sdp_line(40_002, "B", "96 13", extra="a=rtpmap:96 pcma/8000/1"),
        "m=video 40004 RTP/AVP 31\r\na=sendonly",
        sdp_line(40_006, "C", "0", "inactive"),
        sdp_line(40_008, "D", "97", extra="a=rtpmap:97 PCMU/16000"),
    )
    media = offers.parse(sdp(*lines, host="192.0.2.1").encode())
    assert [(m.label, m.host, m.held, bool(m.fault)) for m in media] == [
        ("A", "192.0.2.7", False, False),
        ("B", "192.0.2.1", False, False),
        ("", "192.0.2.1", False, True),
        ("C", "192.0.2.1", True, False),
        ("D", "192.0.2.1", False, True),
    ]
    assert (dict(media[0].laws), dict(media[1].laws)) == ({8: "alaw", 0: "mulaw"}, {96: "alaw"})
    assert 13 in media[1].noise
    law = offers.common_law(media)
    answer = offers.answer(media, (1, 3, 0, 5, 0), "alaw", host="2001:db8::1", session=(7, 2))
    assert law in ("mulaw", "alaw")
    assert answer.decode().split("\r\n")[1:] == [
        "o=- 7 2 IN IP6 2001:db8::1", "s=-", "c=IN IP6 2001:db8::1", "t=0 0",
        "m=audio 1 RTP/AVP 8", "a=rtpmap:8 PCMA/8000", "a=rtcp-mux", "a=recvonly",
        "m=audio 3 RTP/AVP 96", "a=rtpmap:96 PCMA/8000", "a=recvonly",
        "m=video 0 RTP/AVP 31",
        "m=audio 5 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=inactive",
        "m=audio 0 RTP/AVP 97", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("", 400, "v=0"),
        ("v=1\r\nm=audio 1 RTP/AVP 0\r\n", 400, "v=0"),
        (sdp(), 400, "0 media lines"),
        (sdp(*[sdp_line(2 * i) for i in range(1, 18)]), 400, "17 media lines"),
        (sdp("m=audio x RTP/AVP 0"), 400, "media line"),
        (sdp("m=audio 70000 RTP/AVP 0"), 400, "media line"),
        (sdp("m=audio 40000 RTP/AVP"), 400, "media line"),
        (sdp("hello"), 400, "no type"),
        (sdp(sdp_line(1), host="a b"), 400, "address"),
        ("v=0\r\no=- 1 1 IN IP4 a\r\ns=-\r\nt=0 0\r\nm=audio 4 RTP/AVP 0\r\n", 400, "address"),
        (sdp(sdp_line(40_000, payload="18")), 488, "PCMU and PCMA"),
        (sdp("m=audio 4 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x"), 488, "SRTP"),
        (sdp("m=audio 4 UDP/TLS/RTP/SAVPF 0"), 488, "SRTP"),
        (sdp("m=image 4 udptl t38"), 488, "image"),
    ],
)
def test_offers_that_cannot_be_answered(text: str, status: int, reason: str) -> None:
    with pytest.raises(SipError, match=reason) as caught:
        offers.parse(text.encode())
    assert caught.value.status == status


# --- metadata -------------------------------------------------------------------------------------

OLDER = """<?xml version='1.0'?>
<recording xmlns='urn:ietf:params:xml:ns:recording'>
  <dataMode>complete</dataMode>
  <session id="s9"><associate-time>2026-01-02T03:04:05</associate-time></session>
  <participant id="x" session="s9"><nameID aor="sip:+4930@x"/><send>q</send><recv>r</recv></participant>
  <participant id="y" session="s9"><aor>&lt;tel:112&gt;</aor><name> Bo/Bo </name><send>r</send></participant>
  <stream id="q" session="s9"><mode>separate</mode><label>1</label></stream>
  <stream id="r" session="s9"><label>2</label></stream>
</recording>"""  # noqa: E501


def lines(*labels: str) -> tuple[offers.Media, ...]:
    return offers.parse(sdp(*[sdp_line(4, label) for label in labels]).encode())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (metadata(PEOPLE), ("Asha", "Bo", "7", "line 4")),
        (OLDER, ("+4930@x", "Bo_Bo", "7", "line 4")),
        (metadata({"1": ("Bo", ""), "2": ("Bo", "")}), ("Bo", "Bo-2", "7", "line 4")),
        ("<recording/>", ("1", "2", "7", "line 4")),
    ],
)
def test_metadata_names_the_parties(text: str, names: tuple[str, ...]) -> None:
    found = bodies.track_names(lines("1", "2", "7", ""), bodies.parse_metadata(text.encode()))
    assert found == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"<recording>", "well-formed"),
        (b'<!DOCTYPE r [<!ENTITY a "aaaa">]><recording>&a;</recording>', "document type"),
        ("<!DOCTYPE r []><recording/>".encode("utf-16"), "UTF-8"),
        (b"\xff\xfe", "UTF-8"),
        (b"", "well-formed"),
    ],
)
def test_metadata_that_is_broken_or_hostile(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        bodies.parse_metadata(text)
    part = multipart(("application/rs-metadata", text.decode("latin-1")))
    found = bodies.read(MIXED, part.encode("latin-1"))
    assert (found.sdp, found.metadata) == (None, bodies.Metadata())


def test_a_body_has_parts_in_any_order_and_strange_ones() -> None:
    parts = [
        ("application/rs-metadata", metadata({"1": ("Åsa 李", "")})),
        ("text/plain", "hello"),
        ("Application/SDP;charset=utf-8", sdp(sdp_line(4))),
    ]
    found = bodies.read(f"{MIXED};x=y", multipart(*parts).encode())
    assert found.sdp is not None
    assert [line.port for line in offers.parse(found.sdp)] == [4]
    assert found.metadata.parties["1"].name == "Åsa 李"
    for kind, status in (("text/plain", 415), ("", 415), ("multipart/mixed", 400)):
        with pytest.raises(SipError) as caught:
            bodies.read(kind, BODY.encode())
        assert caught.value.status == status


# --- hostile bytes --------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [COMPACT, request(), BODY.encode(), OLDER.encode(), b'"', b"<", b"\\", b",", b";", b"\r\n",
     b" ", b":", b"a=label:", b"m=audio 1 RTP/AVP 0\r\n", b"Content-Length: 5\r\n", b"v=0\r\n"]
)  # fmt: skip


@patient
@given(st.lists(st.one_of(PIECES, st.binary(max_size=12)), max_size=12), st.integers(0, 400))
def test_any_bytes_give_a_value_or_the_error_that_is_documented(
    pieces: list[bytes], cut: int
) -> None:
    data = b"".join(pieces)[cut:]
    with contextlib.suppress(ValueError):
        message = sip.parse(data)
        if isinstance(message, sip.Request):
            message.via  # noqa: B018
            sip.response(message, 400, ("192.0.2.1", 5))
            with contextlib.suppress(SipError):
                sip.check(message)
    with contextlib.suppress(SipError):
        offers.parse(data)
    with contextlib.suppress(ValueError):
        bodies.parse_metadata(data)
    with contextlib.suppress(SipError):
        bodies.read(MIXED, data)
    with contextlib.suppress(ValueError):
        sip.Framer().feed(data)


@pytest.mark.parametrize("piece", ['"', "<", '"\\', ",", "<>,"])
@pytest.mark.timeout(5)
def test_long_headers_cost_little(piece: str) -> None:
    text = piece * (30_000 // len(piece))
    message = parsed(request("OPTIONS", b"", change={"Contact": text, "From": f"{text};tag=1"}))
    sip.uri_of(message.headers.get("from"))
    sip.parameter(message.headers.get("from"), "tag")
