"""How much work a hub has: what nodes hold, what waits, and how old it is. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from abhinaya.stream.hub.nodes import Node
from abhinaya.stream.hub.segments import Record, State
from abhinaya.stream.wire.messages import NodeLoad


def loads(nodes: Mapping[str, Node]) -> Iterator[NodeLoad]:
    """Yield what each node holds and has done, by service; nothing of a silent node."""
    for name, node in nodes.items():
        for service in () if node.silent else node.gives:
            tasks = (services for key, services in node.held.items() if not key[2])
            held = sum(service in services for services in tasks)
            yield NodeLoad(node=name, service=service, held=held, done=node.done.get(service, 0))


def processes(nodes: Mapping[str, Node]) -> dict[tuple[str, ...], int]:
    """Return how many nodes offer the same services."""
    found: dict[tuple[str, ...], int] = {}
    for node in nodes.values():
        if not node.silent:
            services = tuple(node.gives)
            found[services] = found.get(services, 0) + 1
    return found


def waiting(records: Iterable[Record]) -> int:
    """Return the number of tasks that wait for a node, without partials."""
    return sum(
        work.state is State.QUEUED
        for record in records
        if record.item.final
        for work in record.work.values()
    )


def queued(records: Iterable[Record]) -> Counter[str]:
    """Return by service how many segments of live streams wait for a node."""
    return Counter(
        name
        for record in records
        if record.item.final and record.stream.info.live
        for name, work in record.work.items()
        if work.state is State.QUEUED
    )


def oldest_s(
    now: float, records: Iterable[Record], services: Iterable[str], live: bool = False
) -> dict[str, float]:
    """Return by service the age of the oldest segment that waits for it, of all or live streams."""
    found: dict[str, float] = {}
    served = set(services)
    for record in records:
        if record.item.final and (record.stream.info.live or not live):
            for name, work in record.work.items():
                if name in served and work.state in (State.QUEUED, State.HELD):
                    found[name] = max(found.get(name, 0.0), now - record.received)
    return found
