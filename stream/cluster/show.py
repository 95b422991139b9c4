"""The state of a cluster as a status, and as text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from abhinaya.stream.cluster.actions import Seen, View
from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.controller import Controller
from abhinaya.stream.cluster.state import (
    FRESH_S,
    CellStatus,
    ClusterStatus,
    MachineStatus,
    ProcessStatus,
)


def status_of(
    cluster: Cluster,
    controller: Controller,
    seen: Seen | None,
    faults: Mapping[str, str],
    wall: float,
) -> ClusterStatus:
    """Return all that the controller sees."""
    machines = seen.machines if seen else ()
    placed = seen.placed.values() if seen else ()
    return ClusterStatus(
        cluster=cluster.config.name,
        time=wall,
        epoch=controller.cells.epoch if controller.cells else 0,
        machines=tuple(
            MachineStatus(
                label=m.label,
                address=m.address,
                cpus=m.cpus,
                gpus=m.gpus,
                head=m.head,
                alive=m.alive,
                version=m.version,
            )
            for m in machines
        ),
        cells=tuple(_cell(cluster, controller, seen, name) for name in controller.phases()),
        processes=tuple(
            ProcessStatus(
                name=p.name, stage=p.stage, machine=p.machine, restarts=p.restarts, error=p.error
            )
            for p in placed
        ),
        faults=tuple(faults.values()),
    )


def _cell(cluster: Cluster, controller: Controller, seen: Seen | None, name: str) -> CellStatus:
    endpoint, _ = controller.hubs().get(name, ("", ""))
    state, wanted = controller.phases()[name], controller.targets(name)
    view = seen.views.get(name, View()) if seen else View()
    status = view.status
    if status is None or seen is None:
        return CellStatus(name=name, state=state, endpoint=endpoint, wanted=wanted)
    services = cluster.services()
    nodes = Counter(load.service for load in status.nodes if load.service in services)
    return CellStatus(
        name=name,
        state=state,
        endpoint=endpoint,
        answers=seen.now - view.heard <= cluster.run.supervise.silent_s,
        fronts=len(status.fronts),
        open_segments=status.open_segments,
        waiting=status.waiting,
        oldest_s=max(status.oldest_s.values(), default=0.0),
        nodes=dict(nodes),
        wanted=wanted,
    )


def lines(status: ClusterStatus, now: float, runs: bool) -> Iterator[str]:
    """Yield the status as lines of text."""
    yield f"cluster {status.cluster}, epoch {status.epoch}"
    if not runs:
        yield f"no controller runs; its last status is {now - status.time:.0f} s old"
    elif now - status.time > FRESH_S:
        yield f"the controller has not written for {now - status.time:.0f} s"
    for machine in status.machines:
        what = "head, " if machine.head else ""
        lost = "" if machine.alive else ", lost"
        yield (
            f"machine {machine.label}: {what}{machine.address}, {machine.cpus:g} CPU, "
            f"{machine.gpus:g} GPU{lost}"
        )
    for cell in status.cells:
        yield f"cell {cell.name}: {cell.state}{_details(cell)}"
    for process in status.processes:
        where = f" on {process.machine}" if process.machine else ""
        times = f", restarts {process.restarts}" if process.restarts else ""
        why = f": {process.error}" if process.error else ""
        yield f"  {process.name}: {process.stage}{where}{times}{why}"
    for fault in status.faults:
        yield f"! {fault}"


def _details(cell: CellStatus) -> str:
    if not cell.endpoint:
        return ""
    if not cell.answers:
        return f" at {cell.endpoint}, does not answer"
    nodes = ", ".join(
        f"{service} {cell.nodes.get(service, 0)} of {wanted}"
        for service, wanted in cell.wanted.items()
    )
    return (
        f" at {cell.endpoint}; {nodes}; fronts {cell.fronts}; segments {cell.open_segments}, "
        f"waiting {cell.waiting}, oldest {cell.oldest_s:.1f} s"
    )
