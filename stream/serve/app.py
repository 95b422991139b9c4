"""`Gateway`: what each route of the API works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from abhinaya.stream.cells.map import CellMap
from abhinaya.stream.serve.access import Access
from abhinaya.stream.serve.board import Board
from abhinaya.stream.serve.calls import Calls
from abhinaya.stream.serve.requests import Requests
from abhinaya.stream.serve.store.store import Store
from abhinaya.stream.serve.telemetry.cells import Statuses
from abhinaya.stream.serve.telemetry.health import Health
from abhinaya.stream.serve.telemetry.metrics import Metrics
from abhinaya.stream.settings.serve import ServeConfig


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a gateway."""

    config: ServeConfig
    access: Access
    board: Board
    store: Store
    requests: Requests
    statuses: Statuses
    metrics: Metrics
    health: Health
    calls: Calls
    cells: Callable[[], CellMap] | None = None
    """Returns the map of the cells; None: one hub without cells."""
    language: str = ""
    """That which the transcriber assumes for all speech; empty: it detects it."""


class Service(Protocol):
    """What works in the gateway's event loop beside the web server, as a telephone line does."""

    async def start(self) -> None:
        """Begin to work; raises an AbhinayaError that ends the gateway if that is impossible."""
        ...

    async def stop(self) -> None:
        """End all work."""
        ...
