"""What a run is to do: its inputs, and where more of them come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.settings import config as configuration
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
        """Give name and input of those to begin with now."""
        ...

    def news(self) -> list[str]:
        """Give what people should know since the last call."""
        ...

    def faults(self) -> list[AbhinayaError]:
        """Give what went wrong since the last call."""
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
