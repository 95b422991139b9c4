"""Names on the Hub, without the Hub: its errors are raised by hand."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError
from places import ROOT
from safetensors import SafetensorError
from transformers.utils import logging

from abhinaya.models import hugging_face as hub
from abhinaya.models.catalogue import CATALOGUE, REVISIONS, is_repository, unpinned
from abhinaya.models.errors import (
    DamagedFileError,
    KeysError,
    MissingFileError,
    ModelError,
    OptionsError,
)
from abhinaya.models.hugging_face import locate, require_complete, translated

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize(
    "name", ["./none", "/none", "~/none/none", "none", "a/b/c", "some/beats.pt", "x/w.safetensors"]
)
def test_what_can_only_be_a_path_is_not_looked_for_on_the_hub(name, monkeypatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(hub, "snapshot_download", never)
    assert locate("tests") == Path("tests")
    with pytest.raises(MissingFileError, match="does not exist"):
        locate(name)


def test_a_name_is_downloaded_at_its_pinned_revision(tmp_path, monkeypatch, caplog) -> None:
    asked = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        return str(tmp_path / "snapshots" / COMMIT)

    monkeypatch.setattr(hub, "snapshot_download", download)
    names = ["openai/whisper-large-v2", f"some/model@{COMMIT}", "some/model", "some/model@main"]
    for name in names:
        assert locate(name, ["config.json"]).name == COMMIT
    assert asked == [
        ("openai/whisper-large-v2", REVISIONS["openai/whisper-large-v2"], ["config.json"]),
        ("some/model", COMMIT, ["config.json"]),
        ("some/model", None, ["config.json"]),
        ("some/model", "main", ["config.json"]),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"{name}: no revision is pinned, so its owner can change it; "
        f"write some/model@{COMMIT} to keep this one"
        for name in names[2:]
    ]


def test_what_can_be_a_name_on_the_hub() -> None:
    for name in ("org/name", "org/name@main", f"org/name@{COMMIT}"):
        assert is_repository(name)
    # the last is a folder of this project, where the tests run
    other = "name a/b/c ./a/b ~/a /a/b org/weights.pt org/name@ tests/models"
    for name in ("org/na me", *other.split()):
        assert not is_repository(name), name


def test_every_repository_of_the_package_is_pinned_or_warned_of() -> None:
    """No profile, recipe or catalogue entry follows what the owner of a repository does unnoticed.

    Of these few no commit is known to us; whoever runs them is warned by name.
    """
    known_to_follow = {
        "3loi/SER-Odyssey-Baseline-WavLM-Categorical",
        "3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes",
        "joeddav/distilbert-base-uncased-go-emotions-student",
        "lmsys/vicuna-13b-v1.1", "superb/hubert-base-superb-er",
        "superb/wav2vec2-large-superb-er", "tsinghua-ee/SALMONN", "tsinghua-ee/SALMONN-7B",
    }  # fmt: skip
    entries = CATALOGUE.values()
    named = {s.repo for e in entries for s in (*e.sources, *e.others) if s.on_hub}
    for file in (*ROOT.glob("stream/settings/profiles/*.toml"), *ROOT.glob("train/recipes/*.toml")):
        text = file.read_text("utf-8")
        named |= set(re.findall(r'^(?!model = "meta).*= "([\w.-]+/[\w.-]+)"$', text, re.MULTILINE))
    assert {name for name in named if unpinned(name)} == known_to_follow
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in REVISIONS.values())


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError("You are trying to access a gated repo."), MissingFileError, "HF_TOKEN"),
        (OSError("http://127.0.0.1:40173: refused"), MissingFileError, "network"),
        (OSError("some/aggregated: no connection"), MissingFileError, "network"),
        (OSError("couldn't connect to huggingface.co"), MissingFileError, "network"),
        (SafetensorError("invalid header"), DamagedFileError, "download it again"),
        (ImportError("requires bitsandbytes\nmore"), OptionsError, r"\(requires bitsandbytes\)"),
        (ValueError("Unrecognized model"), KeysError, "Unrecognized model"),
        (RuntimeError("size mismatch"), KeysError, "right kind"),
    ],
)
def test_foreign_errors_become_ours_with_a_remedy(error, kind, message) -> None:
    with pytest.raises(kind, match=message) as caught, translated("meta-llama/X"):
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.subject == "meta-llama/X"


@pytest.mark.parametrize(
    ("status", "message"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (500, "net")]
)
def test_what_the_hub_answers_is_told_apart_by_its_status(status: int, message: str) -> None:
    answer = httpx2.Response(status, request=httpx2.Request("GET", "http://127.0.0.1:9/x"))
    with pytest.raises(MissingFileError, match=message), translated("meta-llama/X"):
        raise OSError("x") from HfHubHTTPError("no", response=answer)


def test_our_own_errors_pass_and_the_log_is_as_before() -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(ModelError, match="mine"), translated("x"):
        raise ModelError("x", "mine", "None")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_weight_that_only_training_reads_may_be_missing() -> None:
    require_complete({"missing_keys": ["wavlm.masked_spec_embed"]}, "m")
    with pytest.raises(KeysError, match=r"1 weights are missing.*: classifier\.weight"):
        require_complete({"missing_keys": ["w.masked_spec_embed", "classifier.weight"]}, "m")
