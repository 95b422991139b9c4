"""Media streams of Twilio, SignalWire, Telnyx and Vonage, driven by scripted providers."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.request import Request, urlopen
from xml.etree import ElementTree

import pytest
from fake_lines import FakeDoors, FakeLine, end, served
from hypothesis import given
from hypothesis import strategies as st
from provider_messages import (
    FORMAT,
    Message,
    frame,
    media,
    telnyx_start,
    text,
    twilio_start,
)
from pushed_run import until
from twilio.request_validator import RequestValidator
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from abhinaya.stream.serve.telephony import media_streams, sockets
from abhinaya.stream.serve.telephony.dialects import DIALECTS, TELNYX, TWILIO, VONAGE, parse
from abhinaya.stream.serve.telephony.session import MediaSession
from abhinaya.stream.serve.telephony.signature import is_signed, signature
from abhinaya.stream.serve.telephony.sockets import LineError, closing

CONNECTED: Message = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
STOP: Message = {"event": "stop", "stop": {}}
START = {"twilio": twilio_start, "signalwire": twilio_start, "telnyx": telnyx_start}


def run(
    dialect: str, messages: list[str] | list[bytes], step_s: float = 0.01
) -> tuple[FakeLine, FakeDoors]:
    """Play messages at a session, one each 10 ms; return its call."""
    doors = FakeDoors()
    session = MediaSession(DIALECTS[dialect], doors.opens)
    for at, message in enumerate(messages):
        session.receive(at * step_s, message)
    session.close(len(messages) * step_s)
    return doors.lines[0], doors


# --- sessions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", START)
def test_two_parties_arrive_whole_under_their_names(dialect: str) -> None:
    frames = [media(track, n) for n in range(200) for track in (0, 1)]
    line, _ = run(dialect, text(CONNECTED, START[dialect](), *frames, {"event": "mark"}, STOP))
    assert (line.encoding, line.rate, line.closed, line.holes) == ("mulaw", 8_000, "", 0)
    call = "v2:T1" if dialect == "telnyx" else "CA1"
    agent = "agent" if dialect == "telnyx" else "Asha"
    assert line.streams == (f"{dialect}:{call}/customer", f"{dialect}:{call}/{agent}")
    assert line.facts == ({} if dialect == "telnyx" else {"from": "+15550100"})
    for track in (0, 1):
        sound = line.audio[track].lstrip(b"\xff")  # silence until the first message arrived
        assert sound == b"".join(frame(track, n) for n in range(200))
        assert len(line.audio[track]) - len(sound) <= 8_000 * 0.05


def test_telnyx_frames_out_of_order_are_put_right() -> None:
    numbers = list(range(300))
    for at in range(0, 300, 3):  # within the 60 ms that the jitter buffer waits
        numbers[at : at + 3] = random.Random(at).sample(numbers[at : at + 3], 3)
    numbers.insert(50, numbers[49])  # twice
    line, _ = run("telnyx", text(telnyx_start(), *[media(0, n) for n in numbers]), 0.02)
    assert line.audio[0].lstrip(b"\xff") == b"".join(frame(0, n) for n in range(300))
    assert line.holes == 0


def test_lost_messages_are_a_hole_as_long_as_they_were() -> None:
    numbers = [n for n in range(100) if not 40 <= n < 50]
    line, _ = run("twilio", text(twilio_start(), *[media(0, n) for n in numbers]), 0.02)
    whole = b"".join(frame(0, n) if n in numbers else bytes(160) for n in range(100))
    assert line.holes == 1
    assert line.audio[0].lstrip(b"\xff") == whole


def test_a_clock_that_wavers_or_jumps_does_not_break_the_sound() -> None:
    """Some ms early or late; then back to 0, then ten hours ahead."""
    wavering = [media(0, n, timestamp=str(57 + n * 20 + n % 3)) for n in range(100)]
    back = [media(0, n, timestamp=str((n - 100) * 20)) for n in range(100, 150)]
    ahead = [media(0, n, timestamp=str(36_000_000 + n * 20)) for n in range(150, 200)]
    line, _ = run("twilio", text(twilio_start(), *wavering, *back, *ahead), 0.02)
    sound = line.audio[0].lstrip(b"\xff")
    assert line.holes == 0
    assert sound == b"".join(frame(0, n) for n in range(200))


def test_vonage_sends_bare_samples() -> None:
    hello = {
        "event": "websocket:connected",
        "content-type": "audio/l16;rate=16000",
        "uuid": "63f6",
        "queue": "sales",
    }
    sound = [bytes([n]) * 640 for n in range(100)]
    line, _ = run("vonage", [*text(hello, {"event": "websocket:dtmf", "digit": "1"}), *sound], 0.02)  # type: ignore[list-item]
    assert (line.streams, line.encoding, line.rate) == (("vonage:63f6",), "s16le", 16_000)
    assert line.facts == {"uuid": "63f6", "queue": "sales"}
    assert line.audio[0].endswith(b"".join(sound))
    assert len(line.audio[0]) - 64_000 <= 32_000 * 0.05


def wrong_rate() -> list[str]:
    payload = base64.b64encode(bytes(320)).decode()  # 40 ms of 8 kHz every 20 ms
    return text(twilio_start(), *[media(0, n, payload=payload) for n in range(100)])


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (["UklGRiQAAABXQVZF"], "message: JSON is malformed"),
        (["[" * 60_000], "message: "),
        (['{"event": 3}'], "message: Expected `str`"),
        ([b"\x00" * 160], "message: binary, but text is due"),
        (text(media(0, 0)), "audio: came before `start`"),
        (text(twilio_start(), twilio_start()), "start: came twice"),
        (text(twilio_start(), media(0, 0, payload="%%%")), "message: Invalid base64"),
        (text(twilio_start(), media(0, 0, timestamp="-20")), "message: Expected `int`"),
        (text(twilio_start(), {"event": "media"}), "media: has no field `media`"),
        (text(twilio_start(), media(0, 0, track="third")), "track 'third': is not one of the"),
        (text(twilio_start(mediaFormat={})), "mediaFormat: unknown encoding ''"),
        (text(twilio_start(mediaFormat=FORMAT | {"encoding": "OPUS"})), "unknown encoding 'opus'"),
        (text(twilio_start(mediaFormat=FORMAT | {"sampleRate": 12})), "impossible sample rate 12"),
        (text(twilio_start(mediaFormat=FORMAT | {"channels": 2})), "2 channels in one track"),
        (text(twilio_start(tracks=["inbound", "inbound"])), "start: unknown tracks"),
        (text(twilio_start(tracks=[{}])), "start: unknown tracks"),
        (text(twilio_start(call="")), "start: does not name the call"),
        (wrong_rate(), "longer or shorter than their time at 8000 samples/s"),
    ],
)  # fmt: skip
def test_wrong_messages_are_refused_by_name(messages: list[str], reason: str) -> None:
    with pytest.raises(LineError) as refused:
        run("twilio", messages, 0.02)
    assert reason in str(refused.value)
    assert len(closing(refused.value)[1].encode()) <= 123


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
STARTS = st.builds(
    lambda field, value: twilio_start(**{field: value}) | telnyx_start(**{field: value}),
    st.sampled_from([*twilio_start()["start"], *telnyx_start()["start"]]),
    JSON,
)
MEDIA = st.builds(
    lambda field, value: media(0, 0, **{field: value}),
    st.sampled_from([*media(0, 0)["media"]]),
    JSON,
)
EVENTS = st.dictionaries(st.sampled_from(["event", "start", "media"]), JSON)


@given(
    st.sampled_from([TWILIO, TELNYX, VONAGE]),
    st.binary() | st.text() | st.builds(json.dumps, STARTS | MEDIA | EVENTS | JSON),
)
def test_no_message_breaks_the_parser(dialect: Any, message: str | bytes) -> None:
    with suppress(LineError):
        parse(dialect, message)


# --- the server -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def doors() -> FakeDoors:
    return FakeDoors(most=3, twilio_next="https://example.com/old?a=1&b=2")


@pytest.fixture(scope="module")
def host(doors: FakeDoors) -> Iterator[str]:
    with served(media_streams.routes(doors, idle_s=0.5)) as host:
        yield host


def dial(host: str, path: str = "/v1/twilio/stream", **headers: str) -> ClientConnection:
    return connect(
        f"ws://{host}{path}", additional_headers=headers or {"Authorization": "Bearer good"}
    )


def test_bad_calls_are_cut_off_with_a_code_and_the_other_goes_on(
    doors: FakeDoors, host: str
) -> None:
    with dial(host) as good:
        for message in text(CONNECTED, twilio_start("CA-good"), media(0, 0)):
            good.send(message)
        until(lambda: bool(doors.lines), "the call")
        bad: list[tuple[Callable[[ClientConnection], None], int, str]] = [
            (lambda c: c.send(b"audio"), 1003, "message: binary, but text is due; send JSON"),
            (lambda c: c.send("audio"), 1007, "message: JSON is malformed"),
            (lambda c: c.send("x" * 70_000), 1009, "message: 70000 bytes"),
            (
                lambda c: c.send(text(twilio_start("CA-good"))[0]),
                1008,
                "twilio:CA-good: a call of this name",
            ),
        ]
        for act, code, reason in bad:
            with dial(host) as client:
                act(client)
                good.send(text(CONNECTED)[0])
                got, why = end(client)
            assert (got, (why or "")[: len(reason)]) == (code, reason)
        for message in text(media(0, 1), STOP, media(0, 2)):
            good.send(message)
        assert end(good)[0] == 1000
    line = doors.lines[-1]
    assert (line.closed, line.audio[0][-320:]) == ("", frame(0, 0) + frame(0, 1))


def test_who_sends_nothing_is_cut_off(host: str) -> None:
    with dial(host) as client:
        code, reason = end(client)
    assert (code, (reason or "")[:19]) == (1011, "NET-0001: no audio ")


def test_a_revoked_token_ends_its_call(
    doors: FakeDoors, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "RECHECK_S", -1)
    monkeypatch.setattr(doors, "holds", False)
    with dial(host) as client:
        client.send(text(twilio_start("CA-r"))[0])
        assert end(client) == (1008, "token: was revoked or has expired; get a new one")


def test_a_connection_that_breaks_off_is_said(doors: FakeDoors, host: str) -> None:
    with dial(host) as client:
        client.send(text(twilio_start("CA-b"))[0])
        until(lambda: [x.name for x in doors.lines[-1:]] == ["twilio:CA-b"], "the call")
        client.socket.close()
        until(lambda: doors.lines[-1].closed is not None, "its end")
    assert doors.lines[-1].closed == "connection: broke off with code 1006; connect again"


def test_too_many_calls_are_told_to_come_later(doors: FakeDoors, host: str) -> None:
    with ExitStack() as open_now:
        for number in range(3):
            client = open_now.enter_context(dial(host))
            client.send(text(twilio_start(f"CA-{number}"))[0])
            until(
                lambda n=number: [x.name for x in doors.lines[-1:]] == [f"twilio:CA-{n}"],
                "the call",
            )
        with dial(host) as late:
            late.send(text(twilio_start("CA-3"))[0])
            assert end(late) == (1013, "twilio:CA-3: too many calls; try again later")


def test_a_signature_is_that_of_the_published_package() -> None:
    fields = [("To", "+1 555 0100"), ("From", "ä&"), ("Digits", ""), ("From", "b")]
    given_ = {"To": "+1 555 0100", "Digits": ""}
    theirs = RequestValidator("token").compute_signature("https://a.example/v1?x=1", given_)
    assert theirs == signature("token", "https://a.example/v1?x=1", list(given_.items()))
    ours = signature("token", "https://a.example/", fields)
    assert is_signed("token", "a.example", "/", ours, fields)
    assert not is_signed("other", "a.example", "/", ours, fields)
    assert not is_signed("token", "b.example", "/", ours, fields)
    assert not is_signed("token", "a.example", "/", ours, fields[1:])
    assert not is_signed("token", "a.example", "/", "é", fields)


@pytest.mark.parametrize(
    "typed", ["wss://{}/v1/twilio/stream", "wss://127.0.0.1/v1/twilio/stream/"]
)
def test_twilio_proves_itself_by_its_signature(doors: FakeDoors, host: str, typed: str) -> None:
    validator = RequestValidator(doors.twilio_token)
    right = validator.compute_signature(typed.format(host), {})
    with dial(host, **{"X-Twilio-Signature": right}) as client:
        client.send(text(STOP)[0])
        assert end(client)[0] == 1000
    for path, sign in (("/v1/twilio/stream", right[::-1]), ("/v1/signalwire/stream", right)):
        with pytest.raises(InvalidStatus):
            dial(host, path, **{"X-Twilio-Signature": sign})


def test_the_answer_to_twilio_streams_the_call_and_then_goes_on(
    doors: FakeDoors, host: str
) -> None:
    url = f"http://{host}/v1/twilio/voice"
    form = {"CallSid": "CA1", "From": '+1555"<', "To": "+15550101"}
    sign = RequestValidator(doors.twilio_token).compute_signature(url, form)
    body = b"CallSid=CA1&From=%2B1555%22%3C&To=%2B15550101"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    request = Request(url, body, {"X-Twilio-Signature": sign} | kind)
    with urlopen(request, timeout=10) as answer:
        root = ElementTree.fromstring(answer.read())
    stream = root.find("Start/Stream")
    assert stream is not None
    assert stream.attrib == {"url": f"wss://{host}/v1/twilio/stream", "track": "both_tracks"}
    assert [p.attrib["value"] for p in stream] == ['+1555"<', "+15550101"]
    assert root.findtext("Redirect") == "https://example.com/old?a=1&b=2"
