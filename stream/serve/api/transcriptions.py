"""`POST /v1/audio/transcriptions` in the form of OpenAI, with our verdicts in the field `verdicts`.

The published `openai` client works with it: `OpenAI(base_url="http://.../v1", api_key=TOKEN)`.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from abhinaya.stream.clock import to_samples
from abhinaya.stream.serve.api.endpoint import Ask, Endpoint, File, Operation
from abhinaya.stream.serve.api.files import is_form, keep, received
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.errors import ApiError, answer
from abhinaya.stream.sinks.export.cues import captions
from abhinaya.stream.sources.base import InputConfig

Format = Literal["json", "verbose_json", "text", "srt", "vtt"]


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What the client sends. Other fields of that API are accepted, and have no effect."""

    file: File
    model: str = ""
    """Any name: the profile of the gateway decides."""
    language: Annotated[str, msgspec.Meta(max_length=40)] = ""
    """That of the transcriber, if it has one; it cannot be set for one recording."""
    response_format: Format = "json"
    stream: bool = False
    """Must be false: the answer comes as a whole."""


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for `json`."""

    text: str
    verdicts: list[dict[str, Any]]
    """In the form of docs/events.md: one for each segment, in its last revision."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A word and its time, in seconds."""

    word: str
    start: float
    end: float


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A segment in the form of OpenAI."""

    id: int
    seek: int
    """Its first sample."""
    start: float
    end: float
    text: str
    tokens: list[int]
    """Empty: the transcriber does not give them."""
    temperature: float
    avg_logprob: float
    """Logarithm of the transcriber's confidence; 0 if it gives none."""
    compression_ratio: float
    no_speech_prob: float
    """0: voice activity detection has found speech."""


class Verbose(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for `verbose_json`."""

    task: str
    language: str
    duration: float
    text: str
    segments: list[Piece]
    words: list[Word]
    verdicts: list[dict[str, Any]]
    """Of the same segments, in the form of docs/events.md."""


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the route of transcriptions."""

    async def transcribe(ask: Ask) -> Response:
        if not is_form(ask.request):
            remedy = "send multipart/form-data with the fields `file` and `model`"
            raise ApiError(415, "form", "a form is missing", remedy)
        async with received(ask.request, Recording) as (fields, upload):
            if fields.stream:
                remedy = "leave `stream` out; WS /v1/listen and WS /v1/events answer at once"
                raise ApiError(422, "input", "a transcription is not streamed", remedy)
            _check_language(fields.language, gateway.language)
            job = await keep(gateway, upload, "", InputConfig(""))
        await asyncio.shield(asyncio.wrap_future(gateway.requests.over_of(job.id)))
        over = gateway.requests.job(job.id)
        if over is None or over.state == "cancelled":
            raise ApiError(422, "input", "its job was cancelled", "send it again")
        if over.state == "failed":
            raise ApiError(422, "input", over.error, "send audio: wav, mp3, ogg, flac, m4a, webm")
        return await asyncio.to_thread(_answer, gateway, over.streams, fields.response_format)

    operation = Operation(
        "Transcribe a recording, in the form of OpenAI",
        "ingest",
        form=Recording,
        answer=(Text, Verbose),
        media=("text/plain",),
        refusals=(415, 422, 503),
    )
    path = "/v1/audio/transcriptions"
    return [Endpoint("POST", path, gateway.access, operation, transcribe)]


def _answer(gateway: Gateway, streams: list[int], wanted: Format) -> Response:
    events = [event for stream in streams for event in gateway.store.events_of(stream)]
    if wanted in ("srt", "vtt"):
        return PlainTextResponse(_cues(events, wanted))
    last = {v["segment"]: v for v in map(msgspec.json.decode, events) if v["type"] == "verdict"}
    verdicts = [last[n] for n in sorted(last)]
    texts = [_text(verdict) for verdict in verdicts]
    text = " ".join(filter(None, texts))
    if wanted == "text":
        return PlainTextResponse(f"{text}\n")
    if wanted == "json":
        return answer(Text(text=text, verdicts=verdicts))
    ended = [e for e in map(msgspec.json.decode, events) if e["type"] == "stream_ended"]
    made = Verbose(
        task="transcribe",
        language=next((v["transcript"]["language"] for v in verdicts if v["transcript"]), ""),
        duration=max((e["duration_s"] for e in ended), default=0.0),
        text=text,
        segments=[_piece(n, v, t) for n, (v, t) in enumerate(zip(verdicts, texts, strict=True))],
        words=[
            Word(word=word["text"], start=word["start_s"], end=word["end_s"])
            for verdict in verdicts
            for word in (verdict["transcript"] or {}).get("words", ())
        ],
        verdicts=verdicts,
    )
    return answer(made)


def _text(verdict: dict[str, Any]) -> str:
    return str((verdict["transcript"] or {}).get("text", ""))


def _piece(number: int, verdict: dict[str, Any], text: str) -> Piece:
    sure = (verdict["transcript"] or {}).get("confidence")
    data = text.encode()
    return Piece(
        id=number,
        seek=to_samples(verdict["start_s"]),
        start=verdict["start_s"],
        end=verdict["end_s"],
        text=text,
        tokens=[],
        temperature=0.0,
        avg_logprob=round(math.log(sure), 4) if sure else 0.0,
        compression_ratio=round(len(data) / len(zlib.compress(data)), 4) if data else 0.0,
        no_speech_prob=0.0,
    )


def _cues(events: list[bytes], wanted: Literal["srt", "vtt"]) -> str:
    with tempfile.NamedTemporaryFile(prefix="abhinaya-cues-") as file:
        file.write(b"\n".join(events) + b"\n")
        file.flush()
        return captions(Path(file.name), wanted)


def _check_language(wanted: str, known: str) -> None:
    """Refuse a language that would have no effect; `known` is that of the transcriber."""
    if wanted.lower() in ("", known):
        return
    if known:
        reason = f"the transcriber of this gateway knows only `{known}`"
        remedy = "leave `language` out, or let the gateway serve a multilingual model"
    else:
        reason = "the transcriber finds the language itself; it cannot be set for one recording"
        remedy = "leave `language` out, or set asr.options.language for all recordings"
    raise ApiError(400, "parameter", f"field `language`: {reason}", remedy)
