"""The loop of a cluster's controller: looks, decides, acts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from abhinaya.stream.clock import unix_time
from abhinaya.stream.cluster import keys
from abhinaya.stream.cluster.actions import Action, Move, Report, Seen, Start, Stop
from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.controller import Controller
from abhinaya.stream.cluster.processes import parse
from abhinaya.stream.cluster.show import status_of
from abhinaya.stream.cluster.state import State
from abhinaya.stream.cluster.watch import Watch
from abhinaya.stream.errors import AbhinayaError, NetworkError, ProcessError
from abhinaya.stream.run.placement.base import Placed, Placement

_LOG = logging.getLogger("abhinaya.cluster")

PAUSE_S: Final = 0.2
"""Seconds between two looks at the processes."""

STATUS_S: Final = 1.0
"""Seconds between two statuses."""


def run(
    cluster: Cluster,
    placement: Placement,
    say: Callable[[str], None] = _LOG.warning,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Control a cluster until `down` has ended it, or until `stopped`.

    Args:
        cluster: the cluster.
        placement: what starts its processes; it is closed at the end.
        say: gets each change of a cell, each death of a node, and each fault once.
        stopped: whether to leave; the map of cells then stays as it is.

    Raises:
        ConfigError: another controller has the folder of the state.
        NetworkError: a key is missing, or the map of cells is damaged.
        ProcessError: the state cannot be written at the start.

    """
    state = State(cluster.state)
    with state.locked():
        loop = Loop(cluster, placement, state, say)
        try:
            while not loop.over and not stopped():
                loop.turn(time.monotonic(), unix_time())
                loop.wait()
        finally:
            loop.close()


class Loop:
    """One controller at work."""

    def __init__(
        self, cluster: Cluster, placement: Placement, state: State, say: Callable[[str], None]
    ) -> None:
        self._cluster, self._placement, self._state, self._say = cluster, placement, state, say
        self._controller = Controller(cluster, _keys(cluster), state.read_map())
        self._published = self._controller.cells
        self._watch = Watch(cluster.keys, cluster.run.supervise.silent_s)
        self._phases: Mapping[str, str] = {}
        self._faults: dict[str, str] = {}
        self._unusable: dict[str, str] = {}
        """Why what a command has written cannot be used, by file."""
        self._unwritten: dict[str, str] = {}
        """Why the latest status could not be written."""
        self._next_status = 0.0
        self._seen: Seen | None = None
        state.write_cluster(cluster)
        state.changed("cluster.json")

    @property
    def over(self) -> bool:
        """Whether the cluster is down."""
        return self._controller.over

    def turn(self, now: float, wall: float) -> None:
        """Look, decide and act once.

        What fails is said, and tried again at the next turn: what runs goes on without it.
        """
        self._obey()
        faults = self._unusable | self._unwritten
        actions: list[Action] = []
        with _noting(faults, "engine"):
            self._seen = self._look(now, wall)
            actions = self._controller.step(self._seen)
        with _noting(faults, "map"):
            self._publish()
        for action in actions:
            with _noting(faults, f"act {action}"):
                self._act(action)
        with _noting(faults, "keys"):
            self._watch.follow(self._controller.hubs())
        self._tell(self._controller.faults | faults)
        if now >= self._next_status or self.over:
            self._next_status = now + STATUS_S
            status = status_of(self._cluster, self._controller, self._seen, self._faults, wall)
            self._unwritten.clear()
            with _noting(self._unwritten, "status"):
                self._state.write_status(status)

    def wait(self) -> None:
        """Wait for the next turn."""
        self._watch.wait(PAUSE_S)

    def close(self) -> None:
        """End the processes if the cluster is down, and let go of the engine."""
        self._watch.close()
        self._placement.close(kill=self.over)

    def _look(self, now: float, wall: float) -> Seen:
        placed = self._placement.look(now)
        self._say_restarts(placed)
        return Seen(now, wall, self._placement.machines(), placed, self._watch.read(now))

    def _say_restarts(self, placed: Mapping[str, Placed]) -> None:
        """Say which hub or gateway has died; deaths of nodes are said where they are reported."""
        before = self._seen.placed if self._seen else {}
        for name, process in placed.items():
            known, named = before.get(name), parse(name)
            is_node = named is not None and bool(named.service)
            if known is not None and process.restarts > known.restarts and not is_node:
                reason = process.error.removeprefix(f"{name}: ")
                self._say(f"{name} has died: {reason}; it is started again")

    def _publish(self) -> None:
        """Write the map of cells if it has changed, before what has changed is done."""
        if self._controller.cells is not self._published and self._controller.cells is not None:
            self._state.write_map(self._controller.cells)
            self._published = self._controller.cells

    def _act(self, action: Action) -> None:
        match action:
            case Start(process=process):
                self._placement.start(process)
            case Stop(name=name, patience_s=patience_s):
                self._placement.stop(name, patience_s)
            case Move(name=name, hub=hub):
                self._placement.move(name, hub)
            case Report(cell=cell, died=died, stopped=stopped):
                self._watch.report(cell, died)
                if not stopped:
                    self._say(f"{died.name} has died: {died.reason}")

    def _obey(self) -> None:
        """Take over what commands have written; note what cannot be used, until it is replaced."""
        for name, take in (
            ("wishes.json", self._take_wishes),
            ("cluster.json", self._take_cluster),
        ):
            if self._state.changed(name):
                self._unusable.pop(name, None)
                try:
                    take()
                except AbhinayaError as error:
                    self._unusable[name] = str(error)

    def _take_wishes(self) -> None:
        self._controller.wishes = self._state.read_wishes()

    def _take_cluster(self) -> None:
        cluster = self._state.read_cluster() or self._cluster
        self._controller.change(cluster, _keys(cluster))
        self._cluster = cluster

    def _tell(self, faults: Mapping[str, str]) -> None:
        """Say what is new: each state of a cell, and each fault when it begins and ends."""
        phases = self._controller.phases()
        hubs = self._controller.hubs()
        for cell, phase in phases.items():
            if phase not in (self._phases.get(cell), "starting", "closing"):
                where = f" at {hubs[cell][0]}" if phase == "open" else ""
                self._say(f"cell {cell} is {phase}{where}")
        for name, text in faults.items():
            if name not in self._faults:
                self._say(text)
        for name in self._faults.keys() - faults.keys():
            self._say(f"over: {self._faults[name]}")
        self._phases, self._faults = phases, dict(faults)


@contextmanager
def _noting(faults: dict[str, str], name: str) -> Iterator[None]:
    """Note an error of the body, and go on."""
    try:
        yield
    except (NetworkError, ProcessError) as error:
        faults[name] = str(error)


def _keys(cluster: Cluster) -> dict[str, str]:
    """Return the public key of the hub of each cell."""
    return {cell.name: keys.public_key(cluster, cell.name) for cell in cluster.config.cells}
