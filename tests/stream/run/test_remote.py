"""Across machines (here: across TCP on the loopback interface), with keys and without."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from abhinaya.bench.demo import CALL
from abhinaya.stream.commands import main as commands

pytestmark = pytest.mark.processes

COMMAND = [
    sys.executable,
    "-c",
    "from abhinaya.stream.commands.main import main; raise SystemExit(main())",
]
STREAM = [sys.executable, "-m", "abhinaya.stream"]


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture
def endpoint() -> str:
    for _ in range(50):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return f"tcp://127.0.0.1:{port}"
    raise AssertionError("no two free ports in a row")


def make_keys(folder: Path) -> str:
    assert commands.main(["keys", str(folder), "hub"]) == 0
    for role in ("input", "node"):
        assert commands.main(["keys", str(folder), role, "--role", role]) == 0
    return str(folder)


def test_a_hub_and_nodes_of_other_machines_label_a_file_under_keys(
    tmp_path: Path, endpoint: str
) -> None:
    keys = ("--keys", make_keys(tmp_path / "keys"))
    with ExitStack() as stack:
        stack.enter_context(running("hub", endpoint, *keys))
        for service in ("asr", "S1", "T2", "ST1"):
            stack.enter_context(running("node", service, endpoint, *keys, "--key-name", "node"))
        time.sleep(2)
        # a client with keys of its own making is not let in
        foreign = ("--keys", make_keys(tmp_path / "foreign"))
        refused = subprocess.run(
            [*STREAM, str(CALL), "--hub", endpoint, *foreign, "--key-name", "input"],
            capture_output=True,
            check=False,
        )
        assert refused.returncode == 7
        assert b"does not answer: hub.key is probably not its key" in refused.stderr
        # two at the same time, and one after them: each gets its own streams, all of them
        key = (*keys, "--key-name", "input")
        command = [*STREAM, str(CALL), "--hub", endpoint, *key, "--format", "jsonl"]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        outputs = [process.communicate(timeout=120)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        third = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert third.returncode == 0, third.stderr
    labels = []
    for output in (*outputs, third.stdout):
        events = [json.loads(line) for line in output.splitlines()]
        verdicts = [e for e in events if e["type"] == "verdict" and not e["revision"]]
        assert [v["segment"] for v in verdicts] == list(range(len(verdicts)))
        assert len(verdicts) >= 4
        assert {v["voter"] for v in verdicts[-1]["votes"]} == {"S1", "T2", "ST1"}
        assert len([e for e in events if e["type"] == "stream_started"]) == 1
        labels.append([v["label"] for v in verdicts])
    assert labels[0] == labels[1] == labels[2]


def test_without_keys_nothing_but_the_loopback_interface_can_be_bound(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert commands.main(["hub", "tcp://0.0.0.0:5999"]) == 7
    assert "abhinaya keys" in capsys.readouterr().err


def test_a_second_hub_on_the_same_endpoint_is_refused(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running("hub", endpoint):
        host, port = endpoint.removeprefix("tcp://").split(":")
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex((host, int(port))):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert commands.main(["hub", endpoint]) == 7
    assert endpoint in capsys.readouterr().err
