"""Who shares whose processes."""

from __future__ import annotations

import pytest

from abhinaya.stream import config as configuration
from abhinaya.stream.config import WorkerConfig
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.hosting import guest_node, guests

PROFILE = """
[voters.S1]
model = "compact-speech"
[voters.S2]
model = "compact-speech"
[voters.ST1]
model = "compact-joint"
host = "S2"
"""


def test_guests_are_found_by_their_host() -> None:
    voters = {name: WorkerConfig(model="m") for name in ("S1", "S2")}
    voters |= {name: WorkerConfig(model="m", host="S2") for name in ("ST1", "X")}
    assert guests(voters, "S2") == ["ST1", "X"]
    assert guests(voters, "S1") == []


@pytest.mark.parametrize(
    ("host", "node"),
    [("S2-0", "ST1-0"), ("S2-gpu7-4711", "ST1-gpu7-4711"), ("big", "ST1-big"), ("S21", "ST1-S21")],
)
def test_a_guests_node_is_named_after_its_hosts(host: str, node: str) -> None:
    assert guest_node(host, "S2", "ST1") == node


def test_a_profile_with_a_guest(tmp_path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(PROFILE)
    assert configuration.load(str(path)).voters["ST1"].host == "S2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voters.ST1.host": "S3"}, "'S3' is no other voter"),
        ({"voters.ST1.host": "ST1"}, "'ST1' is no other voter"),
        ({"voters.S2.host": "S1"}, "S2 is itself in the processes of S1"),
        ({"voters.S2.replicas": 2}, "voters.ST1.replicas is not voters.S2.replicas"),
        ({"asr.model": "faster-whisper", "asr.host": "S1"}, "only a voter can share"),
    ],
)
def test_what_cannot_be_shared(tmp_path, changes, message) -> None:
    path = tmp_path / "p.toml"
    path.write_text(PROFILE)
    with pytest.raises(ConfigError, match=message):
        configuration.load(str(path), changes)
