"""The processes of a cell: their names, what each runs, and what it needs.

A hub is CELL.hub, a node CELL.SERVICE.NUMBER: neither names of cells nor of services have a dot.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from abhinaya.stream.cluster import keys
from abhinaya.stream.cluster.config import CellConfig, Cluster
from abhinaya.stream.run.placement.base import ADDRESS, Process
from abhinaya.stream.settings.config import encode

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
