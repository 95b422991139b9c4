"""The streams: all that are open or were lately, one of them, and its events."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute

from abhinaya.stream.serve.api.endpoint import Ask, Endpoint, Limit, Number, Operation, not_found
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.rows import Row


class Streams(msgspec.Struct, frozen=True):
    """Streams of the wall."""

    streams: list[Row]


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"after": "from"}):
    """A part of the events of a stream."""

    after: Number = 0
    """The number after which to begin."""
    limit: Limit = 500
    """Most events of an answer."""


class Events(msgspec.Struct, frozen=True):
    """Events in the form of docs/events.md, with `number` and `stream_id`."""

    events: list[dict[str, Any]]
    next: int
    """Begin the next request here; the same number again: nothing more is stored yet."""


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes of streams."""

    async def listed(_: Ask) -> Streams:
        return Streams(gateway.board.rows())

    async def one(ask: Ask) -> Row:
        row = await asyncio.to_thread(gateway.board.row, ask.id)
        if row is None:
            raise not_found(f"stream {ask.id}")
        return row

    async def events(ask: Ask) -> Response:
        page: Page = ask.query
        found = await asyncio.to_thread(gateway.store.events, page.after, ask.id, page.limit)
        last = found[-1][0] if found else page.after
        bodies = b",".join(body for _, _, body in found)
        return Response(
            b'{"events":[%s],"next":%d}' % (bodies, last), media_type="application/json"
        )

    access = gateway.access
    return [
        Endpoint(
            "GET",
            "/v1/streams",
            access,
            Operation("List the streams that are open or have ended lately", answer=Streams),
            listed,
        ),
        Endpoint(
            "GET",
            "/v1/streams/{id:int}",
            access,
            Operation("Show a stream, open or past", answer=Row, refusals=(404,)),
            one,
        ),
        Endpoint(
            "GET",
            "/v1/streams/{id:int}/events",
            access,
            Operation("Read the stored events of a stream", query=Page, answer=Events),
            events,
        ),
    ]
