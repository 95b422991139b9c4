"""What is missing where a process waits for room, in words. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.processes import Named, parse
from abhinaya.stream.run.placement.base import Machine, Placed


def lacking(
    cluster: Cluster, machines: Sequence[Machine], placed: Mapping[str, Placed]
) -> dict[str, str]:
    """Return for each hub, and each service of a cell, that waits for room, what it lacks."""
    waiting: Counter[Named] = Counter()
    cpus: defaultdict[str, float] = defaultdict(float)
    gpus: defaultdict[str, float] = defaultdict(float)
    for one in placed.values():
        named = parse(one.name)
        if named is None:
            continue
        if one.stage == "waiting for room":
            waiting[named._replace(number=0)] += 1
        elif one.stage in ("starting", "running"):
            needs = _needs(cluster, named)
            cpus[one.machine] += needs[0]
            gpus[one.machine] += needs[1]
    free = {m.label: (m.cpus - cpus[m.label], m.gpus - gpus[m.label]) for m in machines if m.alive}
    return {
        f"{named.cell}.{named.service or 'hub'} room": _text(cluster, named, count, free)
        for named, count in waiting.items()
    }


def _text(
    cluster: Cluster, named: Named, count: int, free: Mapping[str, tuple[float, float]]
) -> str:
    cpus, gpus, labels = _needs(cluster, named)
    where = f"on {' or '.join(labels)}" if labels else "on one machine"
    has = ", ".join(
        f"{label} {_amount(*free[label])}" for label in free if not labels or label in labels
    )
    nodes = (
        f"{count} nodes of {named.service} wait"
        if count > 1
        else f"a node of {named.service} waits"
    )
    who = nodes if named.service else "the hub waits"
    setting = f"services.{named.service}.cpus" if named.service else "hub_cpus"
    return (
        f"cell {named.cell}: {who} for room, {_amount(cpus, gpus)} {where}; free: {has or 'none'}; "
        f"add a machine, or lower {setting}"
    )


def _amount(cpus: float, gpus: float) -> str:
    return f"{max(cpus, 0.0):g} CPU" + (f" and {max(gpus, 0.0):g} GPU" if gpus > 0 else "")


def _needs(cluster: Cluster, named: Named) -> tuple[float, float, tuple[str, ...]]:
    """Return CPUs, GPUs and machines of a process; nothing if the file has it no more."""
    if named.service:
        service = cluster.services().get(named.service)
        return (service.cpus, service.gpus, service.machines) if service else (0.0, 0.0, ())
    cell = next((cell for cell in cluster.config.cells if cell.name == named.cell), None)
    return (cell.hub_cpus, 0.0, cell.machines) if cell else (0.0, 0.0, ())
