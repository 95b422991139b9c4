"""The processes of a cell: their names, what each runs, and what it needs.

A hub is CELL.hub, a node CELL.SERVICE.NUMBER: neither names of cells nor of services have a dot.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from abhinaya.stream.cluster import keys
from abhinaya.stream.cluster.config import CellConfig, Cluster
from abhinaya.stream.cluster.state import State
from abhinaya.stream.run.placement.base import ADDRESS, Machine, Placed, Process
from abhinaya.stream.settings.config import encode

GATEWAY: Final = "gateway"
"""Name of the process."""

NODE: Final = "node"
"""The key of all nodes, and their role."""


class Named(NamedTuple):
    """What the name of a process says."""

    cell: str
    service: str
    """Empty for the hub."""
    number: int = 0


def parse(name: str) -> Named | None:
    """Return what the name of a process says; None if it is not of a cell."""
    match name.split("."):
        case [cell, "hub"]:
            return Named(cell, "")
        case [cell, service, number] if number.isdigit():
            return Named(cell, service, int(number))
        case _:
            return None


def hub_name(cell: str) -> str:
    """Return the name of the hub of a cell."""
    return f"{cell}.hub"


def node_name(cell: str, service: str, number: int) -> str:
    """Return the name of a node."""
    return f"{cell}.{service}.{number}"


def endpoint(address: str, port: int) -> str:
    """Return the endpoint of a hub."""
    return f"tcp://{address}:{port}"


class Processes:
    """Builds the processes of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._config = encode(cluster.run)
        self._services = cluster.services()

    def hub(self, cell: CellConfig) -> Process:
        """Return the hub of a cell."""
        name, folder = hub_name(cell.name), self._cluster.keys
        arguments = ["--name", name, "--endpoint", endpoint(ADDRESS, cell.port)]
        if folder is not None:
            arguments += ["--keys", str(keys.cell_keys(folder, cell.name))]
        return Process(
            name,
            "abhinaya.stream.hub.main",
            tuple(arguments),
            config=self._config,
            cpus=cell.hub_cpus,
            machines=cell.machines,
            never_on_head=self._cluster.config.on_ray,
        )

    def gateway(self) -> Process | None:
        """Return the gateway; None without one. It runs where the folder of the state is."""
        given = self._cluster.config.gateway
        if given is None:
            return None
        arguments = ["--name", GATEWAY, "--cells", str(State(self._cluster.state).map_file)]
        arguments += ["--host", given.host, "--port", str(given.port), "--data", given.data]
        if given.tls_cert or given.tls_key:
            arguments += ["--tls-cert", given.tls_cert, "--tls-key", given.tls_key]
        if self._cluster.keys is not None:
            arguments += ["--keys", str(keys.client_keys(self._cluster.keys))]
        heads = tuple(m.label for m in self._cluster.config.machines if m.head)
        return Process(
            GATEWAY,
            "abhinaya.stream.cluster.gateway",
            tuple(arguments),
            config=self._config,
            cpus=given.cpus,
            machines=heads if self._cluster.config.on_ray else (),
        )

    def node(self, cell: str, service: str, number: int, hub: str, key: str) -> Process:
        """Return a node that connects to the endpoint `hub`, which has the public `key`."""
        name, needs = node_name(cell, service, number), self._services[service]
        folder = self._cluster.keys
        arguments = ["--name", name, "--service", service]
        if folder is not None:
            arguments += ["--keys", str(keys.client_keys(folder)), "--key-name", NODE]
            arguments += ["--hub-key", key]
        return Process(
            name,
            "abhinaya.stream.node.main",
            tuple(arguments),
            hub=hub,
            services=needs.gives,
            config=self._config,
            cpus=needs.cpus,
            gpus=needs.gpus,
            machines=needs.machines,
            # while the head is away, nobody starts elsewhere what was on it
            never_on_head=self._cluster.config.on_ray and not needs.machines,
        )


# --- what is missing where one waits for room -----------------------------------------------


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
    what = "gpus" if gpus > max((gpu for _, gpu in free.values()), default=0.0) else "cpus"
    setting = f"services.{named.service}.{what}" if named.service else "hub_cpus"
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
