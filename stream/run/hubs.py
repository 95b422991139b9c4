"""The hubs of a run: the one that it starts, or those of the cells that others run.

`Follow` decides which cell each front has. `Hubs` has a link to the hub of each cell in use. It
watches whether the hub answers, and moves the fronts of a lost cell to others. A hub that others
run cannot watch the fronts of this machine, so `Hubs` does that too.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

import zmq

from abhinaya.stream.cells.follow import Follow
from abhinaya.stream.cells.map import Cell
from abhinaya.stream.cells.source import FixedCells, check_cells
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.run.distant import Hub, HubWatch, LocalBeats, is_hopeless
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.run.plan import Plan
from abhinaya.stream.run.recorder import Recorder
from abhinaya.stream.run.supervisor import Supervisor
from abhinaya.stream.wire.child import Stage, read_beat
from abhinaya.stream.wire.messages import Activity, Event, FrontDown, Status

RETRY_S: Final = 10.0
"""After so long a hub that has refused the run is asked again."""

SHOWN: Final = 5
"""Hubs that do not answer which an error names."""


class Link:
    """The connection of a run to the hub of one cell."""

    def __init__(self, cell: Cell, recorder: Recorder, silent_s: float) -> None:
        self.cell, self.recorder = cell, recorder
        self.silence_s = 0.0
        """How long the hub, or one of its two ports, has not answered."""
        self.state = Hub.ANSWERS
        self.fault: NetworkError | None = None
        """Why the hub refuses this run, if it does."""
        self.refused_at = 0.0
        self.cause = ""
        """Why the hub does not let us in, as far as it was known at the last look."""
        self._watch = HubWatch(silent_s)
        self._heard: dict[str, float] = {}
        """When the hub has last heard each front; perhaps only one of its two ports is cut."""

    def hears(self, now: float, fronts: Collection[str]) -> None:
        """Note the fronts that the hub hears, as it says."""
        self._heard |= dict.fromkeys(self._heard.keys() & fronts, now)

    def look(self, now: float, fronts: Collection[str]) -> None:
        """Find out the state of the hub; `fronts` are those in its cell that are well."""
        self._heard = {front: self._heard.get(front, now) for front in fronts}
        self.silence_s = now - min(self.recorder.last_received, *self._heard.values(), now)
        if self.fault:
            self.silence_s = math.inf
        self.state = self._watch.look(self.silence_s)

    @property
    def silent(self) -> bool:
        """Whether the hub did not answer at the last look."""
        return self.state in (Hub.LOST, Hub.AWAY)

    @property
    def name(self) -> str:
        """How messages call the hub."""
        at = self.cell.endpoint
        return f"cell {self.cell.name} ({at})" if self.cell.name else f"the hub at {at}"


class Hubs:
    """The links of a run, and the cells of its fronts.

    Args:
        plan: the settings and the cells.
        directory: that of the run.
        run: its id.
        supervisor: has the fronts.
        warn: shows a text to the user.

    """

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        run: str,
        supervisor: Supervisor,
        warn: Callable[[str], None],
    ) -> None:
        self.own = plan.cells is None
        """Whether the run starts its hub itself."""
        self._source = plan.cells or FixedCells(f"ipc://{directory}")
        self._keys, self._config = plan.keys, plan.config.supervise
        self._directory, self._run, self._supervisor, self._warn = directory, run, supervisor, warn
        # names must be unique among all clients of a hub
        self.prefix = "" if self.own else f"{socket.gethostname()}-{os.getpid()}-"
        self._every = self.own or plan.calls is not None
        """Whether each open cell gets a link, before it has a front."""
        self.follow = Follow(self._source.current)
        self.ledger = Ledger()
        self._links: dict[str, Link] = {}
        self._poller = zmq.Poller()
        self._beats = LocalBeats(self._config.silent_s)
        self._fault_of_map = ""
        self._ever = False
        """Whether a hub has ever answered."""
        self._answered_at = time.monotonic()
        """When a hub has answered last, or none was in use."""
        self._refusals: dict[str, str] = {}
        """By cell: the last reason of a hub that refuses this run, which is shown once."""
        self._connect(time.monotonic())

    def open(self) -> list[str]:
        """Return the names of the cells that take new calls; any thread may ask."""
        cells, lost = self.follow.cells, self.follow.lost
        return [c.name for c in cells.cells if c.state == "open" and c.name not in lost]

    def choose(self, call: str) -> str:
        """Return the name of the cell for a new call, empty without cells; any thread may ask.

        Raises:
            NetworkError: no cell that answers is open.

        """
        cell = self.follow.choose(call)
        if cell is None:
            lost = ", ".join(sorted(self.follow.lost)) or "none"
            reason = f"none of them takes new calls; those that do not answer: {lost}"
            raise NetworkError("cells", reason, "wait, or start a cell")
        return cell.name

    # --- messages ---------------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> Iterator[tuple[str, Event | Activity]]:
        """Yield (cell, event) for each new event; see `Recorder.poll`.

        Raises:
            NetworkError: the only hub refuses this run.

        """
        self._poller.poll(math.ceil(1000 * timeout_s))
        asked = [(cell, link) for cell, link in self._links.items() if not link.fault]
        for cell, link in asked:
            try:
                for event in link.recorder.poll(0.0):
                    if isinstance(event, Status):
                        link.hears(time.monotonic(), event.fronts)
                    elif isinstance(event, FrontDown) and self._has_left(event.front, cell):
                        continue
                    yield cell, event
            except NetworkError as error:
                if len(self.follow.cells.cells) == 1:
                    raise
                link.fault, link.refused_at = error, time.monotonic()
                self._poller.unregister(link.recorder.socket)
                if self._refusals.get(cell) != str(error):
                    self._refusals[cell] = str(error)
                    self._warn(f"{link.name}: {error}; its calls go to other cells")

    def _has_left(self, front: str, cell: str) -> bool:
        return self.follow.has(front) and self.follow.cell_of(front).name != cell

    def died(
        self,
        name: str,
        reason: str,
        final: bool,
        services: tuple[str, ...] = (),
        reached: Mapping[str, int] | None = None,
    ) -> None:
        """Report a death to the hub of a front, or that of a node to our own hub."""
        link = self._links.get(self.follow.cell_of(name).name if self.follow.has(name) else "")
        if link is not None:
            link.recorder.died(name, reason, final, services, reached)

    def forget(self, front: str) -> None:
        """Forget the death of a front whose streams are all written."""
        for link in self._links.values():
            link.recorder.forget(front)

    def restarted(self) -> None:
        """Note that our own hub was restarted: it needs time."""
        for link in self._links.values():
            link.recorder.forget_hub()

    def silence_s(self, now: float) -> float:
        """Return how long our own hub has been silent."""
        return now - min(link.recorder.last_received for link in self._links.values())

    @property
    def answering(self) -> set[str]:
        """Names of the cells in use whose hubs answer."""
        return {name for name, link in self._links.items() if not link.silent}

    def close(self) -> None:
        """Confirm the written events and close all links."""
        self._source.close()
        for link in self._links.values():
            link.recorder.close()

    # --- cells ------------------------------------------------------------------------------------

    def look(self, now: float) -> list[str]:
        """Look at the map, the hubs and the fronts; return the fronts that move to another hub.

        Raises:
            NetworkError: no hub has ever answered, or all were away for too long.

        """
        self._look_at_map(now)
        well = self._well(now)
        for name, link in self._links.items():
            link.look(now, well & set(self.follow.fronts_of(name)))
        if not self._links or any(
            k.recorder.answered and not k.silent for k in self._links.values()
        ):
            self._answered_at = now
        self._give_up(now)
        for link in self._links.values():
            self._report(link)
        lost = {name for name, link in self._links.items() if name and self._is_lost(link)}
        before = {front: self.follow.cell_of(front).name for front in self.follow.fronts}
        moved = self.follow.review(self.follow.cells, lost)
        for old, new in dict.fromkeys((before[f], self.follow.cell_of(f)) for f in moved):
            self._warn(f"the calls of cell {old} go on in cell {new.name} ({new.endpoint})")
        self._connect(now)
        return moved

    def _is_lost(self, link: Link) -> bool:
        """Whether a cell gets no calls: one that was lost must first answer."""
        waits = link.cell.name in self.follow.lost and not link.recorder.answered
        return waits or link.silence_s > self._config.take_over_s

    def _look_at_map(self, now: float) -> None:
        newer, fault = self._source.look(now), self._source.fault
        if newer is not None:
            try:
                check_cells(newer, self._keys)
                self.follow.cells = newer
            except NetworkError as error:
                fault = str(error)
        if fault and fault != self._fault_of_map:
            self._warn(fault)
        self._fault_of_map = fault

    def _well(self, now: float) -> set[str]:
        """Look at the heartbeats of the fronts; return those that are ready and not late."""
        fronts = self.follow.fronts
        self._beats.keep(fronts)
        for front in fronts:
            beat = read_beat(self._directory, front)
            if beat is not None and self._beats.found(now, front, beat):
                self._supervisor.ready(front)
        self._supervisor.suspect(self._beats.suspects(now, fronts))
        stages = self._supervisor.stages()
        ready = (front for front in fronts if stages[front] is Stage.READY)
        return {front for front in ready if self._beats.is_fresh(now, front)}

    def _report(self, link: Link) -> None:
        cause, link.cause = link.cause, link.recorder.cause
        if link.fault:
            return
        if link.recorder.answered and self._refusals.pop(link.cell.name, ""):
            self._warn(f"{link.name} is back")
        if link.state is Hub.LOST or (link.state is Hub.AWAY and link.cause not in ("", cause)):
            until = f"waiting up to {self._config.hub_wait_s:g} s"
            if self.follow.cells.choose("", (*self.follow.lost, link.cell.name)):
                until = f"after {self._config.take_over_s:g} s its calls go to other cells"
            why = f"{link.cause}; " if link.cause else ""
            self._warn(f"{link.name} does not answer: {why}{until}")
        elif link.state is Hub.BACK:
            self._warn(f"{link.name} is back")

    def _connect(self, now: float) -> None:
        """Have a link to each cell in use, and no other."""
        wanted = {
            cell.name: cell
            for cell in self.follow.cells.cells
            if cell.state == "open" and (self._every or cell.name in self._links)
        }
        wanted |= self.follow.used()
        for name, link in list(self._links.items()):
            asks_again = link.fault and now - link.refused_at > RETRY_S
            if asks_again or name not in wanted or not link.cell.same_place(wanted[name]):
                if not link.fault:
                    self._poller.unregister(link.recorder.socket)
                link.recorder.close()
                del self._links[name]
        for name, cell in wanted.items():
            if name not in self._links:
                keys, own = cell.keys(self._keys), f"{self.prefix}recorder"
                recorder = Recorder(cell.endpoint, own, self._run, keys, self.ledger, name)
                self._links[name] = Link(cell, recorder, self._config.silent_s)
                self._poller.register(recorder.socket, zmq.POLLIN)

    def _give_up(self, now: float) -> None:
        """Raise an error if no hub is left to wait for."""
        links, wait_s = list(self._links.values()), self._config.hub_wait_s
        untried = {c.name for c in self.follow.cells.cells if c.state == "open"} - set(self._links)
        silence_s = min((link.silence_s for link in links), default=0.0)
        # a hub at a new place, or with a new key, is waited for too
        self._ever |= any(link.recorder.answered for link in links)
        hopeless = is_hopeless(silence_s, self._ever, self._config.silent_s, wait_s)
        # many cells that do not answer are not tried one after the other without an end
        patient = now - self._answered_at <= self._config.silent_s + wait_s
        if patient and (untried or not hopeless):
            return
        errors = {k.name: k.fault or k.recorder.unreachable(k.cell.endpoint, wait_s) for k in links}
        *_, (_, last) = errors.items()
        if len(errors) == 1:
            raise last
        reasons = [f"{name}: {error.reason}" for name, error in errors.items()]
        more = f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        text = "; ".join(reasons[:SHOWN]) + more
        raise NetworkError("cells", f"none answers: {text}", last.remedy)
