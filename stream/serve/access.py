"""Who may do what: tokens, roles, and the sessions of browsers.

The folder of the data has the token of the administrator (`token`, made at the first start) and one
file for each further person in `tokens/`, with the digest of the token, its role and its end. A
deleted file takes effect within a second. Tokens themselves are only in `token` and in the hands of
their owners.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import HTTPConnection

from abhinaya.models.errors import near_miss
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import ConfigError, SinkError
from abhinaya.stream.serve.audit import Audit
from abhinaya.stream.serve.errors import ApiError

_LOG = logging.getLogger("abhinaya.serve")

ROLES: Final = ("reader", "ingest", "admin")
"""Each may also do what the ones before it may: read; send audio and files; everything."""
COOKIE: Final = "abhinaya_session"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OWNER: Final = "owner"
"""Name of the person who has the token of the first start."""
REREAD_S: Final = 1.0
MAX_SESSIONS: Final = 1000
SUBPROTOCOL: Final = "token"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_DAY_S: Final = 86_400.0
_REMEDY: Final = "send `Authorization: Bearer TOKEN`; the file `token` of the data folder has one"


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


class Access:
    """Decides who a caller is, and whether that is enough.

    Args:
        tokens: the tokens.
        session_s: seconds after which a browser must log in again.
        audit: gets an entry for each access.

    """

    def __init__(self, tokens: Tokens, session_s: float, audit: Audit) -> None:
        self.tokens = tokens
        self._audit = audit
        self._session_s = session_s
        self._sessions: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        """Digest of the cookie -> its owner and end."""

    def require(self, connection: HTTPConnection, role: str) -> Principal:
        """Return who calls.

        A program sends `Authorization: Bearer TOKEN` (or `Token TOKEN`), or on a WebSocket the
        subprotocols `token, TOKEN`. A browser has a cookie; then `Origin` must be our own, on a
        WebSocket and for each request that changes something.

        Raises:
            ApiError: 401 without a valid token, 403 without the role or from a foreign page, 503 if
                the access cannot be logged and must be.

        """
        found = self.identify(connection, role)
        try:
            self._audit.write(found.name, connection.scope.get("method", "WS"), _asked(connection))
        except SinkError as error:
            raise ApiError(503, "audit", "the access cannot be logged", error.remedy) from error
        return found

    def identify(self, connection: HTTPConnection, role: str) -> Principal:
        """Return who calls, like `require`, for what is not worth an entry: it shows nobody's data.

        Raises:
            ApiError: as `require`.

        """
        found = self._caller(connection)
        if not found.may(role):
            message = f"{found.name} has the role {found.role}, and this needs {role}"
            raise ApiError(403, "forbidden", message, "use a token with that role")
        return found

    def is_valid(self, principal: Principal) -> bool:
        """Return whether the token or the session of a long connection still holds."""
        if principal.session:
            return self._of_session(principal.session) is not None
        return self.tokens.holds(principal)

    def by_token(self, token: str) -> Principal:
        """Return the owner of a token.

        Raises:
            ApiError: the token is unknown or has expired.

        """
        found = self.tokens.find(token)
        if found is None:
            raise _unauthorized("the token is unknown")
        if unix_time() >= found.until:
            raise _unauthorized("the token has expired")
        return found

    def log_in(self, token: str) -> tuple[Principal, str]:
        """Return the owner of a token, and the cookie of a new session.

        Raises:
            ApiError: the token is unknown or has expired.

        """
        found, cookie = self.by_token(token), secrets.token_urlsafe(32)
        self._sessions[digest(cookie)] = found, unix_time() + self._session_s
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return found, cookie

    def log_out(self, connection: HTTPConnection) -> None:
        """End the session of a browser."""
        self._sessions.pop(digest(connection.cookies.get(COOKIE, "")), None)

    def _caller(self, connection: HTTPConnection) -> Principal:
        token = _shown(connection)
        if token is not None:
            return self.by_token(token)
        cookie = connection.cookies.get(COOKIE, "")
        if not cookie:
            raise _unauthorized("the token is missing")
        is_socket = connection.scope["type"] == "websocket"
        if is_socket or connection.scope["method"] not in SAFE:
            check_origin(connection, needed=is_socket)
        found = self._of_session(session := digest(cookie))
        if found is None:
            raise _unauthorized("the session is over")
        return replace(found, session=session)

    def _of_session(self, session: str) -> Principal | None:
        found, until = self._sessions.get(session, (None, 0.0))
        holds = found is not None and unix_time() < until and self.tokens.holds(found)
        return found if holds else None


def check_origin(connection: HTTPConnection, *, needed: bool) -> None:
    """Refuse what a page of another site sends.

    Raises:
        ApiError: `Origin` is not ours, or missing where it is needed.

    """
    origin = connection.headers.get("origin")
    if origin is None and not needed:
        return
    host = connection.headers.get("host", "")
    secure = connection.scope["scheme"] in ("https", "wss")
    if origin is None or origin != f"{'https' if secure else 'http'}://{host}":
        message = "the request comes from a page of another site"
        raise ApiError(403, "origin", message, "open the console at the address of the gateway")


def _asked(connection: HTTPConnection) -> str:
    """Return what a caller wants, for the audit log."""
    query = connection.scope.get("query_string", b"").decode("ascii", "replace")
    return f"{connection.scope['path']}?{query}" if query else str(connection.scope["path"])


def _shown(connection: HTTPConnection) -> str | None:
    """Return the token that a program sends; None without one."""
    header = connection.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        return token.strip() if scheme.lower() in ("bearer", "token") else ""
    offered: list[str] = connection.scope.get("subprotocols") or []
    if len(offered) > 1 and offered[0] == SUBPROTOCOL:
        return offered[1]
    return None


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, "unauthorized", message, _REMEDY, {"WWW-Authenticate": "Bearer"})
