"""Placement by Ray: one detached actor a process, on a machine with the right label and version."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError

from abhinaya.stream.run.placement.base import Machine, Placed, Process, Stage
from abhinaya.stream.run.placement.ray_actor import (
    HEAD_LABEL,
    MACHINE_LABEL,
    VERSION_LABEL,
    Report,
    Runner,
    packed,
)
from abhinaya.stream.run.placement.ray_connection import namespace, short, speaking

WAIT_S: Final = 0.1
"""Seconds that a look may wait for the actors' answers."""
AGAIN_S: Final = 2.0
"""Seconds after which an actor is asked again to stop: it may have been started again."""
STARTS_S: Final = 5.0
"""Seconds in which an actor starts where there is room; one that takes longer waits for room."""
JOIN_S: Final = 20.0
"""Seconds that the expected machines have to join before actors are made without them."""
LATE_S: Final = 10.0
"""Seconds beyond its patience after which an actor that was asked to stop is killed."""


@dataclass(slots=True)
class _Held:
    """An actor, and what is known of it."""

    actor: Any = None
    """None before it is made."""
    process: Process | None = None
    """None if an earlier controller has started it."""
    answer: Any = None
    """The answer that is on its way; None if none is."""
    report: Report | None = None
    """The last one; None while the actor is not where it was, or nowhere."""
    before: int = 0
    """Restarts of the actor itself, and of processes in its earlier lives."""
    error: str = ""
    dead: bool = False
    since: float = field(default_factory=time.monotonic)
    """Since when there is no report."""
    home: str = ""
    """The machine on which it shall run if it can."""
    stop_by: float | None = None
    asked_at: float = 0.0


