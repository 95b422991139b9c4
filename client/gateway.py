"""`Client`: events, streams and files of a gateway."""

from __future__ import annotations

import asyncio
import random
import secrets
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import connect as aconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from abhinaya.client.listening import Listening
from abhinaya.models.errors import AbhinayaError

Event = dict[str, Any]
"""An event in the form of docs/events.md, with `number` and `stream_id`."""

KEPT_S: Final = 5.0
"""Audio that is kept while the gateway is away."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
CLOSED: Final = "the gateway has closed the connection"
REFUSED: Final = range(4400, 4500)
"""Close codes for which another try would end in the same way."""


class GatewayError(AbhinayaError):
    """The gateway refuses a request, or cannot be reached."""

    exit_code = 7


@dataclass(slots=True)
class _Progress:
    """How far a reader is, and how long it waits until the next try. Pure."""

    after: int | None
    patience_s: float
    heard: float
    pause_s: float = FIRST_PAUSE_S

    def seen(self, now: float, event: Event) -> bool:
        """Note an event; return whether it is new."""
        self.heard, self.pause_s = now, FIRST_PAUSE_S
        number = event.get("number", 0)
        if not number:
            return True
        if self.after is not None and number <= self.after:
            return False
        self.after = number
        return True

    def wait_s(self, now: float, address: str, error: Exception) -> float:
        """Return how long to wait after a connection was lost.

        Raises:
            GatewayError: the gateway refuses this reader, or is away for too long.

        """
        if isinstance(error, InvalidStatus) and error.response.status_code < 500:
            raise _refused(address, error.response.status_code, error.response.body) from error
        if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code in REFUSED:
            raise GatewayError(address, error.rcvd.reason) from error
        if now - self.heard > self.patience_s:
            reason = f"has not answered for {self.patience_s:g} s: {error}"
            raise GatewayError(address, reason, "check that `abhinaya serve` runs") from error
        pause_s, self.pause_s = self.pause_s, min(2 * self.pause_s, LONGEST_PAUSE_S)
        return pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - not a secret


class Client:
    """A gateway.

    Args:
        address: of the gateway: `http://HOST:PORT` or `https://...`.
        token: from the file `token` of its data folder, or from `abhinaya serve token`.
        patience_s: seconds to wait for a gateway that does not answer.
        tls: for a certificate that this machine does not know.

    Every method raises GatewayError if the gateway refuses it, or is away for longer.

    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        patience_s: float = 60.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if not address.startswith(("http://", "https://")):
            raise GatewayError(address, "is not an address", "begin it with http:// or https://")
        self.address = address.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._patience_s = patience_s
        self._tls = tls

    def events(self, streams: Iterable[int] = (), after: int | None = None) -> Iterator[Event]:
        """Yield events as they come, without end.

        Args:
            streams: numbers of streams; without any, the events of all.
            after: number after which to begin: 0 for the whole history; None: with what comes.

        An event of the type `dropped` says how many provisional events this reader was too slow
        for; the stored ones among them are sent again.

        """
        wanted, progress = tuple(streams), self._progress(after)
        while True:
            try:
                with connect(self._url(wanted, progress.after), **self._options()) as socket:
                    for text in socket:
                        event = msgspec.json.decode(text)
                        if event["type"] == "dropped" and progress.after is not None:
                            yield event
                            break
                        if progress.seen(time.monotonic(), event):
                            yield event
                    else:
                        raise ConnectionError(CLOSED)
            except (OSError, WebSocketException) as error:
                time.sleep(progress.wait_s(time.monotonic(), self.address, error))

    async def aevents(
        self, streams: Iterable[int] = (), after: int | None = None
    ) -> AsyncIterator[Event]:
        """Like `events`, for asyncio."""
        wanted, progress = tuple(streams), self._progress(after)
        while True:
            try:
                async with aconnect(self._url(wanted, progress.after), **self._options()) as socket:
                    async for text in socket:
                        event = msgspec.json.decode(text)
                        if event["type"] == "dropped" and progress.after is not None:
                            yield event
                            break
                        if progress.seen(time.monotonic(), event):
                            yield event
                    else:
                        raise ConnectionError(CLOSED)
            except (OSError, WebSocketException) as error:
                await asyncio.sleep(progress.wait_s(time.monotonic(), self.address, error))

    def listen(
        self, *, rate: int, channels: int = 1, name: str = "", interim: bool = False
    ) -> Listening:
        """Return a track for audio that comes while it is spoken, for asyncio.

        Args:
            rate: samples a second.
            channels: channels, interleaved; they are mixed.
            name: of the call; its stream is `listen:NAME`.
            interim: whether provisional verdicts come too.

        The samples are 16-bit integers, little-endian.

        """
        query = {"encoding": "linear16", "sample_rate": rate, "channels": channels}
        wishes = {"interim_results": "true"} if interim else {}
        named = {"name": name} if name else {}
        url = f"ws{self.address.removeprefix('http')}/v1/listen?{urlencode(query | wishes | named)}"
        progress = self._progress(None)
        return Listening(
            url,
            self._options(),
            lambda now, error: progress.wait_s(now, self.address, error),
            kept_bytes=round(2 * rate * channels * KEPT_S),
        )

    def streams(self) -> list[dict[str, Any]]:
        """Return the streams that are open or have ended lately."""
        found: list[dict[str, Any]] = self.get("/v1/streams")["streams"]
        return found

    def cells(self) -> dict[str, Any]:
        """Return the map of the cells: `epoch` and `cells`, each with name, endpoint and state."""
        return self.get("/v1/cells")

    def label(self, what: str | Path, **fields: Any) -> dict[str, Any]:
        """Let a file or an address be labelled; return the job (`job` says how far it is).

        `fields` are those of `POST /v1/files`: name, channels, channel_names, realtime.
        """
        if "://" in str(what):
            body = msgspec.json.encode({"address": str(what)} | fields)
            return self._ask("/v1/files", body, "application/json")
        path = Path(what)
        names = fields.get("channel_names")
        if isinstance(names, list | tuple):
            fields["channel_names"] = ",".join(names)
        boundary = secrets.token_hex(16)
        data = _form(boundary, fields, path.name, path.read_bytes())
        return self._ask("/v1/files", data, f"multipart/form-data; boundary={boundary}")

    def job(self, id: str) -> dict[str, Any]:
        """Return the state of a job."""
        return self.get(f"/v1/files/{id}")

    def cancel(self, id: str) -> dict[str, Any]:
        """End a job as soon as possible, also that of a live address; return its state."""
        return self._ask(f"/v1/files/{id}", method="DELETE")

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return the answer to any GET of the API."""
        return self._ask(f"{path}?{urlencode(query)}" if query else path)

    def _progress(self, after: int | None) -> _Progress:
        return _Progress(after, self._patience_s, time.monotonic())

    def _url(self, streams: tuple[int, ...], after: int | None) -> str:
        query = {} if after is None else {"from": str(after)}
        if streams:
            query["streams"] = ",".join(map(str, streams))
        return f"ws{self.address.removeprefix('http')}/v1/events?{urlencode(query)}"

    def _options(self) -> dict[str, Any]:
        secure = self.address.startswith("https:")
        return {
            "additional_headers": self._headers,
            "max_size": None,
            "open_timeout": 10,
            **({"ssl": self._tls} if secure and self._tls else {}),
        }

    def _ask(
        self, path: str, data: bytes | None = None, kind: str = "", method: str | None = None
    ) -> dict[str, Any]:
        headers = self._headers | ({"Content-Type": kind} if kind else {})
        address = self.address + path
        request = urllib.request.Request(address, data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(  # noqa: S310 - the user names the address
                request, timeout=self._patience_s, context=self._tls
            ) as answer:
                found: dict[str, Any] = msgspec.json.decode(answer.read())
                return found
        except urllib.error.HTTPError as error:
            raise _refused(self.address, error.code, error.read()) from error
        except OSError as error:
            remedy = "check that `abhinaya serve` runs"
            raise GatewayError(self.address, f"cannot be reached: {error}", remedy) from error


def _refused(address: str, status: int, body: bytes | bytearray | None) -> GatewayError:
    try:
        fault: Mapping[str, str] = msgspec.json.decode(body or b"")["error"]
        return GatewayError(address, fault["message"], fault["remedy"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return GatewayError(address, f"answers with status {status}", "check the address")


def _form(boundary: str, fields: Mapping[str, Any], name: str, content: bytes) -> bytes:
    """Return a form as multipart/form-data."""

    def part(head: str, value: bytes) -> bytes:
        return f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + value

    shown = name.replace('"', "%22").replace("\r", " ").replace("\n", " ")
    parts = [part(f'name="{key}"', str(value).encode()) for key, value in fields.items()]
    parts.append(part(f'name="file"; filename="{shown}"', content))
    return b"\r\n".join(parts) + f"\r\n--{boundary}--\r\n".encode()
