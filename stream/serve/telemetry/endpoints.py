"""The routes for operators: `/metrics`, `/healthz`, `/readyz`.

Health needs no token, since an orchestrator has none; but what is missing is only for readers and
for this machine.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.errors import answer
from abhinaya.stream.serve.limits import PROXIED
from abhinaya.stream.wire.sockets import is_loopback

NO_STORE: Final = {"Cache-Control": "no-store"}
PROBES: Final = ("/healthz", "/readyz")
REFUSALS: Final = re.compile(r"[45]\d\d$|1003|1007|1008|1009|1011|1013|4\d\d\d$")
"""Statuses of HTTP, close codes of WebSockets."""
_HOST: Final = re.compile(r"\[?([^\[\]]+?)\]?(?::\d*)?")


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes for operators."""

    async def metrics(request: Request) -> Response:
        if not is_local(request):
            gateway.access.identify(request, "reader")
        headers = NO_STORE | {"Content-Type": CONTENT_TYPE_LATEST}
        return Response(gateway.metrics.text(), headers=headers)

    async def healthz(request: Request) -> Response:
        return told(request, [fault] if (fault := gateway.health.stuck()) else [], [])

    async def readyz(request: Request) -> Response:
        return told(request, gateway.health.missing(), gateway.health.degraded())

    def told(request: Request, missing: list[str], degraded: list[str]) -> Response:
        body: dict[str, object] = {"status": "not ready" if missing else "ok"}
        if (missing or degraded) and (is_local(request) or gateway.access.reads(request)):
            body |= {"missing": missing} if missing else {"degraded": degraded}
        return answer(body, 503 if missing else 200, NO_STORE)

    paths = {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz}
    return [Route(path, handler, include_in_schema=False) for path, handler in paths.items()]


class CountsRefusals:
    """Counts the requests that are refused, by status, and WebSockets, by close code.

    Args:
        app: the application behind it.
        refused: the counts.

    """

    def __init__(self, app: ASGIApp, refused: Counter[str]) -> None:
        self._app = app
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and look at the answer."""

        async def seen(message: Message) -> None:
            code = message.get("status") or message.get("code") or 0
            if REFUSALS.match(str(code)) and scope["path"] not in PROBES:
                self._refused[str(code)] += 1
            await send(message)

        await self._app(scope, receive, seen)


def is_local(request: Request) -> bool:
    """Return whether a program on this machine asks.

    A page that a browser shows could use a name that leads here: its `Host` is not ours then.
    """
    if request.scope.get(PROXIED) or request.client is None:
        return False
    host = _HOST.fullmatch(request.headers.get("host", ""))
    return is_loopback(request.client.host) and host is not None and is_loopback(host[1])
