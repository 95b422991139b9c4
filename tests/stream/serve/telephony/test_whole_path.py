"""From a telephone line to its verdicts: gateway, push front, hub, nodes (null ones) and back."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from deepgram import DeepgramClient
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from provider_messages import media, text, twilio_start, written
from pushed_run import demo, until
from sipp_scenario import needs_sipp, scenario
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from abhinaya.bench.null_nodes import null_config, null_nodes
from abhinaya.stream.serve import main
from abhinaya.stream.serve.calls import Calls
from abhinaya.stream.serve.server import bind
from abhinaya.stream.settings.siprec import SiprecConfig

SECONDS = 14.0


class Observer:
    def loading(self, stages: Any) -> None:
        pass

    def trouble(self, message: str) -> None:
        pass


def run_gateway(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: Callable[[str, str], None],
    siprec: str = "",
) -> Calls:
    """Serve with null nodes until `body`, which gets HOST:PORT and a token, has returned."""
    made = list[Calls]()

    def calls(*of_run: Any) -> Calls:
        made.append(Calls(*of_run))
        return made[-1]

    monkeypatch.setattr(main, "Calls", calls)
    door, faults = bind("127.0.0.1", 0), list[BaseException]()
    monkeypatch.setattr(main, "bind", lambda *_: door)

    def use() -> None:
        try:
            until((folder / "token").exists, "the token")
            token = (folder / "token").read_text().strip()
            body(f"127.0.0.1:{door.getsockname()[1]}", token)
        except BaseException as fault:
            faults.append(fault)
        signal.raise_signal(signal.SIGTERM)

    user = threading.Thread(target=use)
    user.start()
    config = null_config()
    serve = replace(config.serve, siprec=SiprecConfig(listen=siprec))
    with null_nodes():
        main.serve(replace(config, serve=serve), main.Place("127.0.0.1", 0, folder), Observer())
    user.join(10)
    if faults:
        raise faults[0]
    return made[0]


def deepgram(host: str, token: str) -> list[Any]:
    """Stream the demo call with the published client; return all answers."""
    here = f"ws://{host}"
    places = DeepgramClientEnvironment(base=here, production=here, agent=here, agent_rest=here)
    client = DeepgramClient(api_key=token, environment=places)
    sound = np.stack([np.frombuffer(party, "<i2") for party in demo(SECONDS)], 1).tobytes()
    own = {"name": "demo", "channel_names": "agent,customer"}
    got: list[Any] = []
    with client.listen.v1.connect(
        model="any", encoding="linear16", sample_rate="16000", channels="2", multichannel="true",
        interim_results="true", request_options={"additional_query_parameters": own},
    ) as connection:  # fmt: skip
        connection.on(EventType.MESSAGE, got.append)
        reading = threading.Thread(target=connection.start_listening)
        reading.start()
        for begin in range(0, len(sound), 8_000):
            connection.send_media(sound[begin : begin + 8_000])
        connection.send_close_stream()
        reading.join(60)
    return got


def twilio(host: str, token: str) -> None:
    """Play the demo call as Twilio does, 8 kHz mu-law."""
    parties = [np.frombuffer(party, "<i2")[::2] / np.float32(32_768) for party in demo(SECONDS)]
    tracks = [written(party, "mulaw") for party in parties]
    header = {"Authorization": f"Bearer {token}"}
    with connect(f"ws://{host}/v1/twilio/stream", additional_headers=header) as line:
        line.send(text(twilio_start("CA9"))[0])
        for number in range(int(SECONDS * 50)):
            for side, track in enumerate(tracks):
                payload = base64.b64encode(track[number * 160 :][:160]).decode()
                line.send(json.dumps(media(side, number, payload=payload)))
            threading.Event().wait(0.002)
        line.send('{"event": "stop"}')
        assert [*line] == []


@pytest.mark.slow
def test_audio_goes_in_and_verdicts_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Any] = []

    def body(host: str, token: str) -> None:
        header = {"Authorization": f"Bearer {token}"}

        def ready() -> bool:
            try:
                got[:] = deepgram(host, token)
            except InvalidStatus as early:
                if early.response.status_code == 503:  # the push front is still starting
                    return False
                raise
            return True

        until(ready, "the push front")
        twilio(host, token)

        def ended() -> list[Any]:
            rows = httpx2.get(f"http://{host}/v1/streams", headers=header).json()["streams"]
            return [row for row in rows if row["ended"] and row["name"].startswith("twilio:CA9/")]

        until(lambda: len(ended()) == 2, "the end of Twilio's call")
        assert {row["name"] for row in ended()} == {"twilio:CA9/customer", "twilio:CA9/Asha"}
        assert all(row["label"] for row in ended())

    calls = run_gateway(tmp_path, monkeypatch, body)
    assert calls.traffic.frames["twilio", "0"] >= SECONDS * 50
    assert calls.traffic.frames["listen", "1"] >= SECONDS * 64_000 / 8_000
    assert len(calls) == 0
    results, metadata = [a for a in got if a.type == "Results"], got[-1]
    assert (metadata.type, metadata.duration, metadata.channels) == ("Metadata", SECONDS, 2)
    finals = [r for r in results if r.is_final]
    assert {tuple(r.channel_index) for r in finals} == {(0, 2), (1, 2)}
    for result in finals:
        event = result.abhinaya
        assert event["type"] == "verdict", event
        assert event["stream"] == f"listen:demo/{('agent', 'customer')[result.channel_index[0]]}"
        assert event["label"]
        assert (result.start, result.channel.alternatives[0].transcript) == (
            event["start_s"],
            event["transcript"]["text"],
        )


@needs_sipp
@pytest.mark.slow
def test_a_recorder_brings_its_call_and_gets_verdicts_with_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the push front has started: then it is asked to try again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        sip_port = free.getsockname()[1]
    parties = [np.frombuffer(party, "<i2")[::2] / np.float32(32_768) for party in demo(SECONDS)]
    files = [tmp_path / f"{i}.raw" for i in range(2)]
    for file, party in zip(files, parties, strict=True):
        file.write_bytes(written(party, "mulaw"))
    (tmp_path / "call.xml").write_text(scenario(*files, SECONDS))
    flags = "-sf call.xml -m 1 -nostdin -i 127.0.0.1 -mi 127.0.0.1 -timeout 40s -timeout_error"
    command = ["sipp", f"127.0.0.1:{sip_port}", *flags.split()]

    def body(host: str, token: str) -> None:
        header = {"Authorization": f"Bearer {token}"}

        def rows() -> list[Any]:
            return httpx2.get(f"http://{host}/v1/streams", headers=header).json()["streams"]

        def called() -> bool:
            played = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True)
            return played.returncode == 0

        until(called, "a call that is answered by 200", 120)
        until(lambda: len(rows()) == 2 and all(row["ended"] for row in rows()), "its end")
        names = {row["name"].partition("/")[2]: row["label"] for row in rows()}
        assert set(names) == {"Asha", "Bo"}
        assert all(names.values())

    run_gateway(tmp_path, monkeypatch, body, f"127.0.0.1:{sip_port}")
