"""Files of the history: a stream, what a search finds, and corrections for training."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute

from abhinaya.stream.errors import SinkError, StoreError
from abhinaya.stream.serve.api.endpoint import Ask, Endpoint, Operation
from abhinaya.stream.serve.api.history import Wanted
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.errors import ApiError
from abhinaya.stream.serve.store import export

MAX_AT_A_TIME: Final = 2
"""Exports at a time; others wait."""

Format = Literal["csv", "parquet", "vtt", "srt", "jsonl", "rttm", "txt", "TextGrid"]
MEDIA: Final[dict[str, str]] = {
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "jsonl": "application/jsonl",
    "rttm": "text/plain",
    "txt": "text/plain",
    "TextGrid": "text/plain",
}


class WantedFile(Wanted, frozen=True, kw_only=True):
    """An export: of one stream with all revisions, or of what a search finds."""

    format: Format


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes of exports."""
    file = gateway.store.file
    exporting = asyncio.Semaphore(MAX_AT_A_TIME)

    async def as_file(ask: Ask) -> Response:
        wanted: WantedFile = ask.query
        try:
            async with exporting:
                folder, path = await asyncio.to_thread(
                    export.exported, file, wanted.filter, f".{wanted.format}"
                )
        except export.TooMuchError as error:
            reason = f"more than {export.MAX_SEGMENTS} segments are found"
            raise ApiError(422, "too_much", reason, "ask for a shorter time") from error
        except StoreError:
            raise
        except SinkError as error:
            raise ApiError(
                422, "format", f"{wanted.format} {error.reason}", error.remedy
            ) from error
        name = f"stream-{wanted.stream}" if wanted.stream is not None else "history"
        return FileResponse(
            path,
            media_type=MEDIA[wanted.format],
            filename=f"{name}.{wanted.format}",
            background=BackgroundTask(folder.cleanup),
        )

    async def manifest(_: Ask) -> Response:
        lines = await asyncio.to_thread(lambda: b"".join(export.manifest(file)))
        header = {"Content-Disposition": 'attachment; filename="corrections.jsonl"'}
        return Response(lines, headers=header, media_type=MEDIA["jsonl"])

    as_files = Operation(
        "Export a stream, or what a search finds",
        query=WantedFile,
        media=tuple(sorted(set(MEDIA.values()))),
        refusals=(422, 503),
    )
    for_training = Operation(
        "Export the corrections as a training manifest", media=(MEDIA["jsonl"],), refusals=(503,)
    )
    access = gateway.access
    return [
        Endpoint("GET", "/v1/history/export", access, as_files, as_file),
        Endpoint("GET", "/v1/history/corrections", access, for_training, manifest),
    ]
