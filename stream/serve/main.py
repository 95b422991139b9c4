"""`abhinaya serve`: puts run, board, store and web server together, in one process.

The run has the main thread, as in `abhinaya-stream`; the web server has a second one.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from abhinaya.models.asr.options import language_of
from abhinaya.models.interrupts import INTERRUPTS
from abhinaya.models.text import say
from abhinaya.stream.cells.map import CellMap
from abhinaya.stream.cells.source import CellSource, FixedCells
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import AbhinayaError, ConfigError
from abhinaya.stream.run.directory import logs_kept, remove_old, run_directory
from abhinaya.stream.run.monitor import FINISH_S, Run
from abhinaya.stream.run.others import Take
from abhinaya.stream.run.plan import Plan
from abhinaya.stream.serve import pages
from abhinaya.stream.serve.access import Access
from abhinaya.stream.serve.api import (
    alerts,
    cells,
    events,
    exports,
    files,
    history,
    nodes,
    openapi,
    session,
    streams,
    transcriptions,
)
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.audit import Audit
from abhinaya.stream.serve.board import Board
from abhinaya.stream.serve.calls import Calls
from abhinaya.stream.serve.errors import on_bug, on_error, on_status
from abhinaya.stream.serve.limits import Behind, Guard
from abhinaya.stream.serve.other_runs import OtherRuns
from abhinaya.stream.serve.requests import Requests, demo
from abhinaya.stream.serve.retention import Retention
from abhinaya.stream.serve.server import Server, bind
from abhinaya.stream.serve.store.store import Store
from abhinaya.stream.serve.telemetry import endpoints
from abhinaya.stream.serve.telemetry.cells import Statuses
from abhinaya.stream.serve.telemetry.health import Health, once_ready, watched
from abhinaya.stream.serve.telemetry.metrics import Metrics
from abhinaya.stream.serve.telephony import lines
from abhinaya.stream.serve.tokens import Tokens
from abhinaya.stream.settings.compliance import check_retention
from abhinaya.stream.settings.config import Config
from abhinaya.stream.sinks.alerts.sink import Alerts, open_senders
from abhinaya.stream.sinks.base import Observer, Sink
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import Activity, Event
from abhinaya.stream.wire.sockets import is_loopback

TOPICS: Final[Sequence[Callable[[Gateway], list[BaseRoute]]]] = (
    session.routes,
    streams.routes,
    nodes.routes,
    cells.routes,
    events.routes,
    lines.routes,
    files.routes,
    transcriptions.routes,
    alerts.routes,
    history.routes,
    exports.routes,
    endpoints.routes,
)
"""The modules of the API. Each gives the routes of one topic."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the gateway is reached, and where its data lies."""

    host: str
    port: int
    data: Path
    tls: tuple[Path, Path] | None = None
    """Certificate and key."""
    proxy: tuple[str, ...] = ()
    """Addresses of a proxy that has TLS; nobody else may connect then."""

    def check(self) -> None:
        """Refuse to serve the network without TLS.

        Raises:
            ConfigError: the address is not loopback, and there is neither TLS nor a proxy; or the
                proxy is not an IP address.

        """
        for peer in self.proxy:
            try:
                ipaddress.ip_address(peer)
            except ValueError as error:
                remedy = "give the address from which the proxy connects, such as 10.0.0.5"
                reason = "is not an IP address"
                raise ConfigError(f"--trusted-proxy {peer}", reason, remedy) from error
        if not is_loopback(self.host) and not self.tls and not self.proxy:
            reason = "can be reached from other machines, and TLS is missing"
            remedy = "add --tls-cert and --tls-key, or name a proxy that has TLS: --trusted-proxy"
            raise ConfigError(f"--host {self.host}", reason, remedy)


def application(gateway: Gateway, proxy: Sequence[str] = ()) -> ASGIApp:
    """Return the whole application of a gateway."""
    routes = [route for topic in TOPICS for route in topic(gateway)]
    handlers: dict[Any, Any] = {
        AbhinayaError: on_error,
        HTTPException: on_status,
        Exception: on_bug,
    }
    app = Starlette(
        routes=[*routes, *openapi.routes(routes), *pages.routes()], exception_handlers=handlers
    )
    guarded: ASGIApp = Guard(pages.WithHeaders(app), gateway.config)
    guarded = endpoints.CountsRefusals(guarded, gateway.metrics.refused)
    if proxy:
        forwarded: Any = ProxyHeadersMiddleware(cast("Any", guarded), list(proxy))
        return Behind(forwarded, proxy)
    return guarded


