"""A node as the hub knows it."""

from __future__ import annotations

from dataclasses import dataclass

from abhinaya.stream.material import Wants
from abhinaya.stream.messages import NodeUp, Ready


@dataclass(frozen=True, slots=True)
class Node:
    """What a node has said of itself."""

    name: str
    incarnation: str
    service: str
    wants: Wants
    labels: frozenset[str]
    """That its votes may carry."""
    up: NodeUp
    """What people are told of it."""

    @classmethod
    def of(cls, ready: Ready) -> Node:
        """Read it from the node's introduction."""
        up = NodeUp(
            node=ready.node,
            service=ready.service,
            gives=ready.gives,
            model=ready.model,
            version=ready.version,
            licence=ready.licence,
            noncommercial=ready.noncommercial,
        )
        return cls(
            name=ready.node,
            incarnation=ready.incarnation,
            service=ready.service,
            wants=Wants.of(ready),
            labels=frozenset(ready.labels),
            up=up,
        )
