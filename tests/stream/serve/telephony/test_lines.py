"""The lines at a gateway of the real kind, without a run: who may call, and where secrets are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from fake_lines import end
from gateways import Running, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from abhinaya.stream.errors import ConfigError
from abhinaya.stream.serve import audit
from abhinaya.stream.serve.calls import CallError
from abhinaya.stream.serve.telephony.lines import GatewayDoors, services, twilio_token
from abhinaya.stream.serve.telephony.signature import signature
from abhinaya.stream.settings.compliance import ComplianceConfig
from abhinaya.stream.settings.serve import ServeConfig


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("gateway"), twilio_next="https://example.com/") as gateway:
        yield gateway


MICROPHONE = "/v1/listen?encoding=linear16&sample_rate=16000&name=microphone-1"


def test_a_browser_needs_its_cookie_and_its_own_origin(gateway: Running) -> None:
    """It gets in, and hears by the close code that there is no monitor in this test."""
    answer = httpx2.post(
        gateway.url + "/v1/session", json={"token": gateway.token}, headers={"Origin": gateway.url}
    )
    cookie = answer.headers["set-cookie"].partition(";")[0]
    own = {"Cookie": cookie, "Origin": gateway.url}
    for headers, code, reason in (
        (own, 1013, "listen-microphone-1: the monitor is still starting"),
        (
            own | {"Origin": "https://evil.example"},
            4403,
            "the request comes from a page of another",
        ),
        ({"Origin": gateway.url}, 4401, "the token is missing"),
    ):
        with connect(gateway.ws + MICROPHONE, additional_headers=headers) as socket:
            got = end(socket)
        assert (got[0], (got[1] or "")[: len(reason)]) == (
            code,
            reason.replace("listen-", "listen:"),
        )


@pytest.mark.parametrize(
    "path", [MICROPHONE, *(f"/v1/{p}/stream" for p in ("twilio", "signalwire", "telnyx", "vonage"))]
)
def test_a_stranger_and_a_reader_are_refused_on_every_line(gateway: Running, path: str) -> None:
    reader = {"Authorization": f"Bearer {gateway.tokens.add('desk', 'reader', 1)}"}
    gateway.tokens.reread()
    wrong = {"X-Twilio-Signature": "wrong", "Authorization": "Bearer wrong"}
    for headers, status in (({}, 401), (wrong, 401), (reader, 403)):
        with pytest.raises(InvalidStatus) as refused:
            connect(gateway.ws + path, additional_headers=headers)
        assert refused.value.response.status_code == status
    assert httpx2.post(gateway.url + "/v1/twilio/voice").status_code == 401


def test_a_message_over_the_limit_of_the_server_is_cut_off(gateway: Running) -> None:
    """Its rest is not even read, so the sender may see a broken connection."""
    with connect(gateway.ws + "/v1/twilio/stream", additional_headers=gateway.bearer) as line:
        with suppress(ConnectionClosed):
            line.send("x" * 100_000_000)
        assert end(line)[0] in (1009, 1006)
    with connect(gateway.ws + "/v1/twilio/stream", additional_headers=gateway.bearer) as line:
        line.send("x" * 65_000)
        assert end(line)[0] == 1009


def test_twilio_s_token_is_from_a_file_or_the_environment_and_never_shown(
    tmp_path: Path, gateway: Running
) -> None:
    path = tmp_path / "auth"
    path.write_text("s3cret\n")
    assert twilio_token(ServeConfig(twilio_token_file=str(path)), {}) == "s3cret"
    assert twilio_token(ServeConfig(), {"TWILIO_AUTH_TOKEN": "other"}) == "other"
    assert "s3cret" not in repr(GatewayDoors(gateway.gateway, "s3cret"))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        twilio_token(ServeConfig(twilio_token_file=str(tmp_path / "none")), {})


def test_who_shows_no_token_is_in_the_audit_log_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "s3cret")
    with running(tmp_path, compliance=ComplianceConfig(mode="eu")) as served:
        doors, url = GatewayDoors(served.gateway), f"{served.url}/v1/twilio/voice"
        with pytest.raises(CallError, match="still starting"):
            doors.opens_unasked("asterisk:7", ("",), "s16le", 8000, {})
        voice = {"X-Twilio-Signature": signature("s3cret", url, [("CallSid", "CA1")])}
        assert httpx2.post(url, data={"CallSid": "CA1"}, headers=voice).status_code == 200
        log = (tmp_path / "audit.log").read_text()
        assert '"who":"asterisk","what":"CALL","subject":"asterisk:7"' in log
        assert '"who":"twilio (signed)","what":"POST","subject":"/v1/twilio/voice"' in log
        with monkeypatch.context() as full:
            full.setattr(audit.os, "write", lambda _, data: len(data) - 1)
            with pytest.raises(CallError, match="cannot be logged"):
                doors.opens_unasked("siprec:8", ("",), "mulaw", 8000, {})
            assert httpx2.post(url, data={"CallSid": "CA1"}, headers=voice).status_code == 503


def test_audiosocket_is_off_unless_asked_for(gateway: Running) -> None:
    assert services(gateway.gateway) == []
