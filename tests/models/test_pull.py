"""`abhinaya models pull` from a Hub on this machine; each pull is a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import SHA, fake_hub
from ports import silent_port

from abhinaya.models.hugging_face import cached

CODE = "import sys; from abhinaya.models.cli import main; sys.exit(main(sys.argv[1:]))"
FILES = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(3_000) * 8_000,
    "pytorch_model.bin": b"the same once more",
    "onnx/model.onnx": b"another format",
    "README.md": b"# a model",
}


def run(
    home: Path, hub: str, *arguments: str, code: str = CODE, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment | {"HF_HUB_DISABLE_XET": "1"} | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_pull_takes_what_is_needed_with_progress_and_then_works_offline(tmp_path) -> None:
    with fake_hub({"some/model": FILES}) as hub:
        done = run(tmp_path, hub.url, "pull", "some/model")
        assert done.returncode == 0, done.stderr
        assert "%" in done.stderr, "no progress was shown"
        folder = Path(done.stdout.strip().removeprefix("some/model: "))
        assert sorted(p.name for p in folder.iterdir()) == [
            "README.md", "config.json", "model.safetensors",
        ]  # fmt: skip
        assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        sent = len(hub.sent)
    offline = run(tmp_path, hub.url, "pull", "some/model", HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (0, done.stdout), offline.stderr
    assert len(hub.sent) == sent
    absent = run(tmp_path, hub.url, "pull", "other/model", HF_HUB_OFFLINE="1")
    assert absent.returncode == 6
    assert "HF_HUB_OFFLINE forbids" in absent.stderr


def test_a_lost_connection_is_taken_up_where_it_broke(tmp_path) -> None:
    with fake_hub({"some/model": FILES}) as hub:
        hub.cut_after = 15_000_000
        done = run(tmp_path, hub.url, "pull", "some/model")
        assert done.returncode == 0, done.stderr
        folder = Path(done.stdout.strip().removeprefix("some/model: "))
        assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        pieces = [(first, size) for name, first, size in hub.sent if name == "model.safetensors"]
    assert pieces[0] == (0, 15_000_000)
    assert len(pieces) == 2
    assert 0 < pieces[1][0] <= 15_000_000, "it began anew"


REFUSED = {
    "meta-llama/Gated": "it is gated.*run hf auth login or set HF_TOKEN",
    "no/such": "does not have this model, or shows it only",
    "some/readme": "holds no weights",
}


def test_what_cannot_be_pulled_says_why_and_a_token_opens_a_gate(tmp_path) -> None:
    each = (
        "import sys; from abhinaya.models.cli import main; print([main(['pull', x]) for x in {}])"
    )
    models = {"meta-llama/Gated": FILES, "some/readme": {"README.md": b"soon"}}
    with fake_hub(models, frozenset({"meta-llama/Gated"})) as hub:
        done = run(tmp_path, hub.url, code=each.format([*REFUSED]))
        opened = run(tmp_path, hub.url, "pull", "meta-llama/Gated", HF_TOKEN="hf_test")
    assert done.stdout.strip() == "[6, 6, 6]"
    said = [line for line in done.stderr.splitlines() if line.startswith("abhinaya models: ")]
    for line, message in zip(said, REFUSED.values(), strict=True):
        assert re.search(message, line), done.stderr
    assert "Traceback" not in done.stderr
    assert opened.returncode == 0, opened.stderr


def test_no_room_for_a_download(tmp_path) -> None:
    """The system call that writes says so; everything above it is the Hub's own client."""
    full = (
        "import errno, huggingface_hub.file_download as f\n"
        "def http_get(*_, **__): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "f.http_get = http_get\n"
    )
    with fake_hub({"some/model": FILES}) as hub:
        done = run(tmp_path, hub.url, "pull", "some/model", code=full + CODE)
    assert done.returncode == 6
    last = done.stderr.splitlines()[-1]
    assert "some/model: the disk is full; make room, or set HF_HOME" in last, done.stderr
    assert "Traceback" not in done.stderr


def test_a_pinned_revision_is_what_is_asked_for(tmp_path) -> None:
    pinned = f"some/model@{SHA}"
    with fake_hub({"some/model": FILES}) as hub:
        done = run(tmp_path, hub.url, "pull", pinned)
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip().removeprefix(f"{pinned}: ")).name == SHA
        assert {path for path in hub.asked if "main" in path} == set()
    gone = run(tmp_path, hub.url, "pull", pinned)
    assert (gone.returncode, gone.stdout) == (0, done.stdout), "without the Hub, from the cache"


def test_no_network(tmp_path) -> None:
    with silent_port() as port:
        done = run(tmp_path, f"http://127.0.0.1:{port}", "pull", "some/model")
    assert done.returncode == 6
    assert "check the name and the network" in done.stderr.splitlines()[-1]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache as the Hub's client writes it, with the files given."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def build(**files: str) -> None:
        folder = tmp_path / "models--some--model"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text("abc")
        (folder / "snapshots" / "abc").mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / "snapshots" / "abc" / name.replace("__", ".")).write_text(content)

    return build


def test_only_a_whole_download_is_here(cache) -> None:
    assert cached("some/model") is None
    cache(config__json="{}")
    assert cached("some/model") is None
    index = '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    cache(model__safetensors__index__json=index)
    cache(**{"1.safetensors": "x"})
    assert cached("some/model") is None
    cache(**{"2.safetensors": "x"})
    found = cached("some/model")
    assert found is not None
    assert found.name == "abc"
