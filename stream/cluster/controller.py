"""Decides what the processes of a cluster shall be, and what the map of cells says. Pure.

The loop (`main.py`) calls `step` with what it sees, and carries out the actions. All is decided
from the present state, so that a new controller goes on where another one died.

A cell begins when its hub answers and each service has a node: then the map says `open`. One that
is removed is `draining` until it has no front and no open segment; then the map says `gone`, its
nodes finish and stop, and its hub after them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from abhinaya.stream.cells.map import Cell, CellMap
from abhinaya.stream.cluster.actions import (
    Action,
    Move,
    Report,
    Seen,
    Start,
    Stop,
    View,
    Wishes,
)
from abhinaya.stream.cluster.config import CellConfig, Cluster, Service
from abhinaya.stream.cluster.processes import (
    GATEWAY,
    Processes,
    endpoint,
    hub_name,
    lacking,
    node_name,
    parse,
)
from abhinaya.stream.cluster.scaling import Load, Scaler
from abhinaya.stream.run.placement.base import Placed, Process
from abhinaya.stream.wire.messages import Died

IDLE_S: Final = 10.0
"""Seconds that a draining cell must be without fronts and segments."""

RETRY_S: Final = 60.0
"""Seconds after which a process that was given up is tried again."""

HUB_PATIENCE_S: Final = 5.0
"""Seconds that a hub has to exit."""


Phase = Literal["starting", "open", "draining", "closing", "gone"]


@dataclass(slots=True)
class _Cell:
    """A cell, and what was decided about it."""

    name: str
    phase: Phase = "starting"
    endpoint: str = ""
    key: str = ""
    idle_since: float | None = None
    scalers: dict[str, Scaler] = field(default_factory=dict)
    reported: dict[str, str] = field(default_factory=dict)
    """By service that is given up: the incarnation of the hub that knows."""


class Controller:
    """Decides for one cluster.

    Args:
        cluster: the cluster.
        keys: public key of the hub of each cell; "" without keys.
        before: the map that was published last; None if there was none.

    """

    def __init__(
        self, cluster: Cluster, keys: Mapping[str, str], before: CellMap | None = None
    ) -> None:
        self.wishes = Wishes()
        self.cells = before
        """The map to publish; another object after each change."""
        self.faults: dict[str, str] = {}
        """What is wrong now, by a short name; the same text as long as it lasts."""
        self._cells: dict[str, _Cell] = {}
        for cell in before.cells if before else ():
            if cell.state != "gone":
                phase: Phase = "open" if cell.state == "open" else "draining"
                self._cells[cell.name] = _Cell(cell.name, phase, cell.endpoint, cell.key)
        self._before: dict[str, Placed] = {}
        """What was placed at the step before."""
        self._tried: dict[str, float] = {}
        """When a process that was given up was seen or tried first."""
        self._services: Mapping[str, Service] = {}
        self.change(cluster, keys)

    def change(self, cluster: Cluster, keys: Mapping[str, str]) -> None:
        """Go on with another version of the cluster's file."""
        self._cluster, self._keys = cluster, keys
        before, self._services = self._services, cluster.services()
        self._processes = Processes(cluster)
        self._changed = {n for n in before if self._services.get(n) != before[n]}
        self._wanted = {cell.name: cell for cell in cluster.config.cells}
        for name in self._wanted:
            self._cells.setdefault(name, _Cell(name))
        for cell in self._cells.values():
            cell.scalers.clear()

    @property
    def over(self) -> bool:
        """Whether all cells are gone, as `down` has asked for."""
        gone = all(cell.phase == "gone" for cell in self._cells.values())
        return bool(self.wishes.down) and gone and GATEWAY not in self._before

    def phases(self) -> dict[str, Phase]:
        """Return the phase of each cell."""
        return {name: cell.phase for name, cell in self._cells.items()}

    def hubs(self) -> dict[str, tuple[str, str]]:
        """Return endpoint and public key of each hub that is known, by cell."""
        cells = self._cells.values()
        return {
            cell.name: (cell.endpoint, cell.key)
            for cell in cells
            if cell.endpoint and cell.phase != "gone"
        }

    def targets(self, cell: str) -> dict[str, int]:
        """Return how many nodes each service of a cell shall have."""
        return {name: scaler.target for name, scaler in self._cells[cell].scalers.items()}

    def step(self, seen: Seen) -> list[Action]:
        """Return what to do now."""
        self.faults = {}
        actions: list[Action] = list(self._deaths(seen))
        for placed in seen.placed.values():
            found = parse(placed.name)
            if found is not None and found.cell not in self._cells:
                self._cells[found.cell] = _Cell(found.cell, "closing")
        for cell in self._cells.values():
            actions += self._cell(seen, cell)
            actions += self._given_up(seen, cell)
        actions += self._gateway(seen)
        self._renew_map(seen)
        self._look_for_faults(seen)
        self._before = dict(seen.placed)
        self._changed = set()
        return actions

    # --- cells ------------------------------------------------------------------------------------

    def _cell(self, seen: Seen, cell: _Cell) -> Iterator[Action]:
        config = self._wanted.get(cell.name)
        wanted = config is not None and not self.wishes.down
        hub = seen.placed.get(hub_name(cell.name))
        if config is not None and hub is not None and hub.address:
            cell.endpoint = endpoint(hub.address, config.port)
            cell.key = self._keys[cell.name]
        if wanted and config is not None:
            yield from self._run(seen, cell, config)
        elif cell.phase in ("open", "draining") and self.wishes.down != "now":
            yield from self._drain(seen, cell, hub)
        elif cell.phase != "gone":
            yield from self._close(seen, cell)

    def _run(self, seen: Seen, cell: _Cell, config: CellConfig) -> Iterator[Action]:
        """Keep a cell running; open it when it is complete."""
        hub = seen.placed.get(hub_name(cell.name))
        if cell.phase in ("closing", "gone"):
            cell.phase = "starting"  # it is wanted again; what was asked to stop is replaced
        if cell.phase == "draining":
            cell.phase = "open"
        cell.idle_since = None
        yield from self._ensure(seen, self._processes.hub(config))
        if hub is not None and hub.address:
            yield from self._keep_nodes(seen, cell)
        if cell.phase == "starting" and self._complete(seen, cell, hub):
            cell.phase = "open"

    def _drain(self, seen: Seen, cell: _Cell, hub: Placed | None) -> Iterator[Action]:
        """Let a cell finish its calls; close it when it has none."""
        cell.phase = "draining"
        view = seen.views.get(cell.name, View())
        busy = view.status is None or view.status.fronts or view.status.open_segments
        if hub is None or hub.stage in ("ended", "given up"):
            cell.phase = "closing"
        elif busy or not self._answers(seen, cell):
            cell.idle_since = None
        elif cell.idle_since is None:
            cell.idle_since = seen.now
        elif seen.now - cell.idle_since >= IDLE_S:
            cell.phase = "closing"
        if cell.phase == "draining" and hub is not None and hub.address:
            yield from self._keep_nodes(seen, cell)

    def _close(self, seen: Seen, cell: _Cell) -> Iterator[Action]:
        """Stop the nodes of a cell, then its hub."""
        cell.phase = "closing"
        now = self.wishes.down == "now"
        nodes = self._nodes(seen, cell)
        patience_s = 0.0 if now else self._cluster.run.deadlines.task_s
        for placed in nodes:
            yield Stop(placed.name, patience_s)
        hub = seen.placed.get(hub_name(cell.name))
        if hub is not None and (now or not nodes):
            yield Stop(hub.name, 0.0 if now else HUB_PATIENCE_S)
        if hub is None and not nodes:
            cell.phase = "gone"

    def _gateway(self, seen: Seen) -> Iterator[Action]:
        """Keep the gateway running while a cell has calls."""
        process, phases = self._processes.gateway(), self.phases().values()
        if process is not None and not {"open", "draining"}.isdisjoint(phases):
            yield from self._ensure(seen, process)
        elif GATEWAY in seen.placed and self.wishes.down:
            yield Stop(GATEWAY, 0.0 if self.wishes.down == "now" else HUB_PATIENCE_S)

    def _answers(self, seen: Seen, cell: _Cell) -> bool:
        """Whether the hub of a cell is heard."""
        view = seen.views.get(cell.name, View())
        return seen.now - view.heard <= self._cluster.run.supervise.silent_s

    def _complete(self, seen: Seen, cell: _Cell, hub: Placed | None) -> bool:
        """Whether a cell can take calls: its hub answers, and each service has a node."""
        view = seen.views.get(cell.name, View())
        if hub is None or hub.stopping or view.status is None or not self._answers(seen, cell):
            return False
        stopping = {placed.name for placed in seen.placed.values() if placed.stopping}
        up = {load.service for load in view.status.nodes if load.node not in stopping}
        needed = {
            s for service in self._services.values() if service.minimum for s in service.gives
        }
        return needed <= up

    # --- nodes ------------------------------------------------------------------------------------

    def _nodes(self, seen: Seen, cell: _Cell, service: str = "") -> list[Placed]:
        """Return the nodes of a cell, in order; also those that are stopping."""
        found = []
        for placed in seen.placed.values():
            named = parse(placed.name)
            if named is None or named.cell != cell.name or not named.service:
                continue
            if service in ("", named.service):
                found.append((named, placed))
        return [placed for _, placed in sorted(found, key=lambda pair: pair[0])]

    def _keep_nodes(self, seen: Seen, cell: _Cell) -> Iterator[Action]:
        for service in self._services:
            nodes = self._nodes(seen, cell, service)
            stays = [one for one in nodes if one.stage != "ended" and not one.stopping]
            target = self._target(seen, cell, service, stays)
            for placed in stays:
                if placed.hub != cell.endpoint and placed.machine:
                    yield Move(placed.name, cell.endpoint)
                if service in self._changed and placed.stage == "waiting for room":
                    yield Stop(placed.name, 0.0)  # it waits for what it needed before
                yield from self._retry(seen, self._node(cell, placed.name), placed)
            for placed in sorted(stays, key=_worth)[: max(0, len(stays) - target)]:
                yield Stop(placed.name, self._cluster.run.deadlines.task_s)
            taken = {placed.name for placed in nodes}
            free = (
                n
                for n in range(len(taken) + target)
                if node_name(cell.name, service, n) not in taken
            )
            for number in list(free)[: max(0, target - len(stays))]:
                yield Start(self._node(cell, node_name(cell.name, service, number)))
        for placed in self._nodes(seen, cell):
            named = parse(placed.name)
            if named is not None and named.service not in self._services:
                yield Stop(placed.name, self._cluster.run.deadlines.task_s)

    def _node(self, cell: _Cell, name: str) -> Process:
        named = parse(name)
        assert named is not None
        return self._processes.node(cell.name, named.service, named.number, cell.endpoint, cell.key)

    def _target(self, seen: Seen, cell: _Cell, name: str, nodes: Sequence[Placed]) -> int:
        """Return how many nodes of a service a cell shall have."""
        service = self._services[name]
        scaler = cell.scalers.get(name)
        if scaler is None:
            here = max(service.minimum, min(service.maximum, len(nodes)))
            scaler = cell.scalers[name] = Scaler(self._cluster.config.scaling, here)
        if (asked := self.wishes.scale.get(name)) is not None:
            scaler.target = asked
            return asked
        status = seen.views.get(cell.name, View()).status
        if status is None or not self._answers(seen, cell):
            return scaler.target
        busy = {load.node for load in status.nodes if load.held and load.service in service.gives}
        up = {load.node for load in status.nodes}
        load = Load(
            oldest_s=max((status.oldest_s.get(s, 0.0) for s in service.gives), default=0.0),
            busy=len(busy),
            coming=any(placed.name not in up for placed in nodes),
        )
        return scaler.decide(seen.now, load, service.minimum, service.maximum)

    # --- processes --------------------------------------------------------------------------------

    def _ensure(self, seen: Seen, process: Process) -> Iterator[Action]:
        placed = seen.placed.get(process.name)
        if placed is None:
            yield Start(process)
        else:
            yield from self._retry(seen, process, placed)

    def _retry(self, seen: Seen, process: Process, placed: Placed) -> Iterator[Action]:
        """Try a process again that was given up, after a while."""
        if placed.stage != "given up":
            self._tried.pop(process.name, None)
        elif seen.now - self._tried.setdefault(process.name, seen.now) >= RETRY_S:
            self._tried[process.name] = seen.now
            yield Start(process)

    def _deaths(self, seen: Seen) -> Iterator[Report]:
        """Report each node that is not the process any more that it was, unless the hub knows."""
        for name, before in self._before.items():
            named, placed = parse(name), seen.placed.get(name)
            if named is None or not named.service:
                continue
            view = seen.views.get(named.cell, View())
            same = placed is not None and _process(placed) == _process(before)
            if same or not before.incarnation or (name, before.incarnation) in view.down:
                continue
            reason = (placed.error if placed else "") or "was stopped"
            stopped = before.stopping or (placed is not None and placed.stopping)
            yield Report(named.cell, Died(name=name, reason=reason), stopped)

    def _given_up(self, seen: Seen, cell: _Cell) -> Iterator[Report]:
        """Report to each hub the services whose every node is given up: it need not wait."""
        status = seen.views.get(cell.name, View()).status
        for name, service in self._services.items():
            nodes = self._nodes(seen, cell, name)
            if not nodes or status is None or any(node.stage != "given up" for node in nodes):
                cell.reported.pop(name, None)
            elif cell.reported.get(name) != status.hub:
                cell.reported[name] = status.hub
                node = nodes[0]
                died = Died(name=node.name, reason=node.error, final=True, services=service.gives)
                yield Report(cell.name, died)

    # --- the map, and what is wrong ---------------------------------------------------------------

    def _renew_map(self, seen: Seen) -> None:
        """Make a new map if the cells have changed."""
        cells = tuple(
            Cell(
                name=cell.name,
                endpoint=cell.endpoint,
                key=cell.key,
                state=cell.phase if cell.phase in ("open", "draining") else "gone",
            )
            for cell in self._cells.values()
            if cell.phase != "starting" and cell.endpoint
        )
        before = self.cells
        if cells and (before is None or before.cells != cells):
            epoch = max((before.epoch if before else 0) + 1, int(seen.wall))
            self.cells = CellMap(epoch=epoch, cells=cells)

    def _look_for_faults(self, seen: Seen) -> None:
        for placed in seen.placed.values():
            if placed.stage == "given up":
                again = f"it is tried again every {RETRY_S:.0f} s"
                self.faults[placed.name] = f"{placed.name} was given up: {placed.error}; {again}"
            elif placed.stage == "waiting for room" and placed.name == GATEWAY:
                self.faults[GATEWAY] = "the gateway waits for room; lower gateway.cpus"
        for cell in self._cells.values():
            hub, view = seen.placed.get(hub_name(cell.name)), seen.views.get(cell.name, View())
            if hub is not None and hub.stage == "running" and view.fault:
                self.faults[f"{cell.name} silent"] = f"cell {cell.name}: {view.fault}"
        for machine in seen.machines:
            if not machine.alive:
                self.faults[f"machine {machine.label}"] = f"machine {machine.label} is lost"
        self.faults |= lacking(self._cluster, seen.machines, seen.placed)


def _process(placed: Placed) -> tuple[str, str]:
    """Return what tells two processes of one name apart."""
    return placed.machine, placed.incarnation


def _worth(placed: Placed) -> tuple[bool, bool, int]:
    """Return what to stop first: what does not run, then the highest number."""
    named = parse(placed.name)
    assert named is not None
    return placed.stage == "running", placed.stage == "starting", -named.number
