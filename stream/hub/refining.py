"""A second opinion on close calls: who is asked, and among which labels.

Pure. A verdict that was close goes out at once; after it, the service `refiner` may choose among
the labels that led. It stands apart from the line-up: no verdict waits for it, it casts no vote,
and it is given a segment only then. Its answer makes a revision if it is one of those labels
(`models.ensemble.decide`); no answer until the segment is closed means that the verdict stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from msgspec.structs import replace

from abhinaya.stream.hub.dispatch import Dispatch
from abhinaya.stream.hub.dispatch_state import Action, Key, Limits
from abhinaya.stream.hub.validation import REFINER
from abhinaya.stream.wire.messages import Ready

Choices = tuple[str, ...]
"""Labels that are still in question, the likeliest first."""


class Desks:
    """The work of the line-up and that of the refiner, which never wait for each other.

    Args:
        services: of the line-up.
        limits: of patience.

    """

    def __init__(self, services: Iterable[str], limits: Limits) -> None:
        self.line_up = Dispatch(services, limits)
        self._refiner = Dispatch((REFINER,), limits)
        self._choices: dict[Key, Choices] = {}

    def of(self, service: str) -> Dispatch:
        """Give the dispatch that a service belongs to."""
        return self._refiner if service == REFINER else self.line_up

    def beat(self, now: float, node: str, work_age_s: float | None) -> list[Action]:
        """Note that a node lives; give it up if its work in progress takes too long."""
        both = (self.line_up, self._refiner)
        return [action for desk in both for action in desk.beat(now, node, work_age_s)]

    def gone(self, now: float, node: str, reason: str) -> list[Action]:
        """Give up a node."""
        return self.line_up.gone(now, node, reason) + self._refiner.gone(now, node, reason)

    def ready(self, now: float, ready: Ready) -> list[Action]:
        """Take in a node. What the refiner needs is there when it is asked."""
        (first, *_) = ready.gives
        if first.name != REFINER:
            return self.line_up.ready(now, ready.node, ready.gives, ready.credits)
        alone = replace(first, needs=())
        return self._refiner.ready(now, ready.node, (alone,), ready.credits)

    def ask(self, key: Key, due: float, choices: Choices) -> list[Action]:
        """Ask the refiner about a segment."""
        self._choices[key] = choices
        return self._refiner.submit(key, due)

    def choices(self, services: Iterable[str], key: Key) -> Choices:
        """Return what a node is to choose among; empty for all labels."""
        return self._choices.get(key, ()) if REFINER in services else ()

    def tick(self, now: float) -> list[Action]:
        """Give up the nodes that have been silent for too long."""
        return self.line_up.tick(now) + self._refiner.tick(now)

    def close(self, key: Key) -> list[Action]:
        """Forget a segment; whoever works on it is told."""
        self._choices.pop(key, None)
        return self.line_up.close(key) + self._refiner.close(key)

    def loads(self) -> Iterable[tuple[str, str, int, int]]:
        """Yield (node, service, tasks held, tasks done) of every node."""
        return chain(self.line_up.loads(), self._refiner.loads())
