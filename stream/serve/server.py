"""The web server in a thread of its own: uvicorn, with limits for connections that are idle."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from abhinaya.stream.errors import AbhinayaError, ConfigError, NetworkError
from abhinaya.stream.log import adopt
from abhinaya.stream.serve.app import Service
from abhinaya.stream.serve.board import Board
from abhinaya.stream.settings.serve import ServeConfig

START_S: Final = 10.0
FILES_OF_CALL: Final = 4
"""Sockets of a call over SIPREC: RTP and RTCP of two parties."""
STALLED_MS: Final = 30_000
"""Milliseconds in which a client must take what was sent to it."""
_USER_TIMEOUT: Final = 18
"""TCP_USER_TIMEOUT of Linux."""


class Protocol(H11Protocol):
    """HTTP that closes a connection which does not send a whole request in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if one more connection is allowed."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, STALLED_MS)
        limit = self.limit_concurrency
        if limit is not None and len(self.connections) > limit:
            transport.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n")
            transport.close()
            return
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take data; the time for a request goes on until it is whole."""
        timer, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        self.conn.receive_data(data)
        before = self.cycle
        self.handle_events()
        idle = self.cycle is before and (before is None or before.response_complete)
        if idle and timer is not None and not self.transport.is_closing():
            self.timeout_keep_alive_task = timer
        elif timer is not None:
            timer.cancel()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection over."""
        self._unset_keepalive_if_required()
        super().handle_websocket_upgrade(event)
        self.cycle = _UPGRADED

    def _wait(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class _Upgraded:
    """Stands for the request of a connection that is a WebSocket now."""

    response_complete = False


_UPGRADED: Final[Any] = _Upgraded()


def _is_a_fault(record: logging.LogRecord) -> bool:
    """Leave out what uvicorn says of each refused WebSocket: the client got its answer."""
    return "without completing handshake" not in record.getMessage()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        NetworkError: the address is in use, or is not ours.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        reason = f"cannot be served: {getattr(error, 'strerror', None) or error}"
        raise NetworkError(f"{host}:{port}", reason, "choose another --port") from error
    made.set_inheritable(False)
    return made


class Server:
    """Serves an application until `stop`.

    Args:
        app: the application.
        listener: the bound socket.
        config: the limits.
        board: the board that the loop serves.
        tls: the certificate and its key; None: no TLS.
        services: what else works in the loop of the server; begun before, ended after it.

    Raises:
        ConfigError: the certificate cannot be used.

    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        config: ServeConfig,
        board: Board,
        tls: tuple[Path, Path] | None = None,
        services: Sequence[Service] = (),
    ) -> None:
        self._listener, self._board, self._services = listener, board, services
        adopt("uvicorn").setLevel(logging.ERROR)
        logging.getLogger("uvicorn.error").addFilter(_is_a_fault)
        settings = uvicorn.Config(
            app,
            http=Protocol,
            ws="websockets-sansio",
            ws_max_size=1000 * config.message_kb,
            ws_per_message_deflate=False,
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=config.connections,
            timeout_keep_alive=config.idle_s,  # type: ignore[arg-type]
            timeout_graceful_shutdown=1,
            ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=tls[1] if tls else None,
        )
        try:
            settings.load()
        except OSError as error:  # also ssl.SSLError
            reason = f"cannot be used: {error.strerror or error}"
            subject = f"the certificate or its key ({' and '.join(map(str, tls or ()))})"
            raise ConfigError(subject, reason, "give PEM files that belong together") from error
        allow_files(config.connections + FILES_OF_CALL * config.calls + 1000)
        self._server = uvicorn.Server(settings)
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self) -> None:
        """Start to serve.

        Raises:
            AbhinayaError: the server or a service did not start.

        """
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started:
            self.check()
            if time.monotonic() > deadline:
                raise NetworkError("the web server", f"did not start within {START_S:g} s")
            time.sleep(0.005)

    def check(self) -> None:
        """Do nothing if the server lives.

        Raises:
            AbhinayaError: it has stopped.

        """
        if not self._thread.is_alive():
            if isinstance(self._fault, AbhinayaError):
                raise self._fault
            raise NetworkError("the web server", f"has stopped: {self._fault or 'unknown reason'}")

    def stop(self) -> None:
        """Close all connections, and end the thread."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(START_S)
        self._listener.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # the run's thread reports it
            self._fault = error

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            self._board.attach(asyncio.get_running_loop())
            stack.callback(self._board.detach)
            for service in self._services:
                await service.start()
                stack.push_async_callback(service.stop)
            await self._server.serve([self._listener])


def allow_files(wanted: int) -> None:
    """Let this process open so many files and connections, as far as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(wanted, soft)
    if soft < min(wanted, hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
