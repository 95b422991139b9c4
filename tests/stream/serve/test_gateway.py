"""The gateway: who gets in, and what a reader gets, also after it was away or too slow."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
import trustme
from gateways import Running, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from abhinaya.client import Client
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.serve.api import files
from abhinaya.stream.serve.board import KEPT_ENDED
from abhinaya.stream.serve.limits import Rates
from abhinaya.stream.serve.main import Place
from abhinaya.stream.serve.requests import demo
from abhinaya.stream.serve.tokens import Tokens
from abhinaya.stream.wire.messages import StreamEnded


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as served:
        yield served


def refusal(response: httpx2.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error["message"]
    return response.status_code, error["code"]


def close_code(ws: ClientConnection, message: str | bytes = b"") -> int:
    """Send something, if anything, and return with which code the server ends the connection."""
    if message:
        ws.send(message)
    with pytest.raises(ConnectionClosed):
        ws.recv(5)
    return ws.close_code or 0


# --- who gets in ----------------------------------------------------------------------------------


def test_a_token_is_made_once_and_only_its_owner_can_read_it(web: Running) -> None:
    assert web.tokens.own.stat().st_mode & 0o777 == 0o600
    assert web.get("/v1/session").json() == {"name": "owner", "role": "admin"}
    answer = web.get("/v1/session")
    assert "Content-Security-Policy" in answer.headers
    assert answer.headers["cache-control"] == "no-store"  # no browser keeps what was said


def test_an_empty_file_lets_nobody_in_and_is_made_again(web: Running) -> None:
    web.tokens.own.write_text("\n")
    web.tokens.reread()
    for header in ({"Authorization": "Bearer"}, {"Authorization": "Basic x"}):
        assert httpx2.get(web.url + "/v1/session", headers=header).status_code == 401
    web.tokens.own.write_text("")
    assert Tokens(web.tokens.own.parent).own.read_text().startswith("abh_")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "missing"),
        ({"Authorization": "Bearer wrong"}, "unknown"),
        ({"Authorization": "Basic abc"}, "unknown"),
        ({"Authorization": "Bearer é".encode("latin-1").decode("latin-1")}, "unknown"),
        ({"Cookie": "abhinaya_session=wrong"}, "over"),
        ({"Cookie": 'abhinaya_session="; =;;'}, "over"),
    ],
)
def test_without_a_valid_token_nothing_is_shown(
    web: Running, header: dict[str, str], message: str
) -> None:
    raw = {name: value.encode("latin-1") for name, value in header.items()}
    answer = httpx2.get(web.url + "/v1/streams", headers=raw)
    assert refusal(answer) == (401, "unauthorized")
    assert message in answer.json()["error"]["message"]
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(web.ws + "/v1/events", additional_headers=header),
    ):
        pass
    assert refused.value.response.status_code == (403 if "Cookie" in header else 401)
    with connect(web.ws + "/v1/events", additional_headers=header, origin=web.url) as ws:
        assert close_code(ws) == 4401


def test_a_token_of_a_person_has_a_role_expires_and_is_revoked_at_once(web: Running) -> None:
    reader, brief = web.tokens.add("desk", "reader", 1), web.tokens.add("brief", "admin", -1)
    web.tokens.reread()

    def status(token: str) -> int:
        return httpx2.get(
            web.url + "/v1/session", headers={"Authorization": f"Token {token}"}
        ).status_code

    assert (status(reader), status(brief)) == (200, 401)
    assert reader not in (path := web.tokens.own.parent / "tokens" / "desk.json").read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    bearer = {"Authorization": f"Bearer {reader}"}
    body = {"json": {"demo": True}, "headers": bearer}
    assert refusal(httpx2.post(web.url + "/v1/files", **body)) == (403, "forbidden")
    ingest = {"Authorization": f"Bearer {web.tokens.add('line', 'ingest', 1)}"}
    web.tokens.reread()
    assert httpx2.post(web.url + "/v1/files", **body | {"headers": ingest}).status_code == 202
    with connect(web.ws + "/v1/events", additional_headers=bearer, max_queue=None) as ws:
        web.tokens.revoke("desk")
        web.begin("call")
        for n in range(300):  # also while events come
            web.say("call", n)
            time.sleep(0.01)
            if ws.protocol.close_rcvd:
                break
        assert ws.protocol.close_rcvd is not None
        assert ws.protocol.close_rcvd.code == 4401
    assert status(reader) == 401


def test_a_browser_logs_in_and_a_page_of_another_site_does_nothing(web: Running) -> None:
    with httpx2.Client(base_url=web.url) as browser:
        assert refusal(browser.post("/v1/session", json={"token": "wrong"}))[0] == 401
        answer = browser.post("/v1/session", json={"token": web.token})
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert web.token not in cookie
        assert browser.get("/v1/streams").status_code == 200
        jar = {"Cookie": f"abhinaya_session={browser.cookies['abhinaya_session']}"}
        foreign = {"Origin": "https://evil.example"}
        with connect(web.ws + "/v1/events", additional_headers=jar, origin=web.url) as ws:
            web.begin("call")
            assert json.loads(ws.recv(5))["type"] == "stream_started"
        with connect(
            web.ws + "/v1/events", additional_headers=jar, origin="https://evil.example"
        ) as ws:
            assert close_code(ws) == 4403
        assert browser.delete("/v1/session", headers=foreign).status_code == 403
        with connect(web.ws + "/v1/events", additional_headers=jar, origin=web.url) as ws:
            assert browser.delete("/v1/session").status_code == 204
            with suppress(ConnectionClosed):
                for n in range(300):  # other windows of the browser are logged out too
                    web.say("call", n)
                    ws.recv(5)
                    time.sleep(0.01)
            assert ws.close_code == 4401
        browser.cookies.clear()
        assert httpx2.get(web.url + "/v1/streams", headers=jar).status_code == 401


def test_only_the_named_proxy_may_connect(tmp_path: Path) -> None:
    with running(tmp_path, proxy=("10.1.2.3",)) as web:
        assert refusal(web.get("/v1/session")) == (403, "proxy")


# --- what a reader gets ---------------------------------------------------------------------------


def test_a_reader_continues_by_number_without_a_hole(web: Running) -> None:
    call, other = web.begin("call/customer"), web.begin("other")
    for n in range(40):
        web.say("call/customer", n, "angry")
        web.say("other", n)
    numbers: list[int] = []
    url = f"{web.ws}/v1/events?streams={call}&from="
    for count in (10, 15, 17):
        at = str(numbers[-1] if numbers else 0)
        with connect(url + at, additional_headers=web.bearer, max_queue=None) as ws:
            for _ in range(count):
                if len(numbers) == 41:
                    web.say("call/customer", 40, "sad")
                event = json.loads(ws.recv(5))
                assert event["stream_id"] == call
                numbers.append(event["number"])
    stored = web.get(f"/v1/streams/{call}/events?from=0&limit=1000").json()["events"]
    assert numbers == [event["number"] for event in stored]
    assert len(numbers) == 42
    rows = {row["id"]: row for row in web.get("/v1/streams").json()["streams"]}
    assert rows[call]["level"] > 0.7 > rows[other]["level"] == 0.0
    assert (rows[call]["call"], rows[call]["party"]) == ("call", "customer")
    assert web.get(f"/v1/streams/{call}").json() == rows[call]
    assert refusal(web.get("/v1/streams/99999999999999999999")) == (404, "not_found")


def test_a_fault_of_ours_is_an_answer_too(web: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(web.gateway.board), "rows", lambda _: 1 / 0)
    assert refusal(web.get("/v1/streams")) == (500, "bug")


def test_the_streams_that_have_ended_are_forgotten_one_day(web: Running) -> None:
    open_one = web.begin("open")
    for n in range(KEPT_ENDED + 20):
        web.begin(f"call-{n}")
        end = StreamEnded(stream=f"call-{n}", sequence=0, position=0)
        web.gateway.board.write(end, 1e9)
    rows = [row.id for row in web.gateway.board.rows()]
    assert len(rows) == KEPT_ENDED + 1
    assert rows[0] == open_one


def test_a_stream_of_the_past_is_shown_from_the_history(tmp_path: Path) -> None:
    with running(tmp_path) as web:
        web.begin("call/customer")
        for n, label in enumerate(["neutral", "angry", "angry"]):
            web.say("call/customer", n, label)
        web.say("call/customer", 1, "sad", revision=1)
        web.gateway.board.write(StreamEnded(stream="call/customer", sequence=3, position=9), 1e9)
        (live,) = web.get("/v1/streams").json()["streams"]
    with running(tmp_path) as web:
        past = web.get(f"/v1/streams/{live['id']}").json()
        assert past == live | {"since": 1000 * (1e9 + 3)}  # when the second segment began
        assert past["ended"]
        assert past["level"] > 0.5
        assert refusal(web.get("/v1/streams/7")) == (404, "not_found")


def test_server_sent_events_continue_after_the_last_one(web: Running) -> None:
    web.begin("call")
    for n in range(5):
        web.say("call", n)
    found: list[int] = []
    for _ in range(2):
        header = web.bearer | ({"Last-Event-ID": str(found[-1])} if found else {})
        with httpx2.stream("GET", web.url + "/v1/events?from=0", headers=header) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    found.append(json.loads(line[5:])["number"])
                    if len(found) in (3, 6):
                        break
    assert found == [1, 2, 3, 4, 5, 6]


def test_a_slow_reader_is_told_what_it_has_missed_and_others_are_not(tmp_path: Path) -> None:
    with running(tmp_path, queue=100) as web:
        web.begin("call")
        with connect(web.ws + "/v1/events", additional_headers=web.bearer, max_queue=1) as slow:
            with connect(web.ws + "/v1/events", additional_headers=web.bearer) as quick:
                for n in range(3000):
                    web.say("call", n, reason="x" * 2000)
                    event = json.loads(quick.recv(5))
                    assert event["segment"] == n
            got = dropped = 0
            while got + dropped < 3000:
                event = json.loads(slow.recv(5))
                dropped += event.get("events", 0)
                got += event["type"] == "verdict"
    assert dropped > 1000


def test_a_message_that_is_too_long_or_unasked_for_ends_only_its_connection(web: Running) -> None:
    for message, code in ((b"audio", 4400), ("text", 4400)):
        with connect(web.ws + "/v1/events", additional_headers=web.bearer) as ws:
            assert close_code(ws, message) == code
    with connect(web.ws + "/v1/events", additional_headers=web.bearer) as ws:
        ws.socket.sendall(b"\x82\xff" + (100_000_000).to_bytes(8, "big") + bytes(4))
        assert close_code(ws) == 1009  # before it has taken the 100 MB
    answer = web.post("/v1/session", content=b"x" * 2_000_000)
    assert refusal(answer) == (413, "too_long")
    answer = web.post("/v1/session", content=(b"x" * 10_000 for _ in range(200)))  # length unknown
    assert refusal(answer) == (413, "too_long")
    assert web.get("/v1/session").status_code == 200


def test_too_many_requests_of_one_client_are_refused_for_a_while(tmp_path: Path) -> None:
    rates = Rates(2.0, 3)
    assert [rates.take(0.0, "a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.take(0.0, "b") == 0
    assert rates.take(0.5, "a") == 0
    with running(tmp_path, requests_per_s=0.1, requests_at_once=3) as web:
        statuses = [web.get("/v1/session").status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]


def test_idle_connections_are_closed_and_others_served(tmp_path: Path) -> None:
    with running(tmp_path, idle_s=2.0, connections=600) as web:
        idle = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(500)]
        slow = idle[0]
        slow.send(b"GET / HTTP/1.1\r\n")
        assert web.get("/v1/session", timeout=2).status_code == 200
        deadline = time.monotonic() + 5
        for peer in idle:
            peer.settimeout(max(0.1, deadline - time.monotonic()))
            assert peer.recv(100) == b""
            peer.close()
        assert web.get("/v1/session").status_code == 200


def test_beyond_this_machine_only_with_tls_or_a_proxy(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(ConfigError, match="TLS is missing"):
            Place(host, 1, tmp_path).check()
        Place(host, 1, tmp_path, proxy=("10.0.0.1",)).check()
        for proxy in ("nginx", "10.0.0.0/8"):
            with pytest.raises(ConfigError, match="is not an IP address"):
                Place(host, 1, tmp_path, proxy=(proxy,)).check()
    for host in ("127.0.0.1", "::1", "localhost"):
        Place(host, 1, tmp_path).check()
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    Place("0.0.0.0", 1, tmp_path, (tmp_path / "cert.pem", tmp_path / "key.pem")).check()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with running(tmp_path, tls=(tmp_path / "cert.pem", tmp_path / "key.pem")) as web:
        address = web.url.replace("http:", "https:")
        client = Client(address, web.token, tls=trusted)
        stream = web.begin("call")
        assert [row["id"] for row in client.streams()] == [stream]
        assert next(iter(client.events(after=0)))["type"] == "stream_started"
        login = httpx2.post(f"{address}/v1/session", json={"token": web.token}, verify=trusted)
        assert "; secure" in login.headers["set-cookie"].lower()
    with (
        pytest.raises(ConfigError, match="the certificate or its key"),
        running(tmp_path, tls=(tmp_path / "token", tmp_path / "key.pem")),
    ):
        pass


def test_a_body_that_does_not_come_ends_its_connection(tmp_path: Path) -> None:
    with running(tmp_path, idle_s=0.5) as web:
        head = b"POST /v1/%s HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n"
        for path in (b"session", b"twilio/voice"):  # both read it before they know who sends it
            with socket.create_connection(("127.0.0.1", web.port), 5) as peer:
                peer.sendall(head % path)
                answer = b""
                while piece := peer.recv(1000):
                    answer += piece
                assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_file_cannot_take_the_name_of_a_call(web: Running) -> None:
    names = [web.gateway.requests.add(name, demo()).name for name in ("listen:a/b", ":", "x:y~2")]
    assert names == ["listen-a-b", "-", "x-y~2"]


def test_a_job_that_waits_is_cancelled_at_once(web: Running) -> None:
    file = web.gateway.requests.folder / "upload"
    file.write_bytes(b"RIFF")
    job = web.gateway.requests.add("a", demo(), file)
    for _ in range(2):
        answer = httpx2.delete(f"{web.url}/v1/files/{job.id}", headers=web.bearer)
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert not file.exists()
    assert not web.gateway.requests.take()
    assert not web.gateway.requests.cancelled()


def test_uploads_leave_room_for_the_history(web: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RESERVE_BYTES", 2**62)
    assert refusal(web.post("/v1/files", files={"file": ("x.wav", b"RIFF")})) == (503, "disk")
    assert not list(web.gateway.requests.folder.iterdir())
    assert not web.gateway.requests.jobs()
