"""Log in and out in a browser: for a token it gets a cookie that scripts cannot read."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute

from abhinaya.stream.serve.access import COOKIE
from abhinaya.stream.serve.api.endpoint import Ask, Endpoint, Operation
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.errors import answer


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a browser sends once."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Session(msgspec.Struct, frozen=True):
    """Who is logged in."""

    name: str
    role: str


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes of the session."""
    access = gateway.access

    async def who(ask: Ask) -> Session:
        return Session(ask.who.name, ask.who.role)

    async def log_in(ask: Ask) -> Response:
        found, cookie = access.log_in(ask.request, ask.body.token)
        made = answer(Session(found.name, found.role))
        made.set_cookie(
            COOKIE,
            cookie,
            max_age=round(3600 * gateway.config.session_h),
            httponly=True,
            samesite="strict",
            secure=ask.request.url.scheme == "https",
        )
        return made

    async def log_out(ask: Ask) -> Response:
        access.log_out(ask.request)
        made = Response(status_code=204)
        made.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return made

    path = "/v1/session"
    return [
        Endpoint("GET", path, access, Operation("Say who is logged in", answer=Session), who),
        Endpoint(
            "POST",
            path,
            access,
            Operation(
                "Log in: get a cookie for a token",
                "",
                body=Login,
                answer=Session,
                refusals=(401, 403),
            ),
            log_in,
        ),
        Endpoint(
            "DELETE", path, access, Operation("Log out", "", status=204, refusals=(403,)), log_out
        ),
    ]
