"""Voters that share the processes of another, and with them what both load alike. Pure.

S2 and ST1 hear a segment through the same two encoders: in one process these are loaded once and
run once for each segment. The price is a common fate: a process that dies takes all along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abhinaya.stream.config import WorkerConfig


def guests(voters: Mapping[str, WorkerConfig], service: str) -> list[str]:
    """Give the voters that live in the processes of `service`."""
    return [name for name, worker in voters.items() if worker.host == service]


def guest_node(host_node: str, service: str, guest: str) -> str:
    """Name a guest's node after the node of its host: beside S2-0 there is ST1-0."""
    if host_node.startswith(f"{service}-"):
        return guest + host_node.removeprefix(service)
    return f"{guest}-{host_node}"


def conflicts(voters: Mapping[str, WorkerConfig]) -> Iterator[tuple[str, ...]]:
    """Yield what is wrong with who shares whose processes, and the settings that it is about."""
    for name, worker in voters.items():
        path = f"voters.{name}.host"
        host = voters.get(worker.host)
        if not worker.host:
            continue
        if host is None or worker.host == name:
            yield f"{path} = {worker.host!r} is no other voter of this profile", path
        elif host.host:
            yield f"{path}: {worker.host} is itself in the processes of {host.host}", path
        elif host.replicas != worker.replicas:
            other = f"voters.{worker.host}.replicas"
            yield f"voters.{name}.replicas is not {other}, whose processes it shares", path, other
