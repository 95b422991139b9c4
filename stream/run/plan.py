"""The plan of a run: settings, inputs, and a supply of further inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from abhinaya.models.text import short_name
from abhinaya.stream.cells.source import CellSource
from abhinaya.stream.errors import AbhinayaError, ModelError
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.sources.address import is_address, name_of
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.keys import Keys


@dataclass(frozen=True, slots=True)
class Input:
    """An input and its name."""

    name: str
    config: InputConfig


class Supply(Protocol):
    """Source of inputs that are added during the run, for example new podcast episodes."""

    @property
    def over(self) -> bool:
        """Whether all inputs have ended and no more will come."""
        ...

    def start(self) -> None:
        """Start to look for inputs."""
        ...

    def take(self) -> list[tuple[str, InputConfig]]:
        """Return (name, input) of the inputs to start now."""
        ...

    def news(self) -> list[str]:
        """Return new messages for the user since the last call."""
        ...

    def faults(self) -> list[AbhinayaError]:
        """Return the errors since the last call."""
        ...

    def cancelled(self) -> list[str]:
        """Return the names of inputs that were taken and shall end now, since the last call."""
        ...

    def ended(self, name: str, reason: str) -> None:
        """Note that an input is finished and written; `reason`: why it broke off, or empty."""
        ...


class Lines(Protocol):
    """The calls whose audio the gateway pushes, as the run sees them. Any thread may ask."""

    def cells(self) -> Collection[str]:
        """Return the names of the cells that need a push front now; without cells, one empty name.

        The run starts the push front of a cell when its name first appears here. It ends that of a
        cell which is not named any more, once the streams of its calls are over.
        """
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings and inputs of a run."""

    config: configuration.Config
    inputs: tuple[Input, ...]
    cells: CellSource | None = None
    """The cells whose hubs the run uses; None: start a hub."""
    accept_noncommercial: bool = False
    supply: Supply | None = None
    follows: bool = False
    """Whether the supply is endless."""
    faults: tuple[AbhinayaError, ...] = ()
    """Errors of inputs that were found before the run; the run reports them and goes on."""
    calls: Lines | None = None
    """The calls of a gateway; such a run is endless."""
    keys: Keys | None = None
    """Keys of this process for these hubs."""


def name_of_input(what: str) -> str:
    """Return the default name of an input; for a file, its name without the suffix."""
    if is_address(what):
        return name_of(what)
    return {"-": "stdin", "mic": "mic"}.get(what) or short_name(Path(what).stem or what)


def check_line_up(config: configuration.Config, gone: Mapping[str, AbhinayaError]) -> None:
    """Refuse to begin without a service that the profile needs.

    `gone` has the services that did not start, with the reason.

    Raises:
        ModelError: one is needed; the message names all that did not start, with their remedies.

    """
    workers = configuration.workers_of(config)
    if needed := [service for service in gone if workers[service].needed]:
        faults = "; ".join(dict.fromkeys(str(fault) for fault in gone.values()))
        raise ModelError(f"profile {config.profile!r} needs {', '.join(needed)}: {faults}")


def check_licence(profile: str, service: str, model: str, licence: str) -> None:
    """Refuse a model whose licence forbids commercial use, unless the package contains it.

    Raises:
        ModelError: the user must accept the licence first.

    """
    # models of the package need no consent: the program shows their licence at each start
    if profile != configuration.EMBEDDED:
        raise ModelError(
            f"{service} ({model})",
            f"has a licence that forbids commercial use: {licence}",
            "if your use is not commercial, set --accept-noncommercial",
        )
