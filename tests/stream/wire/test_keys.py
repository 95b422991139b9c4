"""Files of keys: who may read them, what they say, and what a hub makes of their changes."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.guard import Admissions
from abhinaya.stream.wire.keys import Key, Keys, make_keys, read_pair, read_public


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory of a hub that admits alice as an input."""
    make_keys(tmp_path / "hub", "hub")
    make_keys(tmp_path / "clients", "alice", "input")
    make_keys(tmp_path / "clients", "bob", "node")
    shutil.copy(tmp_path / "clients" / "alice.key", tmp_path / "hub")
    shutil.copy(tmp_path / "hub" / "hub.key", tmp_path / "clients")
    return tmp_path / "hub"


@pytest.fixture
def bob(folder: Path) -> Path:
    return folder.parent / "clients" / "bob.key"


# --- making ---------------------------------------------------------------------------------------


def test_key_files_are_for_their_owner_only(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_keys_are_not_overwritten(folder: Path) -> None:
    before = (folder / "hub.key_secret").read_bytes()
    with pytest.raises(NetworkError, match="has keys for 'hub' already"):
        make_keys(folder, "hub")
    assert (folder / "hub.key_secret").read_bytes() == before


def test_a_role_is_given_to_the_hubs_copy_of_a_key(folder: Path) -> None:
    before = read_public(folder / "alice.key")
    assert before.role == "input"
    assert not make_keys(folder, "alice", "operator")
    assert read_public(folder / "alice.key") == Key("alice", "operator", before.public)
    assert not (folder / "alice.key_secret").exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 65, "a\n", "naïve", "a b"])
def test_a_name_that_is_not_a_plain_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NetworkError, match="not a name of a key"):
        make_keys(tmp_path / "keys", name, "node")
    assert not (tmp_path / "keys").exists()


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_secret_key_that_others_can_reach_is_refused(folder: Path, mode: int) -> None:
    secret = folder / "hub.key_secret"
    secret.chmod(mode)
    with pytest.raises(NetworkError, match="can be read by others") as error:
        read_pair(Keys(folder, "hub"))
    assert error.value.remedy == f"`chmod 600 {secret}`"
    secret.chmod(0o400)
    assert read_pair(Keys(folder, "hub"))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_can_write_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    actions: list[Callable[[], object]] = [
        lambda: read_pair(Keys(folder, "hub")),
        lambda: Admissions(folder),
        lambda: make_keys(folder, "carol", "node"),
    ]
    for action in actions:
        with pytest.raises(NetworkError, match="can be written by others") as error:
            action()
        assert f"chmod go-w {folder}" in error.value.remedy
    folder.chmod(0o755)  # public keys may be seen
    assert read_pair(Keys(folder, "hub"))


@pytest.mark.parametrize("mode", [0o666, 0o660, 0o602])
def test_a_public_key_that_others_can_change_is_refused(folder: Path, mode: int) -> None:
    (folder / "alice.key").chmod(mode)
    with pytest.raises(NetworkError, match="can be changed by others"):
        read_public(folder / "alice.key")
    (folder / "alice.key").chmod(0o644)
    assert read_public(folder / "alice.key").role == "input"


def test_the_only_client_of_a_directory_needs_no_name(folder: Path) -> None:
    clients = folder.parent / "clients"
    with pytest.raises(NetworkError, match="has the keys alice, bob") as error:
        read_pair(Keys(clients, ""))
    assert "--key-name" in error.value.remedy
    (clients / "bob.key_secret").unlink()
    assert read_pair(Keys(clients, "")) == read_pair(Keys(clients, "alice"))
    with pytest.raises(NetworkError, match=r"has no NAME\.key_secret"):
        read_pair(Keys(folder, ""))


@pytest.mark.parametrize(
    "text",
    ["", "\0\1", 'curve\n    public-key = "short"\n', "public-key", "#public-key = x", "\xff" * 99],
)
def test_a_damaged_key_is_named(folder: Path, text: str) -> None:
    for name, read in (("alice.key", read_public), ("hub.key_secret", _read_hub)):
        (folder / name).write_bytes(text.encode("latin-1"))
        with pytest.raises(NetworkError) as error:
            read(folder / name)
        assert error.value.subject == str(folder / name)
        assert error.value.remedy


def _read_hub(path: Path) -> object:
    return read_pair(Keys(path.parent, "hub"))


# --- while the hub runs ---------------------------------------------------------------------------


def look(admissions: Admissions, now: float) -> float:
    """Look as often as it takes until a change counts; return the time after it."""
    for _ in range(3):
        now += 1.0
        admissions.look(now)
    return now


