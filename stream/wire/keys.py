"""CURVE keys: their files, who may read these, and the roles of clients.

A directory has NAME.key (public) and NAME.key_secret (private). The hub's own pair is `hub`. Each
other NAME.key in the hub's directory admits a client, with the rights of its role. The files are
ZeroMQ certificates; the role is metadata of the hub's copy: `role = "input"`.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq
from zmq.utils.z85 import Z85CHARS

from abhinaya.stream.errors import NetworkError

HUB: Final = "hub"
ROLES: Final = ("input", "node", "reader", "operator")
"""input: sends streams and records them; node: answers; reader: reads events; operator: all."""

LONGEST_FILE: Final = 16 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PRIVATE: Final = ".key_secret"


@dataclass(frozen=True, slots=True)
class Keys:
    """The key `name` of this process, in `directory`; an empty name is the only client there."""

    directory: Path
    name: str
    server: str = ""
    """Public key of the hub, as a map of cells says it; empty: that in `directory`/hub.key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A client of the hub."""

    name: str
    role: str
    """One of ROLES; any other text gives no rights."""
    public: str = ""


LOCAL: Final = Key("", "operator")
"""Whoever reaches a hub without keys: a process of the same user, or of the same machine."""


def make_keys(directory: Path, name: str, role: str = "") -> bool:
    """Write a key pair, or set the role of a key that exists; return whether the pair is new.

    Raises:
        NetworkError: the directory cannot be written, or the keys exist and no role is given.

    """
    if not _NAME.fullmatch(name):
        reason = "is not a name of a key"
        raise NetworkError(repr(name[:80]), reason, "use up to 64 letters, digits, '.', '_', '-'")
    public_file = directory / f"{name}.key"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_directory(directory)
        exists = public_file.exists() or public_file.with_suffix(_PRIVATE).exists()
        if exists and not (role and public_file.exists()):
            raise NetworkError(
                str(directory), f"has keys for {name!r} already", "delete them first"
            )
        if exists:
            _write(public_file, role, read_public(public_file).public)
            return False
        public, secret = (key.decode() for key in zmq.curve_keypair())
        _write(public_file.with_suffix(_PRIVATE), role, public, secret)
        _write(public_file, role, public)
    except OSError as error:
        raise NetworkError(str(directory), f"cannot hold keys: {error.strerror}") from error
    return True


def check_directory(directory: Path) -> None:
    """Refuse a directory of keys in which others can put files.

    Raises:
        NetworkError: it is writable by others, or not readable.

    """
    try:
        mode = directory.stat().st_mode
    except OSError as error:
        reason = f"is not a directory of keys: {error.strerror}"
        raise NetworkError(str(directory), reason, "see `abhinaya keys`") from error
    if mode & 0o022:
        raise NetworkError(
            str(directory), "can be written by others", f"`chmod go-w {directory}`; check its keys"
        )


def read_pair(keys: Keys) -> tuple[bytes, bytes]:
    """Return the public and the secret key of this process.

    Raises:
        NetworkError: the files are missing, damaged, or open to others.

    """
    check_directory(keys.directory)
    path = keys.directory / f"{keys.name or _only_client(keys.directory)}{_PRIVATE}"
    entries = _read(path, "see `abhinaya keys`", 0o077, "can be read by others", "600")
    public, secret = entries.get("public-key", ""), entries.get("secret-key", "")
    if not (_is_key(public) and _is_key(secret)):
        raise NetworkError(str(path), "is not a key pair", "see `abhinaya keys`")
    return public.encode(), secret.encode()


def read_server(keys: Keys) -> bytes:
    """Return the public key that the hub must have.

    Raises:
        NetworkError: hub.key is needed, and cannot be used.

    """
    return (keys.server or read_public(keys.directory / f"{HUB}.key").public).encode()


def read_public(path: Path, remedy: str = "copy it from the hub's machine") -> Key:
    """Return the key in a NAME.key, with its role.

    Raises:
        NetworkError: the file is missing, damaged, or can be changed by others.

    """
    entries = _read(path, remedy, 0o022, "can be changed by others", "go-w")
    public = entries.get("public-key", "")
    if not _is_key(public):
        raise NetworkError(str(path), "is not a public key", remedy)
    return Key(path.stem, entries.get("role", ""), public)


def _only_client(directory: Path) -> str:
    names = {path.stem for path in directory.glob(f"*{_PRIVATE}")} - {HUB}
    if len(names) == 1:
        return names.pop()
    has = f"has the keys {', '.join(sorted(names))}" if names else f"has no NAME{_PRIVATE}"
    raise NetworkError(str(directory), has, "choose one by --key-name" if names else "add it")


def _read(path: Path, remedy: str, mask: int, fault: str, mode: str) -> dict[str, str]:
    """Return the entries of a certificate whose mode has no bit of `mask`."""
    try:
        # a pipe under the name of a key must not stop the reader
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            facts = os.fstat(file.fileno())
            text = file.read(LONGEST_FILE) if stat.S_ISREG(facts.st_mode) else b""
    except OSError as error:
        raise NetworkError(str(path), f"cannot be read: {error.strerror}", remedy) from error
    if facts.st_mode & mask:
        raise NetworkError(str(path), fault, f"`chmod {mode} {path}`")
    lines = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    return {key.strip(): value.strip(" \t'\"") for key, _, value in lines if key.strip()[:1] != "#"}


def _write(path: Path, role: str, public: str, secret: str = "") -> None:
    lines = [
        f'metadata\n    role = "{role}"' if role else "",
        f'curve\n    public-key = "{public}"',
    ]
    lines += [f'    secret-key = "{secret}"'] if secret else []
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    unfinished.rename(path)


def _is_key(key: str) -> bool:
    return len(key) == 40 and set(key.encode()) <= set(Z85CHARS)
