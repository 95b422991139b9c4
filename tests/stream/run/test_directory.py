"""The private directory of a run: where it is, and that it goes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import zmq

from abhinaya.stream.errors import ConfigError
from abhinaya.stream.run import directory as directories
from abhinaya.stream.run.directory import LONGEST, keep_logs, remove_dead, remove_old, run_directory
from abhinaya.stream.wire.sockets import check_endpoint, sinks_endpoint, workers_endpoint


def test_it_is_private_and_goes_at_the_end_whatever_ends_the_run(tmp_path: Path) -> None:
    def interrupted() -> None:
        with run_directory({"TMPDIR": str(tmp_path)}) as directory:
            assert directory.parent == tmp_path
            assert directory.stat().st_mode & 0o777 == 0o700
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [LONGEST, LONGEST + 1, 150])
def test_a_folder_is_used_only_if_its_sockets_can_be_bound(tmp_path: Path, length: int) -> None:
    base = tmp_path / ("x" * (length - len(str(tmp_path)) - 1))
    base.mkdir()
    with run_directory({"XDG_RUNTIME_DIR": str(base)}) as directory, zmq.Context() as context:
        assert (directory.parent == base) == (length <= LONGEST)
        check_endpoint(f"ipc://{directory}", None)
        for endpoint in (workers_endpoint, sinks_endpoint):
            with context.socket(zmq.ROUTER) as socket:
                socket.bind(endpoint(f"ipc://{directory}"))


@pytest.mark.parametrize("bad", ["", "relative", "/does/not/exist", "/proc"])
def test_another_folder_is_found_if_the_first_cannot_be_used(bad: str, tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": bad, "TMPDIR": str(tmp_path)}
    with run_directory(environment) as directory:
        assert directory.parent == tmp_path


def test_without_any_folder_the_error_names_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "_folders", lambda environment: ["/proc", "/" + "x" * 150])
    with pytest.raises(ConfigError) as raised, run_directory():
        pass
    assert raised.value.subject == "TMPDIR"
    assert "/proc: " in raised.value.reason
    assert "longer than" in raised.value.reason


def test_the_directory_of_a_killed_run_goes_at_the_next_start(tmp_path: Path) -> None:
    code = (
        "import sys, time; from abhinaya.stream.run.directory import run_directory\n"
        "with run_directory() as d: print(d, flush=True); time.sleep(60)"
    )
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    found = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True
        )
        assert process.stdout is not None
        found.append((process, Path(process.stdout.readline().strip())))
    (dead, left), (_, used) = found
    foreign = tmp_path / "abhinaya-12345678"
    foreign.mkdir()
    try:
        dead.kill()
        dead.wait()
        remove_dead(tmp_path)
        assert left.exists(), "young: its run may not have locked it yet"
        remove_dead(tmp_path, time.time() + 60)
        assert not left.exists()
        assert used.exists()
        assert foreign.exists(), "nothing says that it is ours"
    finally:
        for process, _ in found:
            process.kill()
            process.communicate()


def test_kept_logs_go_after_some_days_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "hub.log").write_text("odd")
    kept = keep_logs(tmp_path / "run")
    assert kept
    others = {"abhinaya-training.log", "abhinaya-logs-20261130", "abhinaya-logs-0a_b1c2d", "run"}
    for name in others:  # those of the user, whatever they are called
        (tmp_path / name).mkdir(exist_ok=True) if "." not in name else (tmp_path / name).touch()
    (tmp_path / "abhinaya-logs-link0000").symlink_to(kept)
    day = time.time() + 86_400
    remove_old(0, day * 2)
    remove_old(1.1, day)
    assert kept.exists()
    with monkeypatch.context() as foreign:
        foreign.setattr(os, "getuid", lambda: -1)
        remove_old(0.9, day)
    assert kept.exists(), "that of another user"
    remove_old(0.9, day)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, "abhinaya-logs-link0000"}


def test_a_directory_with_a_file_of_the_name_of_the_lock_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "abhinaya-training").mkdir()
    (tmp_path / "abhinaya-training" / "run").write_text("#!/bin/sh")
    remove_dead(tmp_path, time.time() + 60)
    assert (tmp_path / "abhinaya-training" / "run").exists()


def test_a_full_folder_is_left_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def write_bytes(path: Path, data: bytes) -> int:
        if path.is_relative_to(tmp_path):
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with run_directory({"TMPDIR": str(tmp_path)}) as directory:
        assert directory.parent != tmp_path
    assert not list(tmp_path.iterdir())
