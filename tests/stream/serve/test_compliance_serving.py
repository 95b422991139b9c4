"""The compliance mode of a gateway: each access is logged or refused, and old data is deleted."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2
import pytest
from gateways import running
from served import PROGRAM, Served
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from abhinaya.models.labels import UNKNOWN
from abhinaya.stream.errors import StoreError
from abhinaya.stream.serve import audit as audit_module
from abhinaya.stream.serve.audit import Audit, verify
from abhinaya.stream.serve.retention import Retention
from abhinaya.stream.settings.compliance import ComplianceConfig
from abhinaya.stream.wire.messages import NOT_JUDGED

DAY_S = 86_400.0


def test_each_access_is_logged_and_without_room_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, compliance=ComplianceConfig(mode="eu")) as web:
        web.get("/v1/streams")
        web.get("/v1/history/export?format=csv&label=sad")
        with connect(f"{web.ws}/v1/events", additional_headers=web.bearer):
            pass
        logged = (tmp_path / "audit.log").read_text()
        assert '"what":"GET","subject":"/v1/streams"' in logged
        assert "format=csv&label=sad" in logged
        assert '"what":"WS","subject":"/v1/events"' in logged
        assert web.token not in logged
        with monkeypatch.context() as full:
            full.setattr(audit_module.os, "write", lambda _, data: len(data) - 1)
            refused = web.get("/v1/streams")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "audit")
            with pytest.raises(InvalidStatus) as closed:
                connect(f"{web.ws}/v1/events", additional_headers=web.bearer)
            assert closed.value.response.status_code == 503


def test_a_refusal_is_logged_without_secrets_and_not_without_end(tmp_path: Path) -> None:
    with running(tmp_path) as web:
        times = itertools.count(1e6, 100.0)
        web.gateway.access.clock = lambda: next(times)  # each refusal is in another minute
        reader = {"Authorization": f"Bearer {web.tokens.add('desk', 'reader', 1)}"}
        web.tokens.reread()
        httpx2.get(f"{web.url}/v1/streams?token=s3cret")
        httpx2.post(f"{web.url}/v1/files", json={}, headers=reader)
        httpx2.post(f"{web.url}/v1/session", json={"token": "wrong"})
        web.gateway.access.clock = lambda: 2e6
        for _ in range(5):
            httpx2.get(f"{web.url}/v1/alerts")
        httpx2.get(f"{web.url}/readyz", headers={"Host": "evil.example"})  # health needs no token
        web.gateway.access.clock = lambda: 3e6
        httpx2.delete(f"{web.url}/v1/session", headers={"Origin": "https://evil.example"})
    entries = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(e["who"], e["what"], e["subject"]) for e in entries] == [
        ("unknown", "GET", "/v1/streams: 401 unauthorized, from 127.0.0.1"),
        ("desk", "POST", "/v1/files: 403 forbidden, from 127.0.0.1"),
        ("unknown", "POST", "/v1/session: 401 unauthorized, from 127.0.0.1"),
        ("unknown", "GET", "/v1/alerts: 401 unauthorized, from 127.0.0.1"),
        ("unknown", "DELETE", "/v1/session: 403 origin, from 127.0.0.1, 4 more before"),
    ]
    assert verify(tmp_path).number == 5


def test_retention_deletes_what_is_old_and_an_error_does_not_stop_the_rest(tmp_path: Path) -> None:
    month = tmp_path / "audit-2026-01.log"
    Audit(tmp_path).close()
    audit = Audit(tmp_path)
    audit.write("desk", "GET", "/")
    audit.close()
    (tmp_path / "audit.log").rename(month)
    os.utime(month, (0, 0))
    audit, said, asked = Audit(tmp_path), list[str](), list[tuple[int, float]]()

    class Full:
        """A store that cannot delete."""

        def expire(self, days: int, now: float) -> int:
            asked.append((days, now))
            raise StoreError("history.sqlite", "is full")

    keeping = Retention(30, Full(), audit, said.append, clock=lambda: 400 * DAY_S)  # type: ignore[arg-type]
    keeping.close()
    audit.close()
    assert asked == [(30, 400 * DAY_S)]
    assert "is full" in said[0]
    assert not month.exists()
    assert verify(tmp_path).number == 2


@pytest.mark.processes
def test_a_gateway_in_the_mode_judges_the_customer_only_and_needs_a_retention(
    short_call: Path,
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="law-", dir="/tmp"))
    mode = ("--compliance", "eu")
    try:
        command = [sys.executable, str(PROGRAM), "0", "serve", "--port", "0", *mode]
        without = subprocess.run(
            [*command, "--data", str(folder / "data")],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert without.returncode == 2
        assert "compliance.retention_days=30" in without.stderr
        served = Served(folder / "data", *mode, "--set", "compliance.retention_days=30")
        try:
            fields = {"channels": "split", "channel_names": "agent,customer", "consent": "by phone"}
            files = {"file": ("call.wav", short_call.read_bytes())}
            job = served.job(served.http.post("/files", data=fields, files=files))
            judged = {}
            for stream in job["streams"]:
                begun, *events = served.http.get(f"/streams/{stream}/events").json()["events"]
                assert (begun["consent"], bool(begun["notice"])) == ("by phone", True)
                verdicts = [e for e in events if e["type"] == "verdict"]
                assert verdicts
                judged[begun["stream"].rpartition("/")[2]] = begun.get("judged", True)
                url = f"/streams/{stream}/segments/{verdicts[0]['segment']}/correction"
                corrected = served.http.post(url, json={"label": "sad"})
                assert corrected.status_code == (200 if begun.get("judged", True) else 409)
                for verdict in verdicts if not begun.get("judged", True) else ():
                    assert (verdict["label"], verdict["reason"]) == (UNKNOWN, NOT_JUDGED)
                    assert (verdict["votes"], verdict["confidence"]) == ([], None)
                    assert verdict["transcript"]
                    assert "attributes" not in verdict
            assert judged == {"agent": False, "customer": True}
            assert served.stop() == 0
        finally:
            served.process.kill()
            served.process.wait()
        checked = subprocess.run(
            [*command, "--data", str(folder / "data"), "--verify-audit"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert checked.returncode == 0
        assert "unchanged" in checked.stdout
    finally:
        shutil.rmtree(folder)
