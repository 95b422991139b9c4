"""Who may do what: roles, and the sessions of browsers."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from starlette.requests import HTTPConnection

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SinkError
from abhinaya.stream.serve.audit import Audit
from abhinaya.stream.serve.errors import ApiError
from abhinaya.stream.serve.limits import Rates
from abhinaya.stream.serve.tokens import Principal, Tokens, digest

COOKIE: Final = "abhinaya_session"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_SESSIONS: Final = 1000
SUBPROTOCOL: Final = "token"
_REMEDY: Final = "send `Authorization: Bearer TOKEN`; the file `token` of the data folder has one"


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
        self.clock = time.monotonic
        self._each, self._all = Rates(1 / 60, 1), Rates(1, 60)
        """How many refusals of a client, and of all, get an entry."""
        self._unnoted = 0
        """Refusals without an entry since the last one."""

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
        self.note(found.name, connection)
        return found

    def note(self, who: str, connection: HTTPConnection) -> None:
        """Make the entry of an access, before it happens.

        Raises:
            ApiError: 503, it cannot be logged and must be.

        """
        self.log(who, _method(connection), _asked(connection))

    def log(self, who: str, what: str, subject: str) -> None:
        """Make any entry in the audit log.

        Raises:
            ApiError: 503, it cannot be logged and must be.

        """
        try:
            self._audit.write(who, what, subject)
        except SinkError as error:
            raise ApiError(503, "audit", "the access cannot be logged", error.remedy) from error

    def identify(self, connection: HTTPConnection, role: str) -> Principal:
        """Return who calls, like `require`, for what is not worth an entry: it shows nobody's data.

        Raises:
            ApiError: as `require`. A refusal gets an entry.

        """
        found = None
        with self._refusing(connection, lambda: found):
            found = self._caller(connection)
            if not found.may(role):
                message = f"{found.name} has the role {found.role}, and this needs {role}"
                raise ApiError(403, "forbidden", message, "use a token with that role")
        return found

    def reads(self, connection: HTTPConnection) -> bool:
        """Return whether the caller may read; nobody needs to know who asks."""
        try:
            return self._caller(connection).may("reader")
        except ApiError:
            return False

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

    def log_in(self, connection: HTTPConnection, token: str) -> tuple[Principal, str]:
        """Return the owner of a token, and the cookie of a new session.

        Raises:
            ApiError: the token is unknown or has expired, or the page is of another site.

        """
        with self._refusing(connection):
            check_origin(connection, needed=False)
            found = self.by_token(token)
        cookie = secrets.token_urlsafe(32)
        self._sessions[digest(cookie)] = found, unix_time() + self._session_s
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return found, cookie

    def log_out(self, connection: HTTPConnection) -> None:
        """End the session of a browser.

        Raises:
            ApiError: the page is of another site.

        """
        with self._refusing(connection):
            check_origin(connection, needed=False)
        self._sessions.pop(digest(connection.cookies.get(COOKIE, "")), None)

    @contextmanager
    def _refusing(
        self, connection: HTTPConnection, who: Callable[[], Principal | None] = lambda: None
    ) -> Iterator[None]:
        """Make an entry if the block refuses: one a minute for each client, so that the log lasts.

        The query is not in it: somebody may have put a token there.
        """
        try:
            yield
        except ApiError as error:
            now, client = self.clock(), connection.client.host if connection.client else ""
            if self._each.take(now, client) or self._all.take(now, ""):
                self._unnoted += 1
            else:
                more = f", {self._unnoted} more before" if self._unnoted else ""
                name, path = (p.name if (p := who()) else "unknown"), connection.scope["path"]
                subject = f"{path}: {error.status} {error.code}, from {client}{more}"
                with suppress(SinkError):  # it is refused in any case
                    self._audit.write(name, _method(connection), subject)
                self._unnoted = 0
            raise

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


def _method(connection: HTTPConnection) -> str:
    return str(connection.scope.get("method", "WS"))


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
