"""`POST /v1/files`: a file or an address to label, as a job whose state can be asked for."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute

from abhinaya.models.text import encodable
from abhinaya.stream.errors import SinkError
from abhinaya.stream.serve.api.endpoint import (
    Ask,
    Endpoint,
    File,
    Operation,
    decoded,
    not_found,
    parsed,
)
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.errors import ApiError
from abhinaya.stream.serve.requests import Job, demo
from abhinaya.stream.sources.address import check_address, is_address, name_of
from abhinaya.stream.sources.base import InputConfig, check_names

FIELDS: Final = 50
"""Most fields of a form."""
RESERVE_BYTES: Final = 1_000_000_000
"""What uploads leave free on the disk: the history is there too."""

T = TypeVar("T")

Name = Annotated[str, msgspec.Meta(max_length=200)]
Channels = Literal["mix", "split"]


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address, or the demo call."""

    address: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    """Where the audio is: http, https or rtsp."""
    demo: bool = False
    """Whether to play the demo call instead."""
    name: Name = ""
    """Name of the streams; by default from the address."""
    channels: Channels = "mix"
    channel_names: Annotated[list[Name], msgspec.Meta(max_length=64)] = []
    realtime: bool = False
    """Whether to play a recording as if it were live."""
    consent: Name = ""
    """Consent of the persons concerned; with `no`, nothing is judged in compliance mode."""


class Upload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file in a form."""

    file: File
    name: Name = ""
    """Name of the streams; by default that of the file."""
    channels: Channels = "mix"
    channel_names: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    """Names of split channels, separated by commas."""
    realtime: bool = False
    """Whether to play it as if it were live."""
    consent: Name = ""
    """Consent of the persons concerned; with `no`, nothing is judged in compliance mode."""


class Jobs(msgspec.Struct, frozen=True):
    """Jobs, the latest first."""

    jobs: list[Job]


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes of files."""
    requests, access = gateway.requests, gateway.access

    async def add(ask: Ask) -> Job:
        if is_form(ask.request):
            async with received(ask.request, Upload) as (fields, upload):
                names = tuple(n for n in fields.channel_names.split(",") if n)
                config = InputConfig(
                    "",
                    channels=fields.channels,
                    channel_names=names,
                    realtime=fields.realtime,
                    consent=fields.consent,
                )
                return await keep(gateway, upload, fields.name, config)
        return await asyncio.to_thread(_add, gateway, decoded(Wanted, await ask.request.body()))

    async def one(ask: Ask) -> Job:
        found = requests.job(ask.request.path_params["job"])
        if found is None:
            raise not_found("the job")
        return found

    async def cancel(ask: Ask) -> Job:
        found = requests.cancel(ask.request.path_params["job"])
        if found is None:
            raise not_found("the job")
        return found

    async def listed(_: Ask) -> Jobs:
        return Jobs(requests.jobs())

    adding = Operation(
        "Label a file or an address; the answer is a job",
        "ingest",
        body=Wanted,
        form=Upload,
        answer=Job,
        status=202,
        refusals=(422, 503),
    )
    cancelling = Operation(
        "Cancel a job; it ends soon, and keeps the verdicts that it has",
        "ingest",
        answer=Job,
        status=202,
        refusals=(404, 409),
    )
    return [
        Endpoint("POST", "/v1/files", access, adding, add),
        Endpoint("GET", "/v1/files", access, Operation("List the jobs", answer=Jobs), listed),
        Endpoint(
            "GET",
            "/v1/files/{job}",
            access,
            Operation("Show a job", answer=Job, refusals=(404,)),
            one,
        ),
        Endpoint("DELETE", "/v1/files/{job}", access, cancelling, cancel),
    ]


def _add(gateway: Gateway, wanted: Wanted) -> Job:
    if wanted.demo:
        return gateway.requests.add(wanted.name or "demo", demo())
    if not is_address(wanted.address):  # never a path of this machine
        remedy = 'give {"address": "https://..."}, {"demo": true}, or upload a file in a form'
        wrong = f"`{wanted.address}` is not an address"
        raise ApiError(422, "input", wrong if wanted.address else "an address is missing", remedy)
    check_address(wanted.address)
    config = InputConfig(
        wanted.address,
        channels=wanted.channels,
        channel_names=tuple(wanted.channel_names),
        realtime=wanted.realtime,
        consent=wanted.consent,
    )
    check_names(config, 0)
    return gateway.requests.add(wanted.name or name_of(wanted.address), config)


def is_form(request: Request) -> bool:
    """Return whether a request carries a form with a file."""
    return request.headers.get("content-type", "").startswith("multipart/form-data")


@asynccontextmanager
async def received(request: Request, kind: type[T]) -> AsyncIterator[tuple[T, UploadFile]]:
    """Read the form of a request: its fields, and its one file.

    Raises:
        ApiError: a field is wrong, or the file is missing.

    """
    try:
        form = await request.form(max_files=1, max_fields=FIELDS)
    except HTTPException as error:
        raise ApiError(400, "form", f"the form is wrong: {error.detail}") from error
    except OSError as error:
        raise ApiError(503, "disk", f"the file cannot be stored: {error.strerror}") from error
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise ApiError(400, "form", "the field `file` is missing", "add the file to the form")
        texts: dict[str, Any] = {
            name: encodable(value) for name, value in form.items() if isinstance(value, str)
        }
        yield parsed(kind, texts | {"file": upload.filename or ""}), upload
    finally:
        await form.close()


async def keep(gateway: Gateway, upload: UploadFile, name: str, config: InputConfig) -> Job:
    """Store an upload, and add it as an input. Its name never becomes a path.

    Raises:
        ApiError: it is empty, or too many files wait.
        ConfigError: the names of channels are wrong.
        SinkError: it cannot be stored.

    """
    if not upload.size:
        raise ApiError(422, "input", "the file is empty", "record or export it again")
    path = gateway.requests.folder / secrets.token_hex(16)
    try:
        given = encodable(upload.filename or "")
        await asyncio.to_thread(_copy, upload, path)
        named = replace(config, what=str(path), label=given or "upload")
        check_names(named, 0)
        return gateway.requests.add(name or PurePosixPath(given).stem, named, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _copy(upload: UploadFile, path: Path) -> None:
    try:
        if shutil.disk_usage(path.parent).free < RESERVE_BYTES + (upload.size or 0):
            raise ApiError(503, "disk", "the disk is nearly full", "make room, or try again later")
        with path.open("xb") as file:
            path.chmod(0o600)
            shutil.copyfileobj(upload.file, file)
    except OSError as error:
        raise SinkError("the upload", f"cannot be stored: {error.strerror}", "make room") from error
