"""Who shares whose processes."""

from __future__ import annotations

import pytest

from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.settings.config import guests

PROFILE = """
[voters.S1]
model = "tiny-speech"
[voters.S2]
model = "tiny-speech"
[voters.ST1]
model = "tiny-joint"
host = "S2"
"""


def test_a_profile_with_a_guest(tmp_path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(PROFILE)
    voters = profile_files.load(str(path)).voters
    assert (guests(voters, "S2"), guests(voters, "S1")) == (["ST1"], [])
    shared = {"asr.model": "faster-whisper", "voters.ST1.host": "asr"}
    assert guests(profile_files.load(str(path), shared).voters, "asr") == ["ST1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voters.ST1.host": "S3"}, "'S3' is not another voter"),
        ({"voters.ST1.host": "ST1"}, "'ST1' is not another voter"),
        ({"voters.S2.host": "S1"}, "S2 itself shares the processes of S1"),
        ({"voters.S2.replicas": 2}, "voters.ST1.replicas must equal voters.S2.replicas"),
        ({"voters.ST1.host": "asr"}, "'asr' is not another voter of this profile"),
        (
            {"asr.model": "faster-whisper", "asr.replicas": 2, "voters.ST1.host": "asr"},
            "voters.ST1.replicas must equal asr.replicas",
        ),
        ({"asr.model": "faster-whisper", "asr.host": "S1"}, "only a voter can share"),
    ],
)
def test_what_cannot_be_shared(tmp_path, changes, message) -> None:
    path = tmp_path / "p.toml"
    path.write_text(PROFILE)
    with pytest.raises(ConfigError, match=message):
        profile_files.load(str(path), changes)
