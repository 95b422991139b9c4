"""A server with the console and generated events, for the scene that measures frames."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from abhinaya.models.labels import LABELS
from abhinaya.stream.serve import pages

WORDS = ("my ticket", "I would like", "nobody", "called me back", "since Friday", "change the date")


def verdict(chance: random.Random, stream: int, segment: int, number: int) -> dict[str, Any]:
    label = chance.choices(LABELS, (3, 1, 1, 1, 3, 12, 2, 1))[0]
    start = segment * 4.0
    votes = [
        {
            "voter": voter, "label": label, "model": f"tiny-{voter.lower()}", "version": "1",
            "probabilities": {each: 0.65 if each == label else 0.05 for each in LABELS},
            "queue_ms": 3.0, "run_ms": chance.uniform(20, 90), "batch_size": 2,
        }
        for voter in ("S1", "T2", "ST1")
    ]  # fmt: skip
    return {
        "schema": "abhinaya.event/1", "type": "verdict", "stream": name(stream),
        "stream_id": stream, "number": number, "segment": segment, "start_s": start,
        "end_s": start + 3.2, "wall_time": datetime.now(UTC).isoformat(), "label": label,
        "leading": label, "confidence": 0.65, "agreement": 1.0, "margin": 0.5, "revision": 0,
        "final": True, "part": 0, "reason": "", "refinement": None, "votes": votes, "missing": [],
        "transcript": {
            "text": " ".join(chance.sample(WORDS, 4)), "translation": "", "confidence": 0.9,
            "language": "en", "language_probability": None, "reason": "", "final": True,
            "stable_words": 9, "words": [],
        },
        "latency_ms": {"segment": 400.0, "asr": 180.0, "voters": 60.0, "emit": 4.0, "total": 644.0},
    }  # fmt: skip


def name(stream: int) -> str:
    return f"call-{stream // 2}/{('agent', 'customer')[stream % 2]}"


def events(streams: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Yield verdicts of all streams in turn, without end, numbered from 1."""
    chance = random.Random(seed)
    number = 0
    for segment in range(1_000_000):
        for stream in range(streams):
            number += 1
            yield verdict(chance, stream, segment, number)


def app(streams: int, rate: float) -> ASGIApp:
    """Return the server: `streams` rows, `rate` events a second on each connection."""

    async def snapshot(_: Request) -> JSONResponse:
        return JSONResponse({"streams": [{"id": n, "name": name(n)} for n in range(streams)]})

    async def nothing(_: Request) -> JSONResponse:
        return JSONResponse({"alerts": [], "nodes": [], "name": "test", "role": "reader"})

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        begun = time.monotonic()
        try:
            for sent, event in enumerate(events(streams)):
                await socket.send_text(json.dumps(event))
                await asyncio.sleep(max(0.0, begun + sent / rate - time.monotonic()))
        except WebSocketDisconnect:
            return

    app = Starlette(
        routes=[
            *pages.routes(),
            Route("/v1/session", nothing),
            Route("/v1/streams", snapshot),
            Route("/v1/alerts", nothing),
            Route("/v1/nodes", nothing),
            WebSocketRoute("/v1/events", live),
        ]
    )
    return pages.WithHeaders(app)


if __name__ == "__main__":
    uvicorn.run(
        app(int(sys.argv[2]), float(sys.argv[3])),
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", ws="websockets-sansio",
    )  # fmt: skip
