"""How Ray is started on a machine: its environment, its command, and what its faults mean.

Nothing here imports Ray. docs/cluster.md explains each choice to the operator.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abhinaya.stream.cluster.config import Cluster, MachineConfig, RayConfig
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.run.placement.ray_actor import (
    ADDRESS,
    DIRECTORY,
    HEAD_LABEL,
    MACHINE,
    MACHINE_LABEL,
    VERSION_LABEL,
)

HEALTH: Final = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
}
"""A machine that does not answer is lost after about 10 s instead of 70; while the head is away,
the machines go on for 10 minutes instead of 1."""

LEAN: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_memory_monitor_refresh_ms": "0",
}
"""Nothing is reported to anybody; no idle workers; and Ray kills no hub when memory is short: the
kernel knows better whom."""

OBJECT_STORE: Final = 80 * 1024 * 1024
"""Bytes of shared memory for objects, which we do not use: Ray refuses less than 75 MiB."""

LONGEST_DIRECTORY: Final = 42
"""Bytes of the folder's path that leave room for Ray's sockets: the system allows them 107."""

_NOT_PASSED_ON: Final = ("RAY_", "ABHINAYA_LOG", "ABHINAYA_CLOCK")
_CERTIFICATES: Final = ("RAY_REDIS_CA_CERT", "RAY_REDIS_CLIENT_CERT", "RAY_REDIS_CLIENT_KEY")


@dataclass(frozen=True, slots=True)
class Here:
    """Ray on one machine of the cluster."""

    cluster: Cluster
    ray: RayConfig
    machine: MachineConfig
    head: MachineConfig
    version: str
    """Of our package."""

    @property
    def directory(self) -> Path:
        """Private folder for Ray and for the logs of the processes."""
        return self.cluster.state / "ray" / self.machine.label

    @property
    def temporary(self) -> Path:
        """Folder of Ray's sockets and logs. Ray opens it to all: it is in a private one."""
        return self.directory / "r"

    @property
    def token_file(self) -> Path:
        """The file with Ray's token."""
        return Path(self.ray.token_file)


def of(cluster: Cluster, label: str, version: str) -> Here:
    """Return the machine `label` of a cluster.

    Raises:
        ConfigError: the file has no such machine, or the path of its folder is too long.

    """
    machines = {machine.label: machine for machine in cluster.config.machines}
    head = next((m for m in machines.values() if m.head), None)
    if label not in machines or head is None or cluster.config.ray is None:
        known = ", ".join(machines) or "none"
        raise ConfigError(f"--machine {label}", "is not a machine of the file", f"known: {known}")
    here = Here(cluster, cluster.config.ray, machines[label], head, version)
    if len(str(here.temporary).encode()) > LONGEST_DIRECTORY:
        reason = f"is too long for Ray's sockets: {here.temporary} has more than"
        raise ConfigError(
            f"state = {str(cluster.state)!r}",
            f"{reason} {LONGEST_DIRECTORY} bytes",
            "choose a shorter path, for example /var/lib/abhinaya",
        )
    return here


def environment(here: Here, outer: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of Ray's processes, and so of our actors and their children.

    What the operator's shell says about Ray does not count: another token or address would be
    taken without a word. Only certificates for Redis are passed on.
    """
    kept = {k: v for k, v in outer.items() if not k.startswith(_NOT_PASSED_ON)}
    kept |= {k: outer[k] for k in _CERTIFICATES if k in outer}
    kept |= HEALTH | LEAN
    kept |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(here.token_file)}
    kept |= {DIRECTORY: str(here.directory)}
    kept |= {MACHINE: here.machine.label, ADDRESS: here.machine.address}
    if here.machine.head and here.ray.redis:
        kept |= {
            "RAY_REDIS_ADDRESS": here.ray.redis,
            "RAY_external_storage_namespace": here.cluster.config.name,
        }
    return kept


def command(here: Here) -> list[str]:
    """Return `ray start` for the machine."""
    machine, (first, last) = here.machine, here.ray.ports
    labels = {
        MACHINE_LABEL: machine.label,
        HEAD_LABEL: "yes" if machine.head else "no",
        VERSION_LABEL: here.version,
    }
    given: dict[str, object] = {
        "node-ip-address": machine.address,
        "node-name": machine.label,
        "labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "object-store-memory": OBJECT_STORE,
        "temp-dir": here.temporary,
        "include-log-monitor": "false",
        "node-manager-port": first,
        "object-manager-port": first + 1,
        "runtime-env-agent-port": first + 2,
        "dashboard-agent-listen-port": first + 3,
        "dashboard-agent-grpc-port": first + 4,
        "metrics-export-port": first + 5,
        "min-worker-port": first + 10,
        "max-worker-port": last,
    }
    if machine.cpus is not None:
        given["num-cpus"] = int(machine.cpus)
    if machine.gpus is not None:
        given["num-gpus"] = int(machine.gpus)
    if machine.head:
        given |= {
            "port": here.ray.port,
            "include-dashboard": "false",
            "dashboard-host": "127.0.0.1",
            "dashboard-port": first + 6,
            "ray-client-server-port": first + 7,
        }
    else:
        given["address"] = f"{here.head.address}:{here.ray.port}"
    flags = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    program = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start"]
    return [*program, *(["--head", "--no-monitor"] if machine.head else []), *flags]