class RayPlacement:
    """The processes of a cluster. This process must be connected to Ray.

    Args:
        cluster: name of the cluster; Ray may serve several.
        version: of our package: machines with another one are not used.
        expected: labels of the machines that should join: at the beginning they get some time.

    """

    def __init__(self, cluster: str, version: str, expected: Collection[str] = ()) -> None:
        self._version = version
        self._expected, self._began = frozenset(expected), time.monotonic()
        self._namespace = f"{namespace(cluster)}/{version}"
        self._held: dict[str, _Held] = {}
        self._refused: dict[str, str] = {}
        """Machine whose package was exchanged while Ray ran -> its version."""
        with speaking():
            for found in ray.util.list_named_actors(all_namespaces=True):
                place, name = found["namespace"], found["name"]
                if place.startswith(f"{namespace(cluster)}/"):
                    actor = ray.get_actor(name, place)
                    if place == self._namespace:
                        self._held[name] = _Held(actor)
                    else:  # of another version of ours: its machines are upgraded
                        ray.kill(actor)

    def machines(self) -> Sequence[Machine]:
        """Return the machines that have joined, also those that are lost."""
        found: dict[str, Machine] = {}
        with speaking():
            nodes = ray.nodes()
        for node in nodes:
            labels = node["Labels"]
            label = labels.get(MACHINE_LABEL, "")
            if label and (node["Alive"] or label not in found):
                found[label] = Machine(
                    label,
                    node["NodeManagerAddress"],
                    node["Resources"].get("CPU", 0.0),
                    node["Resources"].get("GPU", 0.0),
                    labels.get(HEAD_LABEL) == "yes",
                    self._refused.get(label, labels.get(VERSION_LABEL, "")),
                    node["Alive"],
                )
        return list(found.values())

    def start(self, process: Process) -> None:
        """Start a process as soon as a machine has room for it."""
        held = self._held.get(process.name)
        before = 0
        if held is not None:
            before = held.before + 1
            self._kill(held)
        self._held[process.name] = _Held(process=process, before=before)

    def move(self, name: str, hub: str) -> None:
        """Let a process connect to a hub at another endpoint."""
        held = self._held.get(name)
        if held is not None and held.process is not None:
            held.process = replace(held.process, hub=hub)
        if held is not None and held.actor is not None and not held.dead:
            with speaking():
                held.actor.move.remote(hub)

    def stop(self, name: str, patience_s: float) -> None:
        """Ask a process to finish its work and exit; kill it after `patience_s`."""
        held = self._held.get(name)
        if held is not None and held.stop_by is None:
            held.stop_by = time.monotonic() + patience_s

    def look(self, now: float) -> Mapping[str, Placed]:
        """Return the state of every process; Ray restarts what is due."""
        with speaking():
            machines = {machine.label: machine for machine in self.machines()}
            self._ask()
            for held in self._held.values():
                if held.report is not None and held.report.version != self._version:
                    self._refuse(held, held.report)
                if held.actor is None and held.stop_by is None and self._may_create(now, machines):
                    self._create(held, machines.values())
            found = {name: self._placed(name, h, machines) for name, h in self._held.items()}
            for name, placed in list(found.items()):
                held = self._held[name]
                if held.stop_by is not None:
                    found[name] = self._end(now, held, held.stop_by, placed)
        return found

    def close(self, kill: bool) -> None:
        """Let go of the actors; `kill`: end them first."""
        if kill:
            for held in self._held.values():
                self._kill(held)
        self._held.clear()

    # --- how it works -----------------------------------------------------------------------------

    def _may_create(self, now: float, machines: Collection[str]) -> bool:
        """Whether to make actors: the first machine that joins shall not get all of them."""
        return self._expected <= set(machines) or now > self._began + JOIN_S

    def _create(self, held: _Held, machines: Iterable[Machine]) -> None:
        """Make the actor of a process that has none."""
        if (process := held.process) is None or held.dead:
            return
        selector = self._selector(process)
        held.home = self._home(process, machines)
        fallback = [{"label_selector": selector}] if held.home else None
        held.actor = (
            ray.remote(Runner)
            .options(
                name=process.name,
                namespace=self._namespace,
                get_if_exists=True,
                lifetime="detached",
                num_cpus=process.cpus,
                num_gpus=process.gpus,
                max_restarts=-1,
                label_selector=selector | ({MACHINE_LABEL: held.home} if held.home else {}),
                fallback_strategy=fallback,
            )
            .remote(self._version, packed(process))
        )
        held.since = time.monotonic()

    def _home(self, process: Process, machines: Iterable[Machine]) -> str:
        """Return the machine with room that has the fewest of such processes; empty: none has."""
        alike, all_there = Counter[str](), Counter[str]()
        cpus, gpus = defaultdict[str, float](float), defaultdict[str, float](float)
        for held in self._held.values():
            report = held.report
            there = report.machine if report is not None else held.home
            needs = held.process or report
            if there and needs is not None and not held.dead:
                alike[there] += needs.module == process.module
                all_there[there] += 1
                cpus[there] += needs.cpus
                gpus[there] += needs.gpus
        free = {
            machine.label
            for machine in machines
            if not self._fault(process, machine.label, machine)
            and machine.cpus - cpus[machine.label] >= process.cpus
            and machine.gpus - gpus[machine.label] >= process.gpus
        }
        return min(sorted(free), key=lambda m: (alike[m], all_there[m]), default="")

    def _selector(self, process: Process) -> dict[str, str]:
        """Return the labels that a machine must have: no text in them may come from outside."""
        selector = {VERSION_LABEL: self._version}
        able = [label for label in process.machines if label not in self._refused]
        if process.machines:
            selector[MACHINE_LABEL] = f"in({','.join(able or process.machines)})"
        elif self._refused:
            selector[MACHINE_LABEL] = f"!in({','.join(self._refused)})"
        if process.never_on_head:
            selector[HEAD_LABEL] = "no"
        return selector

    def _ask(self) -> None:
        """Ask each actor how it is, and take the answers that have come."""
        for held in self._held.values():
            if held.answer is None and held.actor is not None and not held.dead:
                held.answer = held.actor.report.remote()
        asked = {held.answer: held for held in self._held.values() if held.answer is not None}
        if not asked:
            return
        come, _ = ray.wait(list(asked), num_returns=len(asked), timeout=WAIT_S)
        for answer in come:
            held, asked[answer].answer = asked[answer], None
            try:
                report = msgspec.convert(ray.get(answer), Report)
            except ActorUnavailableError:  # Ray starts it again
                held.error = "its machine was lost, or its actor has died"
                self._lost(held)
            except ActorDiedError as error:  # nobody starts it again
                held.error = short(error)
                held.dead = True
                self._lost(held)
            else:
                if held.report is not None and report.actor != held.report.actor:
                    self._lost(held)
                held.report = report

    def _lost(self, held: _Held) -> None:
        """Note that an actor, and so its process, is not there any more."""
        if held.report is not None and held.report.placed is not None:
            held.before += held.report.placed.restarts + 1
        held.report, held.since = None, time.monotonic()

    def _refuse(self, held: _Held, report: Report) -> None:
        """Take the process away from a machine with another version; it starts elsewhere."""
        self._refused[report.machine] = report.version
        self._kill(held)
        held.actor = held.report = None
        if held.process is None:  # the controller starts it again
            held.dead, held.error = True, f"machine {report.machine} has another version"

    def _placed(self, name: str, held: _Held, machines: Mapping[str, Machine]) -> Placed:
        report = held.report
        if held.dead:
            return Placed(name, "given up", restarts=held.before, error=held.error)
        machine = machines.get(report.machine) if report is not None else None
        if machine is not None and machine.alive and report is not None and report.placed:
            placed = report.placed
            error = placed.error or held.error
            return replace(placed, restarts=placed.restarts + held.before, error=error)
        why = "" if held.process is None else self._why(held.process, machines)
        starts = not why and time.monotonic() - held.since < STARTS_S
        stage: Stage = "starting" if starts else "waiting for room"
        return Placed(name, stage, restarts=held.before, error=why or held.error)

    def _why(self, process: Process, machines: Mapping[str, Machine]) -> str:
        """Return why no machine can take a process; empty if one can."""
        labels = process.machines or tuple(machines)
        faults = [self._fault(process, label, machines.get(label)) for label in labels]
        return "; ".join(faults) or "no machine has joined" if all(faults) else ""

    def _fault(self, process: Process, label: str, machine: Machine | None) -> str:
        """Return why a machine cannot take a process; empty if it can."""
        if machine is None:
            return f"machine {label} has not joined"
        if not machine.alive:
            return f"machine {label} is lost"
        if machine.version != self._version:
            return (
                f"machine {label} has abhinaya {machine.version}, the controller {self._version}: "
                "install the same"
            )
        if process.never_on_head and machine.head:
            return f"machine {label} is the head"
        if process.machines and label not in process.machines:
            return f"machine {label} is not one of its machines"
        if process.cpus > machine.cpus or process.gpus > machine.gpus:
            return f"machine {label} is too small"
        return ""

    def _end(self, now: float, held: _Held, stop_by: float, placed: Placed) -> Placed:
        """Return the state of an actor that was asked to stop; kill it when its child has ended."""
        if placed.stage in ("ended", "given up", "waiting for room") or now > stop_by + LATE_S:
            self._kill(held)
            del self._held[placed.name]
            return replace(placed, stage="ended")
        if now - held.asked_at > AGAIN_S:
            held.asked_at = now
            held.actor.stop.remote(max(0.0, stop_by - now))
        return placed

    def _kill(self, held: _Held) -> None:
        if held.actor is not None and not held.dead:
            with speaking():
                ray.kill(held.actor)
