"""Across machines (here: across TCP on the loopback interface), with keys and without."""

from __future__ import annotations

import json
import resource
import shutil
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
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.run.recorder import Recorder
from abhinaya.stream.wire.guard import REFUSED_KEY
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import Status
from abhinaya.stream.wire.sockets import HANDSHAKE_MS

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


def answers(recorder: Recorder, patience_s: float = 30.0) -> Status:
    """The next status of the hub, which is sent twice a second."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        for event in recorder.poll(0.1):
            if isinstance(event, Status):
                return event
    raise TimeoutError(str(recorder.unreachable("hub", patience_s)))


def test_a_key_is_taken_back_and_given_again_while_the_hub_runs(
    tmp_path: Path, endpoint: str
) -> None:
    folder = tmp_path / "keys"
    make_keys(folder)
    assert commands.main(["keys", str(folder), "other", "--role", "operator"]) == 0
    taken = tmp_path / "input.key"
    log = tmp_path / "hub.log"
    recorders = []

    def recorder(name: str) -> Recorder:
        recorders.append(Recorder(endpoint, name, f"{name}{len(recorders)}", Keys(folder, name)))
        return recorders[-1]

    with running("hub", endpoint, "--keys", str(folder), "--log-file", str(log)) as hub:
        try:
            mine, other = recorder("input"), recorder("other")
            answers(mine)
            answers(other)
            shutil.move(folder / "input.key", taken)
            begun = time.monotonic()
            with pytest.raises(NetworkError, match="its key was removed") as error:
                list(iter(lambda: answers(mine), None))
            took_s = time.monotonic() - begun
            assert error.value.remedy
            assert took_s < 5, took_s
            late = recorder("input")
            with pytest.raises(TimeoutError, match="does not admit this key"):
                answers(late, 1.5)
            while not answers(other).refused.get(REFUSED_KEY):  # those of before come first
                assert time.monotonic() < begun + 30
            shutil.copy(taken, folder)
            answers(late, 10)  # it has tried again all the time
            assert hub.poll() is None
        finally:
            for each in recorders:
                each.close()
    text = log.read_text("utf-8")
    assert "input.key was removed" in text
    assert f"127.0.0.1: no file in {folder}" in text


def test_fifteen_hundred_connections_held_open_do_not_keep_a_hub_from_serving(
    tmp_path: Path, endpoint: str
) -> None:
    folder = Path(make_keys(tmp_path / "keys"))
    host, port = endpoint.removeprefix("tcp://").split(":")
    wanted = 2048
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        pytest.fail(f"the test needs {wanted} file descriptors, and may have {hard}")
    held: list[socket.socket] = []
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))  # the hub must raise it itself
        hub = stack.enter_context(running("hub", endpoint, "--keys", str(folder)))
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        recorder = Recorder(endpoint, "first", "first", Keys(folder, "input"))
        stack.callback(recorder.close)
        answers(recorder)
        before = resident_mib(hub)
        for number in range(1500):
            held.append(socket.create_connection((host, int(port) + number % 2), 5))
            stack.callback(held[-1].close)
        fresh = Recorder(endpoint, "second", "second", Keys(folder, "input"))
        stack.callback(fresh.close)
        answers(fresh, 5)
        answers(recorder, 5)
        assert resident_mib(hub) - before < 20
        # a connection that does not introduce itself is closed
        held[0].settimeout(HANDSHAKE_MS / 1000 + 5)
        while held[0].recv(4096):  # the hub's own greeting comes first
            pass


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


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
