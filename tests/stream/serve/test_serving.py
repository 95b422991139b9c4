"""`abhinaya serve` as a process, with nodes that answer without models."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from media_server import Radio, site
from pushed_run import until
from served import PROGRAM, Served
from source_fakes import encode
from websockets.sync.client import connect

from abhinaya.client import Client
from abhinaya.stream.sources import InputConfig, open_source

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    folder = Path(tempfile.mkdtemp(prefix="serve-", dir="/tmp"))
    program = Served(folder / "data")
    try:
        yield program
    finally:
        program.process.kill()
        program.process.wait()
        shutil.rmtree(folder)


def test_an_upload_becomes_streams_and_is_deleted(served: Served, short_call: Path) -> None:
    fields = {"channels": "split", "channel_names": "agent,customer", "name": "a/../call"}
    files = {"file": ("../../x.wav", short_call.read_bytes())}
    job = served.job(served.http.post("/files", data=fields, files=files))
    assert (job["state"], job["name"], job["error"]) == ("done", "a-..-call", "")
    assert len(job["streams"]) == 2
    assert not list((served.data / "uploads").iterdir())
    for stream in job["streams"]:
        events = served.http.get(f"/streams/{stream}/events").json()["events"]
        assert events[0]["type"] == "stream_started"
        assert events[-1]["type"] == "stream_ended"
        assert sum(event["type"] == "verdict" for event in events) >= 3


def test_a_job_that_runs_is_cancelled_and_keeps_what_was_said(
    served: Served, short_call: Path
) -> None:
    chunks = open_source(InputConfig(str(short_call))).chunks()
    samples = np.concatenate([chunk.samples for chunk in chunks])
    talk = io.BytesIO()
    encode(talk, samples, 16_000, "aac", "adts")
    paced = {"name": "paced", "realtime": "true", "channels": "split"}
    client = Client(f"http://127.0.0.1:{served.port}", served.token)
    with site() as web:
        web.routes["/talk.aac"] = Radio(talk.getvalue(), 16_000 * talk.tell() / len(samples))
        files = {"file": ("x.wav", short_call.read_bytes())}
        jobs = [
            served.http.post("/files", data=paced, files=files).json()["id"],
            client.label(web.url("/talk.aac"), name="radio")["id"],
        ]
        until(lambda: all(client.job(job)["streams"] for job in jobs), "their streams")
        other = served.http.post("/files", files=files)
        begun = time.monotonic()
        for job in jobs:
            assert client.cancel(job)["state"] in ("running", "cancelled")
            client.cancel(job)
        until(lambda: {client.job(job)["state"] for job in jobs} == {"cancelled"}, "their ends")
        assert time.monotonic() - begun < 8
    for job in jobs:
        for stream in client.job(job)["streams"]:
            events = client.get(f"/v1/streams/{stream}/events")["events"]
            assert (events[-1]["type"], events[-1]["reason"]) == ("stream_ended", "interrupted")
            said = [event for event in events if event["type"] == "verdict"]
            assert all(event["end_s"] < 20 for event in said), "the rest is a gap"
    assert served.job(other)["state"] == "done"
    for gone, status in ((other.json()["id"], 409), ("unknown", 404)):
        assert served.http.delete(f"/files/{gone}").status_code == status


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"hello, this is text" * 99, "is text"), (os.urandom(5000), "x.wav"), (b"RIFF", "x.wav")],
)
def test_what_is_not_audio_fails_and_says_why(served: Served, content: bytes, error: str) -> None:
    job = served.job(served.http.post("/files", files={"file": ("x.wav", content)}))
    assert job["state"] == "failed"
    assert error in job["error"]
    assert str(served.data) not in job["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"address": "/etc/passwd"}, 422),
        ({"address": "file:///etc/passwd"}, 422),
        ({"address": "http://"}, 422),
        ({"address": "http://h/x", "channel_names": ["a"]}, 422),
        ({"adress": "http://h/x"}, 400),
        ([], 400),
    ],
)
def test_only_addresses_of_the_network_are_opened(served: Served, body: Any, status: int) -> None:
    answer = served.http.post("/files", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["remedy"]


def test_the_published_openai_client_gets_its_formats_and_our_verdicts(
    served: Served, short_call: Path
) -> None:
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{served.port}/v1", api_key=served.token, max_retries=0
    )

    def transcribe(form: Any, content: bytes = short_call.read_bytes()) -> Any:
        file = ("call.wav", content)
        create = client.audio.transcriptions.create
        return create(model="any", file=file, response_format=form)

    plain = transcribe("json")
    verdicts = plain.model_extra["verdicts"]
    assert [v["segment"] for v in verdicts] == list(range(len(verdicts)))
    assert plain.text == " ".join(v["transcript"]["text"] for v in verdicts).strip()
    full = transcribe("verbose_json")
    assert len(full.segments) == len(verdicts) == len(full.model_extra["verdicts"])
    assert 24 < full.duration < 26
    for form in ("srt", "vtt"):
        cues = transcribe(form)
        assert cues.count("-->") == len(verdicts)
        assert "call" not in cues, "the name of the stream is ours"
    with pytest.raises(openai.BadRequestError, match="knows only `en`"):
        client.audio.transcriptions.create(model="m", file=b"x", language="de")
    with pytest.raises(openai.UnprocessableEntityError, match="is text, not audio"):
        transcribe("json", b"no audio at all " * 100)
    with pytest.raises(openai.UnprocessableEntityError, match="is not streamed"):
        client.audio.transcriptions.create(model="m", file=b"x", stream=True)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").audio.transcriptions.create(model="m", file=b"x")


def test_a_signal_ends_live_streams_and_what_was_said_is_kept() -> None:
    folder = Path(tempfile.mkdtemp(prefix="serve-", dir="/tmp"))
    try:
        program = Served(folder / "data", "--demo")
        url = f"ws://127.0.0.1:{program.port}/v1/events?from=0"
        heard: list[dict[str, Any]] = []
        with connect(url, additional_headers={"Authorization": f"Bearer {program.token}"}) as ws:
            while sum(event["type"] == "stream_started" for event in heard) < 2:
                heard.append(json.loads(ws.recv(20)))
        assert program.stop() == 0
        errors = (folder / "stderr").read_text()
        assert "Traceback" not in errors
        assert program.token not in errors
        program = Served(folder / "data")
        url = f"ws://127.0.0.1:{program.port}/v1/events?from=0"
        kept: list[dict[str, Any]] = []
        with connect(url, additional_headers={"Authorization": f"Bearer {program.token}"}) as ws:
            while sum(event["type"] == "stream_ended" for event in kept) < 2:
                kept.append(json.loads(ws.recv(20)))
        ends = [event["reason"] for event in kept if event["type"] == "stream_ended"]
        assert ends == ["interrupted"] * 2
        assert [e for e in heard if e["number"]] == [
            e for e in kept if e["number"] in {h["number"] for h in heard}
        ]
        assert program.stop(signal.SIGTERM) in (0, 143)  # before or after the models are there
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_ten_thousand_idle_connections_do_not_stop_the_others(
    served: Served, short_call: Path
) -> None:
    idle = []
    for n in range(10_000):
        idle.append(peer := socket.socket())
        peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            peer.connect(("127.0.0.1", served.port))
        if n % 100 == 99:
            begun = time.monotonic()
            assert served.http.get("/session").status_code == 200
            assert time.monotonic() - begun < 2
    with short_call.open("rb") as file:
        job = served.job(served.http.post("/files", files={"file": ("during.wav", file)}))
    assert job["state"] == "done"
    deadline = time.monotonic() + 20
    for peer in idle:
        peer.settimeout(max(0.1, deadline - time.monotonic()))
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(100) == b""
        peer.close()
    assert served.http.get("/session").status_code == 200


@pytest.mark.slow
def test_it_joins_a_hub_that_goes_and_returns_and_sees_the_runs_of_others(
    served: Served, short_call: Path
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="join-", dir="/tmp"))
    hub = [sys.executable, "-c", HUB, f"ipc://{folder}/hub", str(PROGRAM.parent)]
    (folder / "hub").mkdir(mode=0o700)
    null = [sys.executable, str(PROGRAM), "0", str(short_call), "--name", "foreign"]
    first = subprocess.Popen(hub)
    try:
        program = Served(folder / "data", "--join", f"ipc://{folder}/hub")
        try:
            done = subprocess.run([*null, "--hub", f"ipc://{folder}/hub"], capture_output=True)
            assert done.returncode == 0, done.stderr
            first.kill()
            first.wait()
            first = subprocess.Popen(hub)
            with short_call.open("rb") as file:
                job = program.job(program.http.post("/files", files={"file": ("own.wav", file)}))
            assert job["state"] == "done"
            rows = {row["name"]: row for row in program.http.get("/streams").json()["streams"]}
            assert {"foreign", "own"} <= set(rows)
            for name in ("foreign", "own"):
                events = program.http.get(f"/streams/{rows[name]['id']}/events").json()["events"]
                assert [e["type"] for e in events][:: len(events) - 1] == [
                    "stream_started",
                    "stream_ended",
                ]
            assert rows["foreign"]["run"] != rows["own"]["run"]
            assert program.stop() == 0
        finally:
            program.process.kill()
            program.process.wait()
    finally:
        first.kill()
        first.wait()
        shutil.rmtree(folder)


HUB = """
import sys, threading
sys.path.append(sys.argv[2])
from null_program import config
from abhinaya.bench.null_nodes import NEEDS, null_node
from abhinaya.stream.hub.main import serve
from abhinaya.stream.wire.child import Stop
for service in NEEDS:
    threading.Thread(target=null_node, args=(sys.argv[1], service, Stop()), daemon=True).start()
serve(config(), sys.argv[1], Stop())
"""
