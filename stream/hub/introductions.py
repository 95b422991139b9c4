"""Asks unknown peers to introduce themselves. Pure."""

from __future__ import annotations

import math
from typing import Final, Literal

from abhinaya.stream.hub.publisher import Outgoing
from abhinaya.stream.wire.messages import Introduce

ASK_EVERY_S: Final = 1.0
"""Minimum time between two requests to one peer: after a cut, its messages come in hundreds."""


class Introductions:
    """The peers that were asked lately. A peer is a door of the hub and a socket identity."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, bytes], float] = {}

    def ask(self, now: float, door: Literal["workers", "sinks"], peer: bytes) -> list[Outgoing]:
        """Return the request to a peer, if it was not asked just before."""
        if now - self._asked.get((door, peer), -math.inf) < ASK_EVERY_S:
            return []
        self._asked[door, peer] = now
        return [Outgoing(door, peer, Introduce())]

    def tidy(self, now: float) -> None:
        """Forget the peers that may be asked again."""
        self._asked = {peer: at for peer, at in self._asked.items() if now - at < ASK_EVERY_S}