def names(admissions: Admissions, *paths: Path) -> list[str]:
    """The roles of those of the keys that are admitted."""
    found = (admissions.get(read_public(path).public) for path in paths)
    return [f"{key.name}:{key.role}" for key in found if key]


def test_keys_come_and_go_without_a_restart(folder: Path, bob: Path) -> None:
    admissions, alice = Admissions(folder), bob.with_name("alice.key")
    assert names(admissions, alice, bob) == ["alice:input"]
    shutil.copy(bob, folder)
    now = look(admissions, 0.0)
    assert names(admissions, alice, bob) == ["alice:input", "bob:node"]
    (folder / "alice.key").unlink()
    now = look(admissions, now)
    assert names(admissions, alice, bob) == ["bob:node"]
    make_keys(folder, "bob", "reader")
    look(admissions, now)
    assert names(admissions, bob) == ["bob:reader"]


def test_the_hubs_own_key_admits_nobody(folder: Path) -> None:
    assert Admissions(folder).get(read_public(folder / "hub.key").public) is None


def test_a_file_that_is_being_written_is_not_taken_half(folder: Path, bob: Path) -> None:
    admissions, alice = Admissions(folder), folder / "alice.key"
    whole = alice.read_bytes()
    admissions.look(1.0)
    alice.write_bytes(whole[:30])
    admissions.look(2.0)
    assert names(admissions, bob.with_name("alice.key")) == ["alice:input"]
    alice.write_bytes(whole)
    admissions.look(3.0)
    admissions.look(4.0)
    assert names(admissions, bob.with_name("alice.key")) == ["alice:input"]


def _damage(path: Path) -> None:
    path.write_text("damaged", "utf-8")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _open_to_all(path: Path) -> None:
    make_keys(path.parent, path.stem, "operator")
    path.chmod(0o666)


@pytest.mark.parametrize("damage", [_damage, _pipe, _loop, _nowhere, Path.mkdir, _open_to_all])
def test_a_bad_file_admits_nobody_and_keeps_nobody_else_out(
    folder: Path, bob: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    admissions = Admissions(folder)
    damage(folder / "mallory.key")
    now = look(admissions, 0.0)
    shutil.copy(bob, folder)
    now = look(admissions, now)
    assert names(admissions, bob.with_name("alice.key"), bob) == ["alice:input", "bob:node"]
    (folder / "alice.key").unlink()
    look(admissions, now)
    assert names(admissions, bob.with_name("alice.key"), bob) == ["bob:node"]
    if damage is _open_to_all:
        (folder / "mallory.key").chmod(0o600)
        assert names(admissions, folder / "mallory.key") == []
    if (folder / "mallory.key").exists():
        assert "mallory.key" in caplog.text


def test_a_file_that_changes_all_the_time_does_not_hold_up_the_others(
    folder: Path, bob: Path
) -> None:
    admissions = Admissions(folder)
    (folder / "alice.key").unlink()
    for now in range(1, 6):
        (folder / "busy.key").write_text("x" * now, "utf-8")
        admissions.look(float(now))
    assert names(admissions, bob.with_name("alice.key")) == []


def test_in_a_directory_that_others_can_write_no_new_key_counts_but_removal_does(
    folder: Path, bob: Path
) -> None:
    admissions = Admissions(folder)
    folder.chmod(0o777)
    shutil.copy(bob, folder)
    now = look(admissions, 0.0)
    assert names(admissions, bob.with_name("alice.key"), bob) == ["alice:input"]
    (folder / "alice.key").unlink()
    look(admissions, now)
    assert names(admissions, bob.with_name("alice.key"), bob) == []


def test_a_directory_that_cannot_be_read_for_a_while_changes_nothing(
    folder: Path, bob: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    admissions = Admissions(folder)

    def no_descriptor_left(_: Path) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", no_descriptor_left)
        now = look(admissions, 0.0)
    assert names(admissions, bob.with_name("alice.key")) == ["alice:input"]
    assert caplog.text.count("Too many open files") == 1
    shutil.rmtree(folder)
    look(admissions, now)
    assert names(admissions, bob.with_name("alice.key")) == []


def test_a_key_without_a_role_and_a_second_name_of_a_key_are_named(
    folder: Path, bob: Path, caplog: pytest.LogCaptureFixture
) -> None:
    public = read_public(bob).public
    (folder / "bob.key").write_text(f'curve\n    public-key = "{public}"\n', "utf-8")
    (folder / "carol.key").write_text(f'role = "operator"\npublic-key = "{public}"\n', "utf-8")
    with caplog.at_level(logging.WARNING):
        admissions = Admissions(folder)
    assert admissions.get(public) == Key("bob", "", public)
    assert "keys" in caplog.text
    assert f"abhinaya keys {folder} bob --role" in caplog.text
    assert "carol.key is ignored: bob.key is the same key" in caplog.text
