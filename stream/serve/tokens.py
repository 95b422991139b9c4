"""The tokens in the data folder, and who has them.

The folder has the token of the administrator (`token`, made at the first start) and one file for
each further person in `tokens/`, with the digest of the token, its role and its end. A deleted file
takes effect within a second. Tokens themselves are only in `token` and in the hands of their
owners.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from abhinaya.models.errors import near_miss
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import ConfigError, SinkError

_LOG = logging.getLogger("abhinaya.serve")

ROLES: Final = ("reader", "ingest", "admin")
"""Each may also do what the ones before it may: read; send audio and files; everything."""
OWNER: Final = "owner"
"""Name of the person who has the token of the first start."""
REREAD_S: Final = 1.0
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who has shown a token."""

    name: str
    role: str
    digest: str = ""
    """Of the token."""
    until: float = float("inf")
    """When it expires, in Unix seconds."""
    session: str = ""
    """Digest of the cookie, if a browser shows one."""

    def may(self, role: str) -> bool:
        """Return whether this person has the rights of a role."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of one token."""

    role: str
    sha256: str
    expires_unix_s: float


class Tokens:
    """The tokens in a folder.

    Raises:
        SinkError: the folder cannot be written.
        ConfigError: a file is damaged.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tokens"
        self.own = folder / "token"
        self._known: dict[str, Principal] = {}
        self._read_at = -REREAD_S
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if not self.own.exists() or not self.own.stat().st_size:
                write_private(self.own, f"{new_token()}\n".encode())
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise SinkError(str(folder), reason, "choose another folder with --data") from error

    def find(self, token: str) -> Principal | None:
        """Return the owner of a token, also of one that has expired."""
        if time.monotonic() - self._read_at > REREAD_S:
            self.reread()
        return self._known.get(digest(token))

    def holds(self, principal: Principal) -> bool:
        """Return whether a token that was shown before is still valid."""
        if time.monotonic() - self._read_at > REREAD_S:
            self.reread()
        return self._known.get(principal.digest) == principal and unix_time() < principal.until

    def reread(self) -> None:
        """Read all files again. A damaged one is skipped: its token is unknown."""
        known = {p.digest: p for path in self._folder.glob("*.json") if (p := _read(path))}
        try:
            own = self.own.read_text("utf-8").strip()
            if own:  # an empty token would let everybody in
                known[digest(own)] = Principal(OWNER, "admin", digest(own))
        except (OSError, UnicodeDecodeError) as error:
            _LOG.warning("%s cannot be read: %s", self.own, type(error).__name__)
        self._known, self._read_at = known, time.monotonic()

    def add(self, name: str, role: str, days: float) -> str:
        """Return a new token for a person; an older one of the same name ends.

        Raises:
            ConfigError: the name cannot be used.
            SinkError: the file cannot be written.

        """
        path, token = self._path(name), new_token()
        record = Record(role, digest(token), round(unix_time() + days * _DAY_S))
        try:
            write_private(path, msgspec.json.encode(record))
        except OSError as error:
            raise SinkError(str(path), f"cannot be written: {error.strerror}") from error
        return token

    def revoke(self, name: str) -> None:
        """Make the token of a person useless.

        Raises:
            ConfigError: nobody of this name has one.

        """
        path = self._path(name)
        if not path.exists():
            known = [path.stem for path in self._folder.glob("*.json")]
            raise ConfigError(f"token {name!r}", "unknown", near_miss(name, known))
        path.unlink()

    def all(self) -> list[Principal]:
        """Return the owners of the tokens in the folder."""
        self.reread()
        return sorted(self._known.values(), key=lambda p: p.name)

    def _path(self, name: str) -> Path:
        if name == OWNER:
            remedy = f"delete {self.own} and start `abhinaya serve` again for a new one"
            raise ConfigError(repr(name), "is the token of the first start", remedy)
        if not _NAME.fullmatch(name):
            reason = "cannot name a token"
            raise ConfigError(repr(name), reason, "use small letters, digits, `.`, `_` and `-`")
        return self._folder / f"{name}.json"


def _read(path: Path) -> Principal | None:
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
        if record.role not in ROLES:
            raise ValueError(record.role)
    except (OSError, ValueError) as error:
        _LOG.warning("%s is not the file of a token: %s", path, type(error).__name__)
        return None
    return Principal(path.stem, record.role, record.sha256, record.expires_unix_s)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; it is never there in part."""
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def new_token() -> str:
    """Return a new secret."""
    return f"abh_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> str:
    """Return the digest of a secret; secrets of 256 random bits need no salt."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
