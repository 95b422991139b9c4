"""Ray on a machine: what it is started with, and what is said when it does not start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cluster.one_ray import here, short_folder

from abhinaya.models.command_line import version
from abhinaya.models.errors import MissingPackageError
from abhinaya.stream.cluster import ray_settings
from abhinaya.stream.cluster.ray_faults import explain
from abhinaya.stream.cluster.ray_machine import RayHere
from abhinaya.stream.cluster.ray_settings import Here
from abhinaya.stream.commands import cluster
from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.run.placement import ray_actor
from abhinaya.stream.run.placement.ray_actor import Report


@pytest.fixture
def machine() -> Iterator[Here]:
    with short_folder() as folder:
        yield here(folder)


def test_without_the_package_the_extra_is_named(
    machine: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    file = machine.cluster.state.parent / "cluster.toml"
    assert cluster.main(["keys", str(file)]) == 0
    with pytest.raises(MissingPackageError, match=r"abhinaya\[cluster\]"):
        cluster.main(["up", str(file), "--machine", "one"])


def test_the_shell_of_the_operator_changes_nothing_of_ray(machine: Here) -> None:
    outer = {
        "PATH": "/bin",
        "RAY_ADDRESS": "10.0.0.9:1",
        "RAY_AUTH_TOKEN": "another",
        "RAY_AUTH_MODE": "disabled",
        "RAY_REDIS_CLIENT_KEY": "/k",
        "ABHINAYA_LOG": "info:text:9",
    }
    made = ray_settings.environment(machine, outer)
    assert made["RAY_AUTH_MODE"] == "token"
    assert made["RAY_AUTH_TOKEN_PATH"] == str(machine.cluster.keys / "ray.token")  # type: ignore[operator]
    assert made["RAY_REDIS_CLIENT_KEY"] == "/k"
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "ABHINAYA_LOG", "RAY_REDIS_ADDRESS"} & set(made)


def test_no_secret_is_in_the_command(machine: Here) -> None:
    token = machine.token_file
    token.parent.mkdir(mode=0o700)
    token.write_text("geheim")
    token.chmod(0o600)
    words = ray_settings.command(machine)
    assert "--head" in words
    assert not any("geheim" in word or str(token) in word for word in words)


OTHER_VERSIONS = """
RuntimeError: Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.11.7
This process on node 10.0.0.2 was started with:
    Ray: 2.50.1
    Python: 3.12.1
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x\nRPC error: InvalidAuthToken: Authentication token is missing", "not the token of"),
        (OTHER_VERSIONS, "has Ray 2.50.1 on Python 3.12.1; the head has 2.60.0 on 3.11.7"),
        ("Traceback:\n  File x\nValueError: no \x1b[31m room", "ValueError: no \\x1b[31m room"),
        ("", "does not start"),
    ],
)
def test_what_ray_says_becomes_one_line(machine: Here, text: str, said: str) -> None:
    error = str(explain(machine, text, machine.directory / "start.log"))
    assert said in error
    assert "\n" not in error


def test_what_can_be_checked_is_checked_before_ray_starts(
    machine: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(of: Here) -> str:
        ray = RayHere(of)
        try:
            ray.prepare()
            ray.start()
        except AbhinayaError as error:
            return str(error)
        finally:
            ray.close()
        return ""

    folder = machine.cluster.state.parent
    assert "this machine does not have" in fault(here(folder, address="192.0.2.77"))
    machine.token_file.parent.mkdir(mode=0o700)
    machine.token_file.write_text("open to all")
    machine.token_file.chmod(0o644)
    assert "chmod 600" in fault(machine)
    machine.token_file.write_text("")
    machine.token_file.chmod(0o600)
    assert "is empty" in fault(machine)
    machine.token_file.unlink()
    os.chmod(machine.directory, 0o755)
    assert "open to other users" in fault(machine)


def test_an_actor_of_another_version_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ray_actor.MACHINE, "left")
    report = msgspec.convert(ray_actor.Runner("99.0", b"of a later form").report(), Report)
    assert report == Report(os.getpid(), "left", version(), None)


def test_a_path_that_leaves_no_room_for_sockets_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    with pytest.raises(AbhinayaError, match="choose a shorter path"):
        here(deep)
