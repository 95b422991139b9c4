"""Alerts and who has seen them; what people say a segment was."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from starlette.routing import BaseRoute

from abhinaya.stream.serve.api.endpoint import Ask, Endpoint, Limit, Number, Operation, not_found
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.board import Item
from abhinaya.stream.serve.errors import ApiError
from abhinaya.stream.serve.store import queries
from abhinaya.stream.serve.store.queries import Filter

Emotion = Literal["angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"]


class WantedAlerts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page of alerts."""

    open: bool = False
    """Only those that nobody has acknowledged."""
    stream: Number | None = None
    limit: Limit = 100
    before: Number | None = None
    """`next` of the page before."""


class Alerts(msgspec.Struct, frozen=True):
    """Alerts, the newest first: the event, with `by` and `at` of the acknowledgement, or empty."""

    alerts: list[dict[str, Any]]
    next: int | None


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a segment was."""

    label: Emotion
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes of alerts and corrections."""
    store, access = gateway.store, gateway.access

    async def announce(number: int) -> dict[str, Any]:
        """Send a stored event to the live readers; return it."""
        ((_, stream, body),) = await asyncio.to_thread(store.events, number - 1, None, 1)
        gateway.board.send(Item(number, stream, body))
        event: dict[str, Any] = msgspec.json.decode(body)
        return event

    async def alerts(ask: Ask) -> dict[str, Any]:
        wanted: WantedAlerts = ask.query
        return await asyncio.to_thread(
            lambda: queries.alerts(
                store.file,
                Filter(stream=wanted.stream),
                wanted.limit,
                wanted.before,
                unseen=wanted.open,
            )
        )

    async def acknowledge(ask: Ask) -> dict[str, Any]:
        try:
            number = await asyncio.to_thread(store.acknowledge, ask.id, ask.who.name)
        except KeyError as error:
            raise not_found(f"alert {ask.id}") from error
        if number:
            await announce(number)
        page = await asyncio.to_thread(queries.alerts, store.file, Filter(), 1, ask.id + 1)
        alert: dict[str, Any] = page["alerts"][0]
        return alert

    async def correct(ask: Ask) -> dict[str, Any]:
        said: Correction = ask.body
        segment, who = int(ask.request.path_params["segment"]), ask.who
        try:
            number = await asyncio.to_thread(
                lambda: store.correct(
                    ask.id, segment, said.label, who.name, said.note, others=who.may("admin")
                )
            )
        except (KeyError, OverflowError) as error:
            raise not_found(f"segment {segment} of stream {ask.id}") from error
        except ValueError as error:
            remedy = "see docs/compliance.md"
            raise ApiError(409, "not_judged", f"the stream is {error}", remedy) from error
        except PermissionError as error:
            message = f"{error} has corrected this segment already"
            raise ApiError(409, "corrected", message, "ask them, or an administrator") from error
        return await announce(number)

    return [
        Endpoint(
            "GET",
            "/v1/alerts",
            access,
            Operation("List the alerts", query=WantedAlerts, answer=Alerts, refusals=(503,)),
            alerts,
        ),
        Endpoint(
            "POST",
            "/v1/alerts/{id:int}/acknowledge",
            access,
            Operation(
                "Say that you see to an alert; the first one counts",
                answer=dict[str, Any],
                refusals=(404, 503),
            ),
            acknowledge,
        ),
        Endpoint(
            "POST",
            "/v1/streams/{id:int}/segments/{segment:int}/correction",
            access,
            Operation(
                "Say what a segment was; only administrators overrule others",
                body=Correction,
                answer=dict[str, Any],
                refusals=(404, 409, 503),
            ),
            correct,
        ),
    ]
