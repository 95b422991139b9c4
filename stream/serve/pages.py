"""Serves the console. Its files need no token: they hold no data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.sinks.palette import COLOURS, LETTERS

FILES: Final = Path(__file__).parent / "console"

HEADERS: Final = {
    # Trusted types: the browser itself refuses text that a script would insert as HTML.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class WithHeaders:
    """Adds HEADERS to every answer of an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and the answer back."""
        ours = scope.get("path") == "/" or scope.get("path", "").startswith("/console/")
        caching = "no-cache" if ours else "no-store"  # what was said is in no browser's cache

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", caching)
            await send(message)

        await self._app(scope, receive, with_headers)


def routes() -> list[BaseRoute]:
    """Return the routes of the console: `/` and what lies under `/console`.

    The application puts `WithHeaders` around all its routes.
    """
    return [
        Route("/", _index),
        Route("/console/palette.css", _palette_css),
        Route("/console/palette.js", _palette_js),
        Mount("/console", StaticFiles(directory=FILES)),
    ]


async def _index(_: Request) -> Response:
    return FileResponse(FILES / "index.html")


async def _palette_css(_: Request) -> Response:
    return Response(palette_css(), media_type="text/css")


async def _palette_js(_: Request) -> Response:
    return Response(palette_js(), media_type="text/javascript")


def palette_css() -> str:
    """Return a class for each label: its colour `--c`, and `--on` to write on it."""
    return "".join(
        f".e-{label} {{ --c: {colour}; --on: {readable_on(colour)} }}\n"
        for label, colour in COLOURS.items()
    )


def palette_js() -> str:
    """Return the labels, their colours and their letters as a module."""
    values = {"LABELS": LABELS, "UNKNOWN": UNKNOWN, "COLOURS": COLOURS, "LETTERS": LETTERS}
    return "".join(f"export const {name} = {json.dumps(v)};\n" for name, v in values.items())


def readable_on(colour: str) -> str:
    """Return black or white, whichever has more contrast on a colour (WCAG 2)."""

    def linear(value: int) -> float:
        share = value / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(value) for value in bytes.fromhex(colour[1:]))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#fff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000"
