"""A node as the hub knows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from abhinaya.stream.wire.messages import NodeUp, Ready, Service


@dataclass(frozen=True, slots=True)
class Node:
    """What a node has said of itself."""

    name: str
    incarnation: str
    gives: Mapping[str, Service]

    @classmethod
    def of(cls, ready: Ready) -> Node:
        """Read it from the node's introduction."""
        return cls(ready.node, ready.incarnation, {s.name: s for s in ready.gives})

    def up(self) -> Iterator[NodeUp]:
        """Yield what people are told of it, service by service."""
        for service in self.gives.values():
            yield NodeUp(
                node=self.name,
                service=service.name,
                gives=service.kind,
                model=service.model,
                version=service.version,
                licence=service.licence,
                noncommercial=service.noncommercial,
            )
