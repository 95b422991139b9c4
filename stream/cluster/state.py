"""The folder of a cluster's controller: what outlives it, and how commands reach it.

lock          held by the controller: there is one
cells.json    the map of cells; gateways and programs read it
cluster.json  the cluster that shall run: `abhinaya cluster up` writes it, also for a controller
              that runs
wishes.json   what `scale` and `down` ask for
status.json   what the controller sees, written every second
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from abhinaya.models.text import pack, unpack
from abhinaya.stream.cells.map import CellMap, decode, encode
from abhinaya.stream.cluster.actions import Wishes
from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.errors import ConfigError, ProcessError

T = TypeVar("T")

FRESH_S: Final = 10.0
"""An older status is not that of a controller that runs."""


class CellStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A cell, as `abhinaya cluster status` shows it."""

    name: str
    state: str
    endpoint: str = ""
    answers: bool = False
    fronts: int = 0
    open_segments: int = 0
    waiting: int = 0
    """Segments that wait for a node."""
    oldest_s: float = 0.0
    nodes: dict[str, int] = {}
    """By service: nodes that are ready."""
    wanted: dict[str, int] = {}
    """By service: nodes that it shall have."""


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A process."""

    name: str
    stage: str
    machine: str = ""
    restarts: int = 0
    error: str = ""


class MachineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A machine."""

    label: str
    address: str
    cpus: float
    gpus: float
    head: bool
    alive: bool
    version: str = ""


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All that the controller sees."""

    cluster: str
    time: float
    """Unix time."""
    epoch: int = 0
    machines: tuple[MachineStatus, ...] = ()
    cells: tuple[CellStatus, ...] = ()
    processes: tuple[ProcessStatus, ...] = ()
    faults: tuple[str, ...] = ()


class State:
    """The files in the folder. What cannot be written is an error; each file is replaced whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stamps: dict[str, tuple[int, int]] = {}

    @property
    def map_file(self) -> Path:
        """The map of cells, for gateways."""
        return self.folder / "cells.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the controller.

        Raises:
            ConfigError: another controller holds it, or the folder cannot be used.

        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (self.folder / "lock").open("a+")
        except OSError as error:
            reason = f"cannot be used: {error.strerror}"
            raise ConfigError(f"state = {str(self.folder)!r}", reason, "name another") from error
        with file:
            if not _lock(file.fileno()):
                raise ConfigError(
                    str(self.folder),
                    "has a controller that runs",
                    "`abhinaya cluster status` shows it, and `down` ends it",
                )
            yield

    def runs(self) -> bool:
        """Whether a controller holds the lock."""
        try:
            with (self.folder / "lock").open("a+") as file:
                return not _lock(file.fileno())
        except OSError:
            return False

    def read_map(self) -> CellMap | None:
        """Return the map that was published last; None before the first.

        Raises:
            NetworkError: it is damaged.

        """
        try:
            return decode(self.map_file.read_bytes(), self.map_file)
        except FileNotFoundError:
            return None

    def write_map(self, cells: CellMap) -> None:
        """Publish a map."""
        self._write("cells.json", encode(cells))

    def read_cluster(self) -> Cluster | None:
        """Return the cluster that shall run; None if it was never up."""
        return self._read("cluster.json", Cluster)

    def write_cluster(self, cluster: Cluster) -> None:
        """Write the cluster that shall run."""
        self._write("cluster.json", pack(cluster))

    def read_wishes(self) -> Wishes:
        """Return what commands ask for."""
        return self._read("wishes.json", Wishes) or Wishes()

    def write_wishes(self, wishes: Wishes) -> None:
        """Ask the controller for something."""
        self._write("wishes.json", pack(wishes))

    def read_status(self) -> ClusterStatus | None:
        """Return the latest status; None before the first."""
        return self._read("status.json", ClusterStatus)

    def write_status(self, status: ClusterStatus) -> None:
        """Write the status."""
        self._write("status.json", msgspec.json.encode(status))

    def changed(self, name: str) -> bool:
        """Whether a file is another one than at the last call."""
        try:
            found = (self.folder / name).stat()
            stamp = found.st_mtime_ns, found.st_ino
        except OSError:
            return False
        before, self._stamps[name] = self._stamps.get(name), stamp
        return before != stamp

    def _read(self, name: str, kind: type[T]) -> T | None:
        path = self.folder / name
        try:
            return unpack(path.read_bytes(), kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            remedy = "name another folder as `state`, or correct its rights"
            raise ConfigError(str(path), f"cannot be read: {error.strerror}", remedy) from error
        except ValueError as error:
            raise ConfigError(str(path), f"cannot be read: {error}", "remove it") from error

    def _write(self, name: str, data: bytes) -> None:
        unfinished = self.folder / f"{name}.part"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished.write_bytes(data)
            unfinished.replace(self.folder / name)
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise ProcessError(str(self.folder / name), reason) from error


def _lock(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def fault_of_change(old: Cluster, new: Cluster) -> str:
    """Return why a running cluster cannot become another one; empty if it can."""
    now, then = old.config, new.config
    fixed: list[tuple[str, Any, Any]] = [
        (name, getattr(now, name), getattr(then, name))
        for name in ("name", "keys", "on_ray", "gateway", "ray")
    ]
    fixed.append(("profile or settings", old.run, new.run))
    ports = {cell.name: cell for cell in now.cells}
    for cell in then.cells:
        if cell.name in ports:
            fixed.append((f"cells.{cell.name}", ports[cell.name], cell))
    changed = [name for name, before, after in fixed if before != after]
    return f"{', '.join(changed)} cannot change while it runs" if changed else ""
