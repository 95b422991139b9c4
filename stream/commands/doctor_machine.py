"""The doctor's checks of the machine: packages, disk, microphone, sockets, a hub."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import zmq

from abhinaya.stream.errors import AbhinayaError, SourceError
from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.settings.config import EMBEDDED, Config
from abhinaya.stream.sources.microphone import Device, list_devices
from abhinaya.stream.wire.client import Client
from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import Message, Notice, Refused, Subscribe, ToSink
from abhinaya.stream.wire.sockets import Hub, connect, receive, send, sinks_endpoint

State = Literal["ok", "warning", "fault"]
"""With a fault the profile cannot run; with a warning it can."""

PACKAGE: Final = "abhinaya"
ROOM_MB: Final = 100
"""Disk space needed for logs and sockets."""
CACHE_MB: Final = 2_000
"""Disk space recommended for downloaded models."""
AGAIN_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check."""

    subject: str
    state: State
    detail: str
    remedy: str = ""
    """What the user should do; never empty for a fault."""


def of_error(subject: str, error: AbhinayaError, state: State = "fault") -> Finding:
    """Return one of our errors as a finding."""
    remedy = error.remedy or "correct that, and run the doctor again"
    return Finding(subject, state, f"{error.subject}: {error.reason}", remedy)


def versions(
    declared: Callable[[str], Sequence[str] | None] = importlib.metadata.requires,
    installed: Callable[[str], str] = importlib.metadata.version,
) -> Iterator[Finding]:
    """Compare the installed packages with the requirements of this one."""
    from packaging.requirements import Requirement

    yield Finding("python", "ok", f"{platform.python_version()}, {platform.platform()}")
    required = [Requirement(text) for text in declared(PACKAGE) or ()]
    needed = [r for r in required if not r.marker or r.marker.evaluate({"extra": ""})]
    wrong = []
    for each in needed:
        try:
            version = installed(each.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{each.name} is not installed")
            continue
        if not each.specifier.contains(version, prereleases=True):
            wrong.append(f"{each.name} is {version}, not {each.specifier}")
    if wrong:
        remedy = "reinstall the package: pip install --upgrade abhinaya"
        yield Finding("packages", "fault", "; ".join(wrong), remedy)
    else:
        detail = f"{len(needed)} as required by abhinaya {installed(PACKAGE)}"
        yield Finding("packages", "ok", detail)


def disk(
    config: Config, free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> Iterator[Finding]:
    """Check the disk space for logs and sockets, and for downloaded models."""
    run = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    wanted: list[tuple[str, Path, int, State, str]] = [
        ("disk", run, ROOM_MB, "fault", f"free at least {ROOM_MB} MB there")
    ]
    if config.profile != EMBEDDED:  # the package includes the embedded models
        remedy = "make room, or set HF_HOME to a larger disk"
        wanted.append(("cache", cache, CACHE_MB, "warning", remedy))
    for subject, folder, least_mb, state, remedy in wanted:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        room_mb = free(there) // 2**20
        low = room_mb < least_mb
        detail = f"{room_mb:,} MB free in {folder}"
        yield Finding(subject, state if low else "ok", detail, remedy if low else "")


def microphone(
    needed: bool, devices: Callable[[], list[Device]] = list_devices
) -> Iterator[Finding]:
    """Check PortAudio and the recording devices; a fault if `needed`, else a warning."""
    state: State = "fault" if needed else "warning"
    try:
        there = devices()
    except SourceError as error:
        yield of_error("microphone", error, state)
        return
    if there:
        names = ", ".join(f"{d.name}{' (default)' if d.default else ''}" for d in there)
        yield Finding("microphone", "ok", names)
    else:
        remedy = "plug one in, or use files and addresses"
        yield Finding("microphone", state, "PortAudio finds no recording device", remedy)


def endpoint(listen: str | None, keys: Keys | None) -> Iterator[Finding]:
    """Open and close the sockets of a hub: in a private directory, and at `listen`.

    Raises:
        NetworkError: the sockets cannot be opened.

    """
    context: zmq.Context[Any] = zmq.Context()
    try:
        with run_directory() as directory:
            Hub(context, f"ipc://{directory}").close()
        yield Finding("sockets", "ok", "a hub can listen on this machine")
        if listen:
            Hub(context, listen, keys).close()
            yield Finding("endpoint", "ok", f"a hub can listen on {listen}")
    finally:
        context.destroy(linger=0)


def hub(address: str, keys: Keys | None, timeout_s: float) -> Iterator[Finding]:
    """Subscribe to a hub until it answers; its recorder is not affected.

    Raises:
        NetworkError: the endpoint or the keys are not valid.

    """
    context: zmq.Context[Any] = zmq.Context()
    name = f"doctor-{os.uname().nodename}-{os.getpid()}"
    try:
        socket = connect(context, sinks_endpoint(address), name, keys)
        yield _answer(socket, name, address, timeout_s)
    finally:
        context.destroy(linger=0)


def _answer(socket: Client, name: str, address: str, timeout_s: float) -> Finding:
    encoder, decoder = Encoder(), Decoder[Message](ToSink, MAX_STATES_BYTES)
    begun = time.monotonic()
    while (waited_s := time.monotonic() - begun) < timeout_s:
        socket.is_new()
        send(socket, encoder.encode(Subscribe(sink=name, confirm=False)))
        if not socket.poll(round(1000 * AGAIN_S)) or (frames := receive(socket)) is None:
            continue
        message = decoder.decode(frames)
        if isinstance(message, Refused):
            return Finding("hub", "fault", f"{address} refuses: {message.reason}", message.remedy)
        if isinstance(message, Notice):
            return Finding("hub", "ok", f"{address} answers after {1000 * waited_s:.0f} ms")
    detail = f"{address} does not answer within {timeout_s:g} s{socket.cause and ': '}"
    return Finding("hub", "fault", detail + socket.cause, socket.remedy)
