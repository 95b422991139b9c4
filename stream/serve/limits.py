"""Limits of the web server: requests a second, length of a body, and who may connect at all."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from abhinaya.stream.serve.errors import ApiError, failure, refuse
from abhinaya.stream.settings.serve import ServeConfig

MAX_CLIENTS: Final = 20_000
"""Clients whose requests are counted; the one that was quiet longest is forgotten."""
UPLOADS: Final = frozenset({"/v1/files", "/v1/audio/transcriptions"})
"""Paths that may get a long body."""
PROXIED: Final = "abhinaya.proxied"
"""Key of a scope: the request came through the proxy, so its sender may be anybody."""


@dataclass(slots=True)
class Rates:
    """Counts what each client does; a bucket that fills again with time. Pure.

    Args:
        per_s: what a client may do a second, on average.
        at_once: what it may do in a moment.

    """

    per_s: float
    at_once: float
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    """Client -> what it may still do, and when that was so."""

    def take(self, now: float, client: str) -> float:
        """Count one action; return how many seconds the client must wait, 0 if it may go on."""
        left, at = self._left.pop(client, (self.at_once, now))
        left = min(self.at_once, left + (now - at) * self.per_s)
        wait_s = 0.0 if left >= 1 else (1 - left) / self.per_s
        self._left[client] = left if wait_s else left - 1, now
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        return wait_s


class Guard:
    """Refuses what the limits do not allow, before any route sees it.

    Args:
        app: the application behind it.
        config: the limits.

    """

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self._app = app
        self._config = config
        self._rates = Rates(config.requests_per_s, config.requests_at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        client = (scope.get("client") or ("",))[0]
        wait_s = self._rates.take(time.monotonic(), client)
        if wait_s:
            message = f"more than {self._config.requests_per_s:g} requests a second"
            headers = {"Retry-After": str(int(wait_s) + 1)}
            await _refuse(
                ApiError(429, "too_many", message, "send fewer", headers), scope, receive, send
            )
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        long = scope["path"] in UPLOADS
        most = self._config.upload_mb * 1_000_000 if long else self._config.body_kb * 1000
        error = ApiError(413, "too_long", f"the body is longer than {most} bytes", "send less")
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            await _refuse(error, scope, receive, send)
            return
        got, whole, until = 0, False, time.monotonic() + self._config.idle_s

        async def counted() -> Message:
            nonlocal got, whole
            if whole:  # what comes now is only the end of the connection
                return await receive()
            now = time.monotonic()
            try:  # an upload may take its time, as long as it comes
                async with asyncio.timeout(self._config.idle_s if long else until - now):
                    message = await receive()
            except TimeoutError:
                raise self._slow() from None
            whole = not message.get("more_body", False)
            got += len(message.get("body", b""))
            if got > most:
                raise error
            return message

        await self._app(scope, counted, send)

    def _slow(self) -> ApiError:
        message = f"the body did not come within {self._config.idle_s:g} s"
        return ApiError(408, "too_slow", message, "send it again", {"Connection": "close"})


class Behind:
    """Lets only a named proxy connect.

    Args:
        app: the application behind it.
        peers: addresses of the proxy.

    """

    def __init__(self, app: ASGIApp, peers: Iterable[str]) -> None:
        self._app = app
        self._peers = frozenset(peers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request of the proxy on."""
        if (scope.get("client") or ("",))[0] in self._peers:
            scope[PROXIED] = True
            await self._app(scope, receive, send)
            return
        error = ApiError(403, "proxy", "only the named proxy may connect", "connect to the proxy")
        await _refuse(error, scope, receive, send)


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await refuse(WebSocket(scope, receive, send), error)
    else:
        await failure(error)(scope, receive, send)