@contextmanager
def opened(
    config: Config,
    data: Path,
    directory: Path,
    report: Callable[[str], None] = lambda _: None,
    current: Callable[[], CellMap] | None = None,
) -> Iterator[Gateway]:
    """Open the parts of a gateway, without a run and a web server.

    Args:
        config: the settings.
        data: folder of the tokens and the history.
        directory: that of the run, for the sockets of calls.
        report: shows a warning.
        current: returns the map of the cells; None: one hub without cells.

    Raises:
        AbhinayaError: the folder or the history cannot be used.

    """
    tokens, law = Tokens(data), config.compliance
    with (
        closing(Store(data / "history.sqlite", report)) as store,
        closing(Calls(directory, config.serve)) as calls,
        closing(Audit(data, bool(law.mode), report)) as audit,
        closing(Retention(law.retention_days, store, audit, report)),
    ):
        board, statuses = Board(store), Statuses(current)
        faults = [lambda: str(store.fault or ""), lambda: audit.fault]
        requests = Requests(config.serve, data / "uploads", board.streams_of)
        yield Gateway(
            config=config.serve,
            access=Access(tokens, 3600 * config.serve.session_h, audit),
            board=board,
            store=store,
            requests=requests,
            statuses=statuses,
            metrics=Metrics(config, statuses),
            health=Health(config, statuses, faults),
            calls=calls,
            cells=current,
            language=language_of(config.asr.options) if config.asr else "",
        )
        requests.clear()


def serve(
    config: Config,
    place: Place,
    observer: Observer,
    *,
    cells: CellSource | None = None,
    keys: Keys | None = None,
    reader: Keys | None = None,
    accept_noncommercial: bool = False,
    plays_demo: bool = False,
    more: Sequence[Sink] = (),
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Serve until a signal; return the exit code.

    Args:
        config: the settings.
        place: the address and the data.
        observer: shows the state of the processes.
        cells: the hubs that others run; None: start one.
        keys: for these hubs.
        reader: the keys with which the runs of others are read there.
        accept_noncommercial: whether models may have a licence that forbids commercial use.
        plays_demo: whether to play the demo call at once.
        more: further sinks.
        environment: where the secrets of rules are.

    Raises:
        AbhinayaError: the gateway cannot start, or the run cannot go on.

    """
    place.check()
    check_retention(config.compliance)
    if cells is None:  # hubs that others run have their own interval
        config = watched(config)
    senders = open_senders(config.rules, environment)
    with ExitStack() as stack:
        listener = stack.enter_context(closing(bind(place.host, place.port)))
        remove_old(config.supervise.logs_days)
        directory = stack.enter_context(run_directory())
        source = None if isinstance(cells, FixedCells) else cells
        current = (lambda: source.current) if source is not None else None
        parts = opened(config, place.data, directory, observer.trouble, current)
        gateway = stack.enter_context(parts)
        board, metrics, health = gateway.board, gateway.metrics, gateway.health
        app, services = application(gateway, place.proxy), lines.services(gateway)
        server = Server(app, listener, config.serve, board, place.tls, services)
        if plays_demo:
            gateway.requests.add("demo", demo())
        supply = gateway.requests
        plan = Plan(
            config,
            (),
            cells,
            accept_noncommercial,
            supply,
            follows=True,
            calls=gateway.calls,
            keys=keys,
        )
        alerts = stack.enter_context(closing(Alerts(config.rules, [board], senders)))
        stack.enter_context(logs_kept(directory, "abhinaya serve"))
        sinks: list[Sink] = [board, gateway.statuses, metrics, health, *more, alerts]
        run = Run(plan, directory, sinks, observer)
        gateway.calls.divide(run.cells)
        metrics.restarts, metrics.traffic = run.supervisor.restarts, gateway.calls.traffic
        with INTERRUPTS.counting(config.supervise.drain_s + FINISH_S, 1), stack.pop_all() as held:
            held.callback(server.stop)
            if cells is not None:
                hubs, take = run.cells, taking(board, metrics)
                others = OtherRuns(
                    lambda: hubs.follow.cells, reader, run.id, take, observer.trouble
                )
                held.enter_context(closing(others))
                board.watch(others.check)
            server.start()
            board.watch(server.check)
            board.watch(once_ready(health, lambda: say("ready: speech is labelled now")))
            say(f"console: {address(place, listener.getsockname()[1])}")
            say(f"token: {gateway.access.tokens.own}")
            return run.run()


def taking(board: Board, metrics: Metrics) -> Take:
    """Return what takes the events of the runs of others."""

    def take(event: Event | Activity, run: str) -> None:
        board.take(event, run, now := unix_time())
        metrics.take(event, now)

    return take


def address(place: Place, port: int) -> str:
    """Return the address of the console."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"{'https' if place.tls else 'http'}://{host}:{port}/"
