"""The telephone lines of a gateway: their routes, and what listens beside the web server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute

from abhinaya.stream.errors import ConfigError
from abhinaya.stream.serve.app import Gateway, Service
from abhinaya.stream.serve.board import Board
from abhinaya.stream.serve.calls import AudioFormat, Call, CallError
from abhinaya.stream.serve.errors import ApiError
from abhinaya.stream.serve.rows import Row
from abhinaya.stream.serve.telephony import listen, media_streams
from abhinaya.stream.serve.telephony.audiosocket import AudioSocketServer
from abhinaya.stream.settings.serve import ServeConfig
from abhinaya.stream.sources.base import SampleFormat

TOKEN: Final = "TWILIO_AUTH_TOKEN"  # noqa: S105
"""Environment variable with the auth token of the Twilio account."""
LOOK_S: Final = 0.05
"""How often to look whether the streams of a call have begun."""


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes of the lines.

    Raises:
        ConfigError: the file of Twilio's token cannot be read.

    """
    doors = GatewayDoors(gateway, twilio_token(gateway.config, os.environ))
    return [*listen.routes(doors), *media_streams.routes(doors)]


def services(gateway: Gateway) -> list[Service]:
    """Return the lines that are not of the web.

    Raises:
        ConfigError: an address cannot be used.

    """
    config, opens = gateway.config, GatewayDoors(gateway).opens_unasked
    found: list[Service] = []
    if config.audiosocket:
        found.append(AudioSocketServer(config.audiosocket, opens, config.connections))
    if config.siprec.listen:
        # few gateways have this line: the others start without its modules
        from abhinaya.stream.serve.telephony.siprec.server import RecordingServer

        found.append(RecordingServer(config.siprec, opens))
    return found


def twilio_token(config: ServeConfig, environment: Mapping[str, str]) -> str:
    """Return the auth token of the Twilio account; empty if there is none.

    Raises:
        ConfigError: its file cannot be read.

    """
    if not config.twilio_token_file:
        return environment.get(TOKEN, "")
    try:
        return Path(config.twilio_token_file).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or 'not text'}"
        subject = f"serve.twilio_token_file {config.twilio_token_file}"
        raise ConfigError(subject, reason, "name a file with the auth token") from error


@dataclass(frozen=True, slots=True)
class GatewayDoors:
    """A gateway, as the lines see it."""

    gateway: Gateway
    twilio_token: str = ""

    def __repr__(self) -> str:
        return "GatewayDoors()"  # without the token

    @property
    def twilio_next(self) -> str:
        """Address of what Twilio does with a call after its stream has begun; empty: nothing."""
        return self.gateway.config.twilio_next

    def opens(
        self,
        name: str,
        tracks: tuple[str, ...],
        encoding: SampleFormat,
        rate: int,
        facts: Mapping[str, str],
    ) -> Call:
        """Open a call of the gateway."""
        source = name.partition(":")[0]
        form = AudioFormat(encoding, rate)
        return self.gateway.calls.open(name, tracks, form, source=source, facts=facts)

    def opens_unasked(
        self,
        name: str,
        tracks: tuple[str, ...],
        encoding: SampleFormat,
        rate: int,
        facts: Mapping[str, str],
    ) -> Call:
        """Open a call of a line that knows no tokens; the audit log has its name.

        Raises:
            CallError: also if it cannot be logged, and must be.

        """
        try:
            self.gateway.access.log(name.partition(":")[0], "CALL", name)
        except ApiError as error:
            raise CallError("unavailable", name, error.subject, error.remedy) from error
        return self.opens(name, tracks, encoding, rate, facts)

    def signed(self, connection: HTTPConnection, provider: str) -> None:
        """Note the access of a provider whose signature is right."""
        self.gateway.access.note(f"{provider} (signed)", connection)

    def require(self, connection: HTTPConnection, role: str) -> Callable[[], bool]:
        """Check the caller's role; return what says whether the token still holds."""
        who = self.gateway.access.require(connection, role)
        return lambda: self.gateway.access.is_valid(who)

    async def events(self, streams: tuple[str, ...]) -> AsyncGenerator[Mapping[str, Any]]:
        """Yield the events of the streams of a call from its start on."""
        board = self.gateway.board
        while len(rows := _rows(board, streams)) < len(streams):
            await asyncio.sleep(LOOK_S)
        wanted = frozenset(row.id for row in rows.values())
        reader = board.subscribe(wanted, self.gateway.config.queue)
        try:
            for row in _rows(board, streams).values():
                if row.ended:  # before the subscription
                    yield {"type": "stream_ended", "stream": row.name}
            async for item in reader:
                yield msgspec.json.decode(item.body)
        finally:
            reader.close()


def _rows(board: Board, streams: tuple[str, ...]) -> dict[str, Row]:
    """Return the latest stream of each of these names."""
    rows = sorted(board.rows(), key=lambda row: row.id)
    return {row.name: row for row in rows if row.name in streams}
