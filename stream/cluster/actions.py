"""What the controller sees, and what it decides: the words between it and its loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from abhinaya.stream.run.placement.base import Machine, Placed, Process
from abhinaya.stream.wire.messages import Died, Status


@dataclass(frozen=True, slots=True)
class View:
    """What the hub of a cell says, as far as the controller hears it."""

    heard: float = float("-inf")
    """When its latest status came."""
    status: Status | None = None
    down: frozenset[tuple[str, str]] = frozenset()
    """(node, incarnation) of the nodes of which it knows that they are gone."""
    fault: str = ""
    """Why it does not answer, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What commands have asked for; kept in the state folder."""

    scale: Mapping[str, int] = field(default_factory=dict)
    """By service: the number of nodes in each cell, instead of automatic scaling."""
    down: Literal["", "drain", "now"] = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the loop sees at one time."""

    now: float
    """time.monotonic()"""
    wall: float
    """Unix time; epochs of the map follow it, so that none goes back even if the state is lost."""
    machines: Sequence[Machine]
    placed: Mapping[str, Placed]
    views: Mapping[str, View]
    """By cell."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process."""

    process: Process


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask a process to finish; kill it after `patience_s`."""

    name: str
    patience_s: float


@dataclass(frozen=True, slots=True)
class Move:
    """Let a node connect to its hub at another endpoint."""

    name: str
    hub: str


@dataclass(frozen=True, slots=True)
class Report:
    """Report a death to the hub of a cell."""

    cell: str
    died: Died
    stopped: bool = False
    """Whether it was asked to stop."""


Action = Start | Stop | Move | Report
