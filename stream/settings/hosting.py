"""Voters that share the processes of another service, and with them what both load alike. Pure.

The transcriber and the embedded voters hear a segment through one encoder, S2 and ST1 through the
same two: in one process these are loaded once and run once for each segment. Such a process is one
node that gives several services. The price is a common fate: one that dies takes all along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abhinaya.stream.settings.config import WorkerConfig


def guests(voters: Mapping[str, WorkerConfig], service: str) -> list[str]:
    """Return the voters that live in the processes of `service`."""
    return [name for name, worker in voters.items() if worker.host == service]


def conflicts(
    voters: Mapping[str, WorkerConfig], asr: WorkerConfig | None
) -> Iterator[tuple[str, ...]]:
    """Yield what is wrong with who shares whose processes, and the settings that it is about."""
    for name, worker in voters.items():
        path, other = f"voters.{name}.host", f"voters.{worker.host}"
        host = voters.get(worker.host)
        if worker.host == "asr":
            host, other = asr, "asr"
        if not worker.host:
            continue
        if host is None or worker.host == name:
            yield f"{path} = {worker.host!r} is not another voter of this profile, nor asr", path
        elif host.host:
            yield f"{path}: {worker.host} is itself in the processes of {host.host}", path
        elif host.replicas != worker.replicas:
            own, its = f"voters.{name}.replicas", f"{other}.replicas"
            yield f"{own} is not {its}, whose processes it shares", path, its
