"""Packets of RTP, and whose packets a track takes."""

from __future__ import annotations

import contextlib
from collections import Counter

import numpy as np
import pytest
from fakes import patient
from hypothesis import given
from hypothesis import strategies as st
from recorder_client import rtp, sdp, sdp_line, sound

from abhinaya.stream.serve.telephony.siprec import sdp as offers
from abhinaya.stream.serve.telephony.siprec.rtp import Receiver, parse
from abhinaya.stream.serve.telephony.siprec.sip import plain
from abhinaya.stream.sources.pcm import to_float

FIRST, NAT, STRANGER = ("192.0.2.1", 4_000), ("198.51.100.1", 9), ("203.0.113.9", 4_000)
DATA = bytes(range(20))


def media(**changes: str) -> offers.Media:
    line = sdp_line(4_000, payload="0 8 13 101", **changes)
    return offers.parse(sdp(line, host="192.0.2.1").encode())[0]


def receiver(law: offers.Law = "mulaw") -> Receiver:
    return Receiver(0.0, media(), law, "198.51.100.1", Counter())


def audio(track: Receiver, now: float = 99.0) -> bytes:
    return b"".join(data for _, data in track.buffer.pop(now))


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (rtp(1, 2, DATA), DATA),
        (rtp(1, 2, DATA, payload=0x80), DATA),
        (rtp(1, 2, b"c" * 8 + DATA, first=0x82), DATA),
        (rtp(1, 2, b"\xbe\xde\0\1" + b"e" * 4 + DATA, first=0x90), DATA),
        (rtp(1, 2, DATA + b"\0\0\3", first=0xA0), DATA),
        (rtp(1, 2, b""), b""),
        (rtp(1, 2, DATA, first=0x40), None),
        (rtp(1, 2, DATA, payload=200), None),
        (rtp(1, 2, b"\xbe\xde\xff\xff", first=0x90), None),
        (rtp(1, 2, b"\xbe", first=0x90), None),
        (rtp(1, 2, b"\x30", first=0xA0), None),
        (rtp(1, 2, b"\0", first=0xA0), None),
        (rtp(1, 2, DATA, first=0x8F), None),
        (b"\x80\0", None),
    ],
)
def test_packets(data: bytes, payload: bytes | None) -> None:
    packet = parse(data)
    assert (packet and packet.data) == payload
    if packet:
        assert (packet.payload_type, packet.sequence, packet.timestamp) == (0, 1, 2)


def test_only_the_sender_is_heard_until_it_is_silent() -> None:
    track = receiver()
    track.receive(0, STRANGER, rtp(0, 0, b"no"))
    track.receive(0, NAT, rtp(0, 0, b"a"))
    track.receive(0.1, FIRST, rtp(1, 1, b"no"))
    track.receive(0.1, NAT, rtp(1, 1, b"b"))
    track.receive(2.2, FIRST, rtp(2, 2, b"c"))
    assert audio(track) == b"abc"
    assert track._counts == {"foreign": 2}
    track.agree(3, media(), "203.0.113.9")
    track.receive(3, STRANGER, rtp(3, 3, b"d"))
    assert audio(track) == b"d"


def test_other_payloads_hold_their_place_and_noise_is_silence() -> None:
    track = receiver()
    track.receive(0.00, FIRST, rtp(0, 0, DATA * 8))
    track.receive(0.02, FIRST, rtp(1, 160, b"event", payload=101))
    track.receive(0.04, FIRST, rtp(2, 320, b"\x40", payload=13))
    track.receive(1.00, FIRST, rtp(3, 8_000, DATA * 8, payload=0x80))
    track.receive(1.01, FIRST, rtp(0, 0, b"\0" * 20, payload=200, ssrc=9))
    track.receive(1.02, FIRST, b"text")
    assert audio(track) == DATA * 8 + b"\xff" * 7_840 + DATA * 8
    assert track.buffer.lost == 0
    assert track._counts == {"ignored": 2, "rtcp": 1, "malformed": 1}


def test_another_source_in_the_same_track_follows_on() -> None:
    track = receiver()
    track.receive(0.00, FIRST, rtp(900, 5_000_000, DATA * 8, ssrc=1))
    track.receive(0.02, FIRST, rtp(7, 60, DATA[::-1] * 8, ssrc=2))
    assert track.buffer.pop(1) == [(0, DATA * 8), (160, DATA[::-1] * 8)]


@pytest.mark.parametrize(("law", "payload"), [("mulaw", 8), ("alaw", 0)])
def test_the_other_law_is_converted_to_the_nearest_value(law: offers.Law, payload: int) -> None:
    track, codes = receiver(law), bytes(range(256))
    track.receive(0, FIRST, rtp(0, 0, codes, payload=payload))
    wanted = to_float(codes, "alaw" if law == "mulaw" else "mulaw")
    found = to_float(audio(track), law)
    assert np.abs(found - wanted).max() <= 512 / 32_768
    assert np.abs(found - wanted)[np.abs(wanted) < 0.01].max() <= 8 / 32_768


def test_a_hold_is_silence_by_the_clock() -> None:
    track = receiver("alaw")
    track.receive(0, FIRST, rtp(0, 0, sound(1, 0.02), payload=8))
    first = audio(track, 0.1)
    track.agree(1, media(direction="inactive"), "192.0.2.1")
    assert track.held
    assert first + audio(track, 5.2) == sound(1, 0.02) + b"\xd5" * (40_000 - 160)


def test_addresses_have_one_spelling() -> None:
    assert [plain(host) for host in ("::ffff:192.0.2.1", "2001:DB8::0:1", "sbc")] == [
        "192.0.2.1",
        "2001:db8::1",
        "sbc",
    ]


@patient
@given(st.lists(st.tuples(st.floats(0, 2), st.binary(max_size=40)), max_size=20))
def test_any_datagrams_are_taken(datagrams: list[tuple[float, bytes]]) -> None:
    track, now = receiver(), 0.0
    for passed, data in datagrams:
        now += passed
        track.receive(now, FIRST, data)
        track.receive(now, FIRST, b"\x80\0" + data)
        with contextlib.suppress(StopIteration):
            next(iter(track.buffer.pop(now)))
