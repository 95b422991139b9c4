"""What a run is to do: its inputs, and where more of them come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from abhinaya.stream.errors import AbhinayaError, ModelError
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.sources.address import is_address, name_of
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.sockets import Keys


@dataclass(frozen=True, slots=True)
class Input:
    """What to listen to, and what to call it."""

    name: str
    config: InputConfig


class Supply(Protocol):
    """Inputs that come up while the run goes on."""

    @property
    def over(self) -> bool:
        """Whether none is being heard, and none will come."""
        ...

    def start(self) -> None:
        """Begin to look for them."""
        ...

    def take(self) -> list[tuple[str, InputConfig]]:
        """Return name and input of those to begin with now."""
        ...

    def news(self) -> list[str]:
        """Return what people should know since the last call."""
        ...

    def faults(self) -> list[AbhinayaError]:
        """Return what went wrong since the last call."""
        ...

    def ended(self, name: str, whole: bool) -> None:
        """Take note that all of an input is written, and whether it was heard to its end."""
        ...


@dataclass(frozen=True, slots=True)
class Remote:
    """A hub that runs already."""

    endpoint: str
    keys: Keys | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    config: configuration.Config
    inputs: tuple[Input, ...]
    remote: Remote | None = None
    """The hub to use, if it is not one of our own."""
    accept_noncommercial: bool = False
    supply: Supply | None = None
    """What gives more inputs."""
    follows: bool = False
    """Whether the supply has no end of its own."""


def name_of_input(what: str) -> str:
    """Return the name of an input that was given none: of a file, without its suffix."""
    if is_address(what):
        return name_of(what)
    return {"-": "stdin", "mic": "mic"}.get(what) or Path(what).stem or what


def distinct(names: Sequence[str]) -> list[str]:
    """Return names that differ, since they identify the streams."""
    found: list[str] = []
    for name in names:
        free, number = name, 1
        while free in found or (number > 1 and free in names):
            number += 1
            free = f"{name}-{number}"
        found.append(free)
    return found


def check_licence(profile: str, service: str, model: str, licence: str) -> None:
    """Refuse a model whose licence forbids commercial use, unless it is of the package.

    Raises:
        ModelError: the user has to accept the licence first.

    """
    # the models of the package say so at each start; others must be accepted
    if profile != configuration.EMBEDDED:
        raise ModelError(
            f"{service} ({model})",
            f"has a licence that forbids commercial use: {licence}",
            "if your use is not commercial, set --accept-noncommercial",
        )
