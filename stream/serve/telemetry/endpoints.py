"""The routes for operators: `/metrics`, `/healthz`, `/readyz`.

Health needs no token, since an orchestrator has none; but what is missing is only for readers and
for this machine.
"""

from __future__ import annotations

import re
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.errors import ApiError, answer
from abhinaya.stream.serve.limits import PROXIED
from abhinaya.stream.serve.server import is_loopback

NO_STORE: Final = {"Cache-Control": "no-store"}
_HOST: Final = re.compile(r"\[?([^\[\]]+?)\]?(?::\d*)?")


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes for operators."""

    async def metrics(request: Request) -> Response:
        if not is_local(request):
            gateway.access.require(request, "reader")
        headers = NO_STORE | {"Content-Type": CONTENT_TYPE_LATEST}
        return Response(gateway.metrics.text(), headers=headers)

    async def healthz(request: Request) -> Response:
        return told(request, [fault] if (fault := gateway.health.stuck()) else [])

    async def readyz(request: Request) -> Response:
        return told(request, gateway.health.missing())

    def told(request: Request, missing: list[str]) -> Response:
        body: dict[str, object] = {"status": "not ready" if missing else "ok"}
        if missing and (is_local(request) or reads(request)):
            body["missing"] = missing
        return answer(body, 503 if missing else 200, NO_STORE)

    def reads(request: Request) -> bool:
        try:
            gateway.access.require(request, "reader")
        except ApiError:
            return False
        return True

    paths = {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz}
    return [Route(path, handler, include_in_schema=False) for path, handler in paths.items()]


def is_local(request: Request) -> bool:
    """Return whether a program on this machine asks.

    A page that a browser shows could use a name that leads here: its `Host` is not ours then.
    """
    if request.scope.get(PROXIED) or request.client is None:
        return False
    host = _HOST.fullmatch(request.headers.get("host", ""))
    return is_loopback(request.client.host) and host is not None and is_loopback(host[1])
