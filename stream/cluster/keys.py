"""The CURVE keys of a cluster: one pair for each cell's hub, one for each role of a client.

    KEYS/cells/CELL/hub.key_secret     on the machines where the hub of that cell may run
    KEYS/cells/CELL/*.key              there too: the clients that it admits
    KEYS/clients/ROLE.key_secret       on the machines that need the role

A further client is a pair in KEYS/clients, made by `abhinaya keys`: `make` gives its public key to
every cell.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.ray_token import check_token
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.keys import (
    HUB,
    ROLES,
    Keys,
    make_keys,
    read_pair,
    read_public,
)

OPERATOR: Final = "operator"


def cell_keys(keys: Path, cell: str) -> Path:
    """Return the folder of keys that the hub of a cell reads."""
    return keys / "cells" / cell


def client_keys(keys: Path) -> Path:
    """Return the folder with the pairs of the clients."""
    return keys / "clients"


def public_key(cluster: Cluster, cell: str) -> str:
    """Return the public key of the hub of a cell; empty without keys.

    Raises:
        NetworkError: the file is missing or damaged.

    """
    if cluster.keys is None:
        return ""
    return read_public(cell_keys(cluster.keys, cell) / f"{HUB}.key").public


def make(cluster: Cluster) -> list[Path]:
    """Make the keys that are missing; return the new files. A second call changes nothing.

    Raises:
        NetworkError: the cluster has no folder of keys, or one of them is open to others.

    """
    if cluster.keys is None:
        raise NetworkError("keys", "is not set in the cluster's file", 'write keys = "FOLDER"')
    clients, new = client_keys(cluster.keys), []
    try:
        if cluster.config.ray is not None:
            token = Path(cluster.config.ray.token_file)
            new += [token] if check_token(token, make=True) else []
        for role in ROLES:
            new += _pair(clients, role, role)
        for cell in cluster.config.cells:
            folder = cell_keys(cluster.keys, cell.name)
            new += _pair(folder, HUB)
            for file in sorted(clients.glob("*.key")):
                new += _copy(file, folder / file.name)
    except OSError as error:
        raise NetworkError(str(cluster.keys), f"cannot hold keys: {error.strerror}") from error
    return new


def check(cluster: Cluster, label: str = "") -> None:
    """Check the keys that a machine of the cluster needs; without a label, all of them.

    Raises:
        NetworkError: names every key that is missing, damaged, or open to others.

    """
    missing: list[str] = []
    faults = [str(fault) for fault in _faults(cluster, label, missing)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        remedy = "`abhinaya cluster keys` makes keys once; copy them here from where they were made"
        faults.insert(0, str(NetworkError(", ".join(missing), f"{verb} missing", remedy)))
    if faults:
        raise NetworkError("; ".join(faults))


def _faults(cluster: Cluster, label: str, missing: list[str]) -> Iterator[NetworkError]:
    """Yield what is wrong with keys that are there; add those that are not to `missing`."""
    if cluster.keys is None:
        return
    heads = {machine.label for machine in cluster.config.machines if machine.head}
    clients = client_keys(cluster.keys)
    names = ["node"]
    if not label or label in heads:
        names += [OPERATOR, *(("input", "reader") if cluster.config.gateway else ())]
    pairs = [(clients, name) for name in names]
    for cell in cluster.config.cells:
        folder = cell_keys(cluster.keys, cell.name)
        if not label or (label not in heads and label in (cell.machines or (label,))):
            pairs.append((folder, HUB))
        if not label or label in heads:
            missing += [str(f) for f in (folder / f"{HUB}.key",) if not f.exists()]
    for folder, name in pairs:
        if not (folder / f"{name}.key_secret").exists():
            missing.append(str(folder / f"{name}.key_secret"))
            continue
        try:
            read_pair(Keys(folder, name))
        except NetworkError as error:
            yield error


def _pair(folder: Path, name: str, role: str = "") -> list[Path]:
    secret = folder / f"{name}.key_secret"
    if secret.exists():
        read_pair(Keys(folder, name))
        return []
    make_keys(folder, name, role)
    return [secret]


def _copy(file: Path, to: Path) -> list[Path]:
    read_public(file)
    if to.exists() and to.read_bytes() == file.read_bytes():
        return []
    unfinished = to.with_name(f"{to.name}.part")
    shutil.copy(file, unfinished)
    unfinished.chmod(0o600)
    unfinished.rename(to)
    return [to]
