"""What the lines need of the gateway's calls (`serve/calls.py`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Protocol

from starlette.requests import HTTPConnection

from abhinaya.stream.sources.base import SampleFormat


class Line(Protocol):
    """A call that takes audio."""

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of its streams, one a track."""
        ...

    @property
    def ahead_s(self) -> float:
        """Seconds of audio that came before their time."""
        ...

    def feed(self, track: int, data: bytes, position: int | None = None) -> None:
        """Take samples, whole ones; without a position they follow on."""
        ...

    def flush(self, track: int) -> None:
        """End the segment that is being spoken now; nothing if there is none."""
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
            CallError: a call of this name is open, there are too many, or none can be taken yet.

        """
        ...


class Doors(Protocol):
    """What the routes need of the gateway."""

    @property
    def opens(self) -> Opens:
        """Opens calls."""
        ...

    @property
    def twilio_token(self) -> str:
        """The auth token of the Twilio account; empty: its signatures are not checked."""
        ...

    @property
    def twilio_next(self) -> str:
        """Address of what Twilio does with a call after its stream has begun; empty: nothing."""
        ...

    def require(self, connection: HTTPConnection, role: str) -> Callable[[], bool]:
        """Return what says whether the caller's token still holds.

        Raises:
            ApiError: the caller has not this role.

        """
        ...

    def signed(self, connection: HTTPConnection, provider: str) -> None:
        """Note the access of a provider whose signature is right.

        Raises:
            ApiError: it cannot be logged, and must be.

        """
        ...

    def events(self, streams: tuple[str, ...]) -> AsyncGenerator[Mapping[str, Any]]:
        """Return the events of these streams from now on."""
        ...
