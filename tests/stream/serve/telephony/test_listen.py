"""`/v1/listen`: the published client, its messages, and bad input."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from deepgram import DeepgramClient
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from deepgram.listen.v1.types import ListenV1Metadata, ListenV1Results
from fake_lines import FakeDoors, FakeLine, end, served
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from abhinaya.stream.errors import ConfigError
from abhinaya.stream.serve.telephony import listen
from abhinaya.stream.serve.telephony.listen_session import ListenSession, parse_query
from abhinaya.stream.serve.telephony.results import Results, Wishes
from abhinaya.stream.serve.telephony.sockets import LineError

VERDICT: dict[str, Any] = {
    "type": "verdict",
    "stream": "listen:call",
    "segment": 0,
    "start_s": 1.0,
    "end_s": 2.5,
    "label": "angry",
    "revision": 0,
    "final": True,
    "transcript": {
        "text": "Where is my car?",
        "confidence": 0.8,
        "words": [{"text": "Where", "start_s": 1.0, "end_s": 1.2, "confidence": None}],
    },
}


@pytest.fixture(scope="module")
def doors() -> FakeDoors:
    return FakeDoors()


@pytest.fixture(scope="module")
def host(doors: FakeDoors) -> Iterator[str]:
    with served(listen.routes(doors, idle_s=0.5, drain_s=5)) as host:
        yield host


def dial(host: str, query: str = "encoding=mulaw", **options: Any) -> ClientConnection:
    header = {"Authorization": "Token good"}
    return connect(f"ws://{host}/v1/listen?{query}", additional_headers=header, **options)


def test_the_published_client_streams_to_it(doors: FakeDoors, host: str) -> None:
    place = f"ws://{host}"
    environment = DeepgramClientEnvironment(
        base=place, production=place, agent=place, agent_rest=place
    )
    client = DeepgramClient(api_key="good", environment=environment)
    sound = (np.arange(32_000) % 500).astype("<i2").tobytes()
    got: list[Any] = []
    with client.listen.v1.connect(
        model="nova-3", encoding="linear16", sample_rate="16000", interim_results="true",
        request_options={"additional_query_parameters": {"name": "call"}},
    ) as connection:  # fmt: skip
        connection.on(EventType.MESSAGE, got.append)
        connection.on(EventType.ERROR, got.append)
        reading = threading.Thread(target=connection.start_listening)
        reading.start()
        for begin in range(0, len(sound), 3_201):  # within samples
            connection.send_media(sound[begin : begin + 3_201])
        connection.send_keep_alive()
        connection.send_finalize()
        doors.told += [VERDICT | {"final": False}, VERDICT, VERDICT | {"revision": 1}]
        threading.Event().wait(0.3)
        connection.send_close_stream()
        reading.join(10)
    line = doors.lines[-1]
    assert (bytes(line.audio[0]), line.encoding, line.rate) == (sound, "s16le", 16_000)
    assert (line.closed, line.flushed) == ("", [0])
    interim, final, metadata = got
    assert isinstance(interim, ListenV1Results)
    assert not interim.is_final
    assert isinstance(final, ListenV1Results)
    assert (final.is_final, final.from_finalize) == (True, True)
    assert final.channel.alternatives[0].transcript == "Where is my car?"
    assert final.channel.alternatives[0].words[0].end == 1.2
    assert (final.start, final.duration, final.channel_index) == (1.0, 1.5, [0, 1])
    assert final.abhinaya == VERDICT  # type: ignore[attr-defined]
    assert isinstance(metadata, ListenV1Metadata)
    assert (metadata.duration, metadata.sha256) == (2.0, hashlib.sha256(sound).hexdigest())
    assert metadata.request_id == final.metadata.request_id


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "encoding: is missing"),
        ("encoding=opus&sample_rate=48000", "encoding: unknown encoding 'opus'"),
        ("encoding=linear16", "sample_rate: is missing"),
        ("encoding=linear16&sample_rate=3", "sample_rate: impossible value '3'"),
        ("encoding=mulaw&sample_rate=1e9", "sample_rate: impossible value '1e9'"),
        ("encoding=mulaw&channels=17", "channels: impossible value '17'"),
        ("encoding=mulaw&channels=2&channel_names=a,b", "channel_names: 2 names for 1 streams"),
        ("encoding=mulaw&channels=2&multichannel=true&channel_names=a,a", "one of them twice"),
        ("encoding=mulaw&interim_results=yes", "interim_results: impossible value 'yes'"),
    ],
)
def test_a_wrong_query_is_refused_by_name(host: str, query: str, reason: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dial(host, query)
    response = refused.value.response
    assert response.status_code == 400
    assert reason in response.headers["dg-error"]
    assert reason in json.loads(response.body or b"")["err_msg"]


def test_a_stranger_is_refused(doors: FakeDoors, host: str) -> None:
    before = len(doors.lines)
    with pytest.raises(InvalidStatus):
        connect(f"ws://{host}/v1/listen?encoding=mulaw")
    assert len(doors.lines) == before


def test_a_second_stream_of_a_call_is_refused_and_the_first_goes_on(
    doors: FakeDoors, host: str
) -> None:
    with dial(host, "encoding=mulaw&name=one") as first:
        with pytest.raises(InvalidStatus) as refused:
            dial(host, "encoding=mulaw&name=one")
        assert "a call of this name is open" in refused.value.response.headers["dg-error"]
        first.send(b"abc")
        first.send('{"type": "CloseStream"}')
        assert json.loads(first.recv())["duration"] == round(3 / 8_000, 3)
    assert doors.lines[-1].audio[0] == b"abc"


def test_who_sends_nothing_is_cut_off_with_the_documented_code(doors: FakeDoors, host: str) -> None:
    with dial(host) as client:
        client.send('{"type": "KeepAlive"}')
        code, reason = end(client)
    assert (code, reason[:8]) == (1011, "NET-0001")
    assert (doors.lines[-1].closed or "").startswith("NET-0001: no audio and no message for 0.5 s")


def test_too_long_a_message_is_cut_off(doors: FakeDoors, host: str) -> None:
    with dial(host) as client:
        client.send(bytes(2 << 20))
        code, _reason = end(client)
    assert code == 1009
    assert doors.lines[-1].closed


def test_text_for_audio_is_answered_and_then_cut_off(host: str) -> None:
    with dial(host) as client:
        client.send('{"type": "Configure"}')
        answer = json.loads(client.recv())
        assert (answer["type"], answer["variant"]) == ("Error", "SchemaError")
        assert "unknown type 'Configure'; send audio as binary" in answer["description"]
        for _ in range(11):
            client.send("UklGRiQAAABXQVZF")
        code, reason = end(client)
    assert (code, reason[:9]) == (1008, "DATA-0000")


def session(query: list[tuple[str, str]]) -> tuple[ListenSession, FakeLine]:
    line = FakeLine("x", ("x",), parse_query(query).fed, 8_000, {})
    return ListenSession(parse_query(query), line), line


@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 3), st.booleans())
def test_channels_are_taken_apart_or_mixed_however_the_bytes_are_cut(
    pieces: list[bytes], channels: int, multichannel: bool
) -> None:
    query = [("encoding", "linear16"), ("sample_rate", "8000"), ("channels", str(channels))]
    taker, line = session([*query, ("multichannel", str(multichannel).lower())])
    for piece in pieces:
        assert taker.receive(piece) is None
    data = b"".join(pieces)
    whole = data[: len(data) - len(data) % (2 * channels)]
    samples = np.frombuffer(whole, "<i2").reshape(-1, channels)
    if multichannel or channels == 1:
        assert [line.audio[c] for c in range(channels)] == [s.tobytes() for s in samples.T]
    else:
        mixed = np.frombuffer(line.audio[0], "<f4")
        assert np.allclose(mixed, samples.mean(1) / 32_768, atol=1e-6)


CONTROLS = st.dictionaries(st.sampled_from(["type", "channel"]), st.text() | st.integers())
ODD = st.sampled_from(['{"type":"Finalize","channel":-1}', "[" * 5_000, '{"type":"\\ud800"}'])


@given(st.lists(st.binary(max_size=9) | st.text() | ODD | st.builds(json.dumps, CONTROLS)))
def test_no_message_breaks_a_session(messages: list[str | bytes]) -> None:
    taker, _line = session([("encoding", "mulaw")])
    for message in messages:
        with suppress(LineError):
            answer = taker.receive(message)
            assert answer is None or answer["type"] == "Error"


FIELDS = st.sampled_from(
    ["encoding", "sample_rate", "channels", "extra", "name", "channel_names", "multichannel"]
)
VALUES = st.text() | st.sampled_from(["mulaw", "linear16", "8000", "2", "²", "true"])


@given(st.lists(st.tuples(FIELDS, VALUES)))
def test_no_query_breaks_the_parser(query: list[tuple[str, str]]) -> None:
    with suppress(ConfigError):
        found = parse_query(query)
        assert found.rate >= 4_000
        assert len(found.tracks) in (1, found.channels)


def test_other_events_in_deepgram_s_form() -> None:
    results = Results("id", ("a", "b"), Wishes(revisions=True, activity=True))
    revised = results.answer(VERDICT | {"stream": "b", "revision": 1, "transcript": None})
    assert revised is not None
    assert revised["channel_index"] == [1, 2]
    assert revised["channel"]["alternatives"] == [
        {"transcript": "", "confidence": 0.0, "words": []}
    ]
    gap = {"type": "gap", "stream": "a", "start_s": 0.5, "end_s": 1.0, "reason": "full"}
    assert (results.answer(gap) or {})["abhinaya"] == gap
    speaking = {"type": "activity", "stream": "a", "position_s": 3.0, "speaking": True}
    started = {"type": "SpeechStarted", "channel": [0, 2], "timestamp": 3.0}
    assert results.answer(speaking) == started
    assert results.answer(speaking | {"stream": "other"}) is None
    assert results.answer({"type": "status", "stream": None}) is None
    assert (results.answer({"type": "dropped", "events": 3}) or {})["type"] == "Warning"
