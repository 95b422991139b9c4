"""Loads cluster.toml; reports all faults at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from abhinaya.models.fields import Faults, build
from abhinaya.stream.cluster.config import Cluster, ClusterConfig, RayConfig
from abhinaya.stream.cluster.conflicts import conflicts
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.profile import Override, profiles, trace


def load(path: Path) -> Cluster:
    """Return the cluster that a file describes.

    Raises:
        ConfigError: names every fault of the file at once.

    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
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
        config = _anchored(config, path.resolve().parent)
        try:
            run = _profile(config, path)
        except ConfigError as error:
            faults.add(f"profile = {config.profile!r}: {error.reason or error.subject}")
        for text in conflicts(config, run):
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


def _anchored(config: ClusterConfig, folder: Path) -> ClusterConfig:
    """Make the paths absolute: they are relative to the folder of the file."""

    def at(name: str) -> str:
        return str(folder / Path(name).expanduser()) if name else ""

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
    of_package = config.profile in profiles()
    return replace(
        config,
        profile=config.profile if of_package else at(config.profile),
        keys=at(config.keys),
        state=at(config.state),
        gateway=gateway,
        ray=ray,
    )
