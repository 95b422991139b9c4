"""The settings in cluster.toml: the cells, machines and services of a cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from abhinaya.models.fields import setting
from abhinaya.stream.settings.config import EMBEDDED, Config, workers_of

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """[[machines]]: a machine of the cluster."""

    label: str = setting(doc="its name in this file")
    address: str = setting(
        LOOPBACK, doc="IPv4 address at which the other machines reach it, in a private network"
    )
    head: bool = setting(
        False, doc="whether Ray's head and the controller run here; hubs run elsewhere"
    )
    cpus: float | None = setting(None, doc="CPUs to use (default: all)", least=0)
    gpus: float | None = setting(None, doc="GPUs to use (default: all)", least=0)


@dataclass(frozen=True, slots=True)
class CellConfig:
    """[[cells]]: a hub with its own nodes."""

    name: str = setting(doc="small letters, digits and hyphens")
    port: int = setting(
        doc="TCP port of its hub; the next port is used too", least=1024, most=65_534
    )
    machines: tuple[str, ...] = setting(
        (), doc="labels of the machines on which its hub may run (default: all but the head)"
    )
    hub_cpus: float = setting(0.5, doc="CPUs that are kept free for its hub", least=0)


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """[services.NAME]: the nodes of a service of the profile, in each cell."""

    minimum: int | None = setting(
        None, doc="nodes at least (default: replicas of the profile); 0: none", least=0, most=1000
    )
    maximum: int | None = setting(
        None, doc="nodes at most (default: as many as minimum)", least=0, most=1000
    )
    cpus: float = setting(1.0, doc="CPUs that are kept free for a node", least=0)
    gpus: float = setting(0.0, doc="GPUs of a node, for example 0.25", least=0)
    machines: tuple[str, ...] = setting(
        (), doc="labels of the machines on which its nodes may run (default: all but the head)"
    )


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """[scaling]: when a service gets a node more, or one less."""

    up_s: float = setting(
        1.5,
        doc="age of the oldest segment that waits for a service above which it is late",
        least=0.1,
        most=3600,
    )
    hold_s: float = setting(
        3.0, doc="seconds that it must be late before it gets one more node", least=0, most=3600
    )
    down_s: float = setting(
        300.0,
        doc="seconds in which its other nodes would have been half idle before one is drained",
        least=1,
        most=86_400,
    )


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """[gateway]: `abhinaya serve` for all cells, beside the controller, whose map it reads."""

    host: str = setting(LOOPBACK, doc="address to serve")
    port: int = setting(8377, doc="port to serve", least=1, most=65_535)
    data: str = setting("", doc="folder for tokens and history (default: in the state folder)")
    cpus: float = setting(1.0, doc="CPUs that are kept free for it", least=0)
    tls_cert: str = setting("", doc="certificate, PEM")
    tls_key: str = setting("", doc="its private key, PEM")


@dataclass(frozen=True, slots=True)
class RayConfig:
    """[ray]: the engine for several machines; see docs/cluster.md."""

    port: int = setting(10_100, doc="port of Ray's head", least=1024, most=65_535)
    ports: tuple[int, ...] = setting(
        (10_101, 10_999), doc="first and last port that Ray's processes use on each machine"
    )
    redis: str = setting(
        "",
        doc="HOST:PORT of a Redis on loopback, or rediss://HOST:PORT, which keeps the head's state",
    )
    token_file: str = setting(
        "", doc="file with Ray's token, the same on each machine (default: KEYS/ray.token)"
    )


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """cluster.toml as it is written."""

    name: str = setting(doc="name of the cluster")
    profile: str = setting(EMBEDDED, doc="line-up: name of a profile, or its file")
    settings: Mapping[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={"doc": "changes of the profile, as its tables", "least": None, "most": None},
    )
    keys: str = setting(
        "", doc="folder of CURVE keys, the same path on each machine; empty: one machine, no keys"
    )
    state: str = setting("state", doc="folder in which the controller keeps the map of cells")
    engine: Literal["", "local", "ray"] = setting(
        "", doc="local: all on this machine; ray (default: ray if there is a table [ray])"
    )
    machines: tuple[MachineConfig, ...] = setting((), doc="the machines")
    cells: tuple[CellConfig, ...] = setting((), doc="the cells")
    services: Mapping[str, ServiceConfig] = dataclasses.field(
        default_factory=dict,
        metadata={"doc": "nodes of each service", "least": None, "most": None},
    )
    scaling: ScalingConfig = field(default_factory=ScalingConfig, metadata={"doc": "scaling"})
    gateway: GatewayConfig | None = setting(None, doc="the gateway")
    ray: RayConfig | None = setting(None, doc="the engine Ray")

    @property
    def on_ray(self) -> bool:
        """Whether the engine is Ray, not this machine alone."""
        return self.engine == "ray" or (not self.engine and self.ray is not None)


@dataclass(frozen=True, slots=True)
class Service:
    """How many nodes a service has in each cell, and what each needs."""

    minimum: int
    maximum: int
    cpus: float
    gpus: float
    machines: tuple[str, ...]
    gives: tuple[str, ...]
    """The service, and those that share its processes."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster whose file is without faults. All paths are absolute."""

    config: ClusterConfig
    run: Config
    """The settings of its hubs and nodes."""

    @property
    def keys(self) -> Path | None:
        """The folder of keys; None: without keys."""
        return Path(self.config.keys) if self.config.keys else None

    @property
    def state(self) -> Path:
        """The folder of the controller."""
        return Path(self.config.state)

    def services(self) -> dict[str, Service]:
        """Return the services that have processes, in the order of the profile."""
        found = {}
        for name, worker in workers_of(self.run).items():
            if worker.host:
                continue
            given = self.config.services.get(name, ServiceConfig())
            least = worker.replicas if given.minimum is None else given.minimum
            most = max(least, 1) if given.maximum is None else given.maximum
            gives = (name, *(v for v, w in self.run.voters.items() if w.host == name))
            found[name] = Service(
                least, most if least else 0, given.cpus, given.gpus, given.machines, gives
            )
        return found
