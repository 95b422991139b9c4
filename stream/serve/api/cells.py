"""`GET /v1/cells`: the map of the cells, for programs that send their calls there themselves."""

from __future__ import annotations

import hashlib
from typing import Final

from starlette.responses import Response
from starlette.routing import BaseRoute

from abhinaya.stream.cells.map import CellMap, encode
from abhinaya.stream.serve.api.endpoint import Ask, Endpoint, Operation
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.errors import ApiError

CACHE: Final = "private, no-cache"
"""A copy may be kept, and is asked about before each use: `If-None-Match` makes that cheap."""


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the route of the map."""

    async def shown(ask: Ask) -> Response:
        if gateway.cells is None:
            remedy = "start it with `abhinaya serve --cells FILE`"
            raise ApiError(404, "no_cells", "this gateway has one hub and no map of cells", remedy)
        current = gateway.cells()
        data = encode(current)
        tag = f'"{current.epoch}-{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {"ETag": tag, "Cache-Control": CACHE}
        known = ask.request.headers.get("if-none-match", "")
        if tag in {one.strip().removeprefix("W/") for one in known.split(",")}:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type="application/json")

    summary = "Show the map of the cells; with If-None-Match, status 304 as long as it is the same"
    # programs ask every two seconds, and it shows nobody's data: the audit log stays readable
    operation = Operation(summary, answer=CellMap, refusals=(404,), logged=False)
    return [Endpoint("GET", "/v1/cells", gateway.access, operation, shown)]
