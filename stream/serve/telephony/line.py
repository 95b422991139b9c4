"""What the lines need of the gateway's calls (`serve/calls.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from abhinaya.stream.sources.base import SampleFormat


class Line(Protocol):
    """A call that takes audio."""

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of its streams, one a track."""
        ...

    def feed(self, track: int, data: bytes, position: int | None = None) -> None:
        """Take samples, whole ones; without a position they follow on."""
        ...

    def close(self, reason: str = "") -> None:
        """End the call; without a reason it is a natural end."""
        ...


class Opens(Protocol):
    """Opens a call."""

    def __call__(
        self,
        name: str,
        tracks: tuple[str, ...],
        encoding: SampleFormat,
        rate: int,
        facts: Mapping[str, str],
    ) -> Line:
        """Return the call.

        Raises:
            Refused: a call of this name is open, or there are too many.

        """
        ...
