"""Loads cluster.toml; reports all faults at once."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from abhinaya.models.fields import Faults, build, near
from abhinaya.models.text import clean
from abhinaya.models.toml import parse_toml
from abhinaya.stream.cluster.config import (
    CellConfig,
    Cluster,
    ClusterConfig,
    RayConfig,
    ServiceConfig,
)
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import Config, workers_of
from abhinaya.stream.settings.profile import Override, trace

RAY_PORTS: Final = 30
"""Least number of ports for Ray: ten of its own, and one for each process of ours on a machine."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def load(path: Path) -> Cluster:
    """Return the cluster that a file describes.

    Raises:
        ConfigError: names every fault of the file at once.

    """
    try:
        table = parse_toml(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(str(path), "does not exist", "see docs/cluster.md") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error
    return parse(table, path)


def parse(table: Mapping[str, Any], path: Path) -> Cluster:
    """Return the cluster in a table of TOML, which came from `path`.

    Raises:
        ConfigError: names every fault at once.

    """
    faults = Faults({})
    config = build(ClusterConfig, table, "", faults)
    run = None
    if not faults.texts:
        config = _anchored(config, path.resolve().parent, faults)
    if not faults.texts:
        try:
            run = _profile(config, path)
        except ConfigError as error:
            near_by = f", {error.remedy}" if error.remedy.endswith("?") else ""
            faults.add(f"profile = {config.profile!r}: {error.reason}{near_by}")
        for text in _conflicts(config, run):
            faults.add(text)
    if faults.texts or run is None:
        known = "`abhinaya cluster settings` lists every key"
        raise ConfigError(str(path), "; ".join(faults.texts), known)
    return Cluster(config, run)


def _profile(config: ClusterConfig, path: Path) -> Config:
    overrides = [Override(key, value, path.name) for key, value in leaves(config.settings, "")]
    return trace(config.profile, overrides).config


def leaves(table: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested tables; `path` is put before each key."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _anchored(config: ClusterConfig, folder: Path, faults: Faults) -> ClusterConfig:
    """Make the paths absolute: they are relative to the folder of the file."""

    def at(name: str) -> str:
        if clean(name) != name:
            faults.add(f"{name!r} is not a path: it has characters that do not print")
        try:
            return str(folder / Path(name).expanduser()) if name else ""
        except RuntimeError:
            faults.add(f"{name!r} begins with a user that this machine does not have")
            return ""

    gateway = config.gateway
    ray = config.ray or (RayConfig() if config.on_ray else None)
    if gateway is not None:
        data = gateway.data or f"{config.state}/gateway"
        gateway = replace(
            gateway, data=at(data), tls_cert=at(gateway.tls_cert), tls_key=at(gateway.tls_key)
        )
    if ray is not None:
        token = ray.token_file or (f"{config.keys}/ray.token" if config.keys else "")
        ray = replace(ray, token_file=at(token))
    is_file = config.profile.endswith(".toml") or "/" in config.profile
    return replace(
        config,
        profile=at(config.profile) if is_file else config.profile,
        keys=at(config.keys),
        state=at(config.state),
        gateway=gateway,
        ray=ray,
    )


# --- what does not fit together -----------------------------------------------------------------


def _conflicts(config: ClusterConfig, run: Config | None) -> Iterator[str]:
    """Yield each conflict; `run` is the profile, None if it cannot be loaded."""
    if not NAME.fullmatch(config.name):
        yield f"name = {config.name!r} does not fit: use up to 40 small letters, digits and '-'"
    yield from _machines(config)
    yield from _cells(config)
    if run is not None:
        yield from _services(config, run)
    yield from _labels(config)
    yield from _engine(config)
    yield from _gateway(config)


def _machines(config: ClusterConfig) -> Iterator[str]:
    for label in _doubles(machine.label for machine in config.machines):
        yield f"two machines have the label {label!r}: give each its own"
    for index, machine in enumerate(config.machines):
        if not LABEL.fullmatch(machine.label):
            yield f"machines[{index}].label = {machine.label!r} does not fit: use letters, digits"
        if _ip(machine.address) is None:
            yield f"machines[{index}].address = {machine.address!r} is not an IPv4 address"
    if config.on_ray:
        for address in _doubles(machine.address for machine in config.machines):
            yield f"two machines have the address {address}: give each its own"


def _cells(config: ClusterConfig) -> Iterator[str]:
    if not config.cells:
        yield "cells is empty: a cluster needs at least one [[cells]]"
    for name in _doubles(cell.name for cell in config.cells):
        yield f"two cells have the name {name!r}: give each its own"
    for index, cell in enumerate(config.cells):
        if not NAME.fullmatch(cell.name):
            yield f"cells[{index}].name = {cell.name!r} does not fit: use small letters, digits"
    for one, other in combinations(config.cells, 2):
        if abs(one.port - other.port) < 2 and _may_meet(config, one, other):
            yield (
                f"cells {one.name} and {other.name} use ports {one.port} and {other.port} on one "
                "machine: a hub needs its port and the next; choose ports that are 2 apart"
            )


def _may_meet(config: ClusterConfig, one: CellConfig, other: CellConfig) -> bool:
    """Whether two hubs may run on one machine."""
    apart = one.machines and other.machines and not set(one.machines) & set(other.machines)
    return not (config.on_ray and apart)


def _services(config: ClusterConfig, run: Config) -> Iterator[str]:
    workers = workers_of(run)
    for name, service in config.services.items():
        path = f"services.{name}"
        if name not in workers:
            yield f"{path} is not a service of the profile {config.profile!r}{near(name, workers)}"
        elif host := workers[name].host:
            yield f"{path} shares the processes of {host}: write services.{host} instead"
        else:
            yield from _counts(path, service, workers[name].replicas)


def _counts(path: str, service: ServiceConfig, replicas: int) -> Iterator[str]:
    least = replicas if service.minimum is None else service.minimum
    if service.maximum is not None and service.maximum < least:
        yield f"{path}.minimum = {least} is above {path}.maximum = {service.maximum}"
    if not least and service.maximum:
        yield f"{path}.minimum = 0 switches the service off: then {path}.maximum must be 0 too"
    if service.gpus > 1 and service.gpus % 1:
        yield f"{path}.gpus = {service.gpus:g} does not fit: give whole GPUs, or a part of one"


def _labels(config: ClusterConfig) -> Iterator[str]:
    """Yield each use of a label that no machine has."""
    known = [machine.label for machine in config.machines]
    uses = [(f"cells.{cell.name}", cell.machines) for cell in config.cells]
    uses += [(f"services.{name}", service.machines) for name, service in config.services.items()]
    for path, labels in uses:
        for label in labels:
            if label not in known:
                yield f"{path}.machines: unknown machine {label!r}{near(label, known)}"
    heads = {machine.label for machine in config.machines if machine.head}
    for cell in config.cells:
        if config.on_ray and cell.machines and set(cell.machines) <= heads:
            yield f"cells.{cell.name}.machines: no hub runs on the head; name another machine"


def _engine(config: ClusterConfig) -> Iterator[str]:
    if not config.on_ray:
        for machine in config.machines:
            if (ip := _ip(machine.address)) is not None and not ip.is_loopback:
                yield (
                    f"machine {machine.label!r} has the address {machine.address}, but engine is "
                    "local: add a table [ray], or leave the address out"
                )
        return
    heads = [machine.label for machine in config.machines if machine.head]
    if len(heads) != 1:
        yield f"{len(heads)} machines are the head: set `head = true` for exactly one"
    if not config.keys:
        yield "keys is missing: several machines need keys (`abhinaya cluster keys`)"
    if config.ray is not None:
        yield from _ray(config.ray)


def _ray(ray: RayConfig) -> Iterator[str]:
    first, last = ray.ports if len(ray.ports) == 2 else (0, 0)
    if not (first >= 1024 and first + RAY_PORTS <= last <= 65_535) or first <= ray.port <= last:
        yield (
            f"ray.ports = {list(ray.ports)} does not fit: write [first, last] with at least "
            f"{RAY_PORTS} ports between 1024 and 65535, without ray.port = {ray.port}"
        )
    host = ray.redis.rpartition(":")[0]
    ip = _ip(host.strip("[]"))
    if host and not host.startswith("rediss://") and (ip is None or not ip.is_loopback):
        yield (
            f"ray.redis = {ray.redis!r} is open to the network: a program there could run code on "
            "all machines; use an address of loopback, or rediss:// with certificates"
        )
    if ray.redis and not host:
        yield f"ray.redis = {ray.redis!r} does not fit: write HOST:PORT"


def _gateway(config: ClusterConfig) -> Iterator[str]:
    if (gateway := config.gateway) is None:
        return
    if bool(gateway.tls_cert) != bool(gateway.tls_key):
        yield "gateway: TLS needs a certificate and its key: set tls_cert and tls_key"
    ip = _ip(gateway.host)
    if not gateway.tls_cert and not (gateway.host == "localhost" or (ip and ip.is_loopback)):
        yield f"gateway.host = {gateway.host!r} is open to the network: set tls_cert and tls_key"
    for cell in config.cells:
        if gateway.port - cell.port in (0, 1):
            yield f"gateway.port = {gateway.port} is a port of the hub of cell {cell.name}"


def _ip(address: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(address)
    except ValueError:
        return None


def _doubles(values: Iterable[str]) -> list[str]:
    return [value for value, n in Counter(values).items() if n > 1]
