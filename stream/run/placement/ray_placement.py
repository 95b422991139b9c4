"""Placement by Ray: one detached actor a process, on a machine with the right label and version."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

from abhinaya.models.text import one_line
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.run.placement.base import Machine, Placed, Process, Stage
from abhinaya.stream.run.placement.ray_actor import (
    HEAD_LABEL,
    MACHINE_LABEL,
    VERSION_LABEL,
    Report,
    Runner,
    packed,
)

WAIT_S: Final = 0.1
"""Seconds that a look may wait for the actors' answers."""
AGAIN_S: Final = 2.0
"""Seconds after which an actor is asked again to stop: it may have been started again."""
STARTS_S: Final = 5.0
"""Seconds in which an actor starts where there is room; one that takes longer waits for room."""
STARTED_S: Final = 60.0
"""Seconds in which an actor that needs no room must answer."""
LATE_S: Final = 10.0
"""Seconds beyond its patience after which an actor that was asked to stop is killed."""


@dataclass(slots=True)
class _Held:
    """An actor, and what is known of it."""

    actor: Any
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
    stop_by: float | None = None
    asked_at: float = 0.0


class RayPlacement:
    """The processes of a cluster. This process must be connected to Ray.

    Args:
        cluster: name of the cluster; Ray may serve several.
        version: of our package: machines with another one are not used.

    """

    def __init__(self, cluster: str, version: str) -> None:
        self._version = version
        self._namespace = f"{namespace(cluster)}/{version}"
        self._held: dict[str, _Held] = {}
        self._refused: dict[str, str] = {}
        """Machine whose package was exchanged while Ray ran -> its version."""
        with _speaking():
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
        with _speaking():
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
        with _speaking():
            actor = self._create(process)
        self._held[process.name] = _Held(actor, process, before=before)

    def move(self, name: str, hub: str) -> None:
        """Let a process connect to a hub at another endpoint."""
        held = self._held.get(name)
        if held is not None and not held.dead:
            if held.process is not None:
                held.process = replace(held.process, hub=hub)
            with _speaking():
                held.actor.move.remote(hub)

    def stop(self, name: str, patience_s: float) -> None:
        """Ask a process to finish its work and exit; kill it after `patience_s`."""
        held = self._held.get(name)
        if held is not None and held.stop_by is None:
            held.stop_by = time.monotonic() + patience_s

    def look(self, now: float) -> Mapping[str, Placed]:
        """Return the state of every process; Ray restarts what is due."""
        with _speaking():
            machines = {machine.label: machine for machine in self.machines()}
            self._ask()
            for name, held in list(self._held.items()):
                if held.report is not None and held.report.version != self._version:
                    self._refuse(name, held, held.report)
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

    def _create(self, process: Process) -> Any:
        return (
            ray.remote(Runner)
            .options(
                name=process.name,
                namespace=self._namespace,
                get_if_exists=True,
                lifetime="detached",
                num_cpus=process.cpus,
                num_gpus=process.gpus,
                max_restarts=-1,
                label_selector=self._selector(process),
                # hubs: a machine that is lost takes as few cells as possible with it
                scheduling_strategy="SPREAD" if process.never_on_head else "DEFAULT",
            )
            .remote(self._version, packed(process))
        )

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
            if held.answer is None and not held.dead:
                held.answer = held.actor.report.remote()
        asked = {held.answer: held for held in self._held.values() if held.answer is not None}
        if not asked:
            return
        come, _ = ray.wait(list(asked), num_returns=len(asked), timeout=WAIT_S)
        for answer in come:
            held, asked[answer].answer = asked[answer], None
            try:
                report = msgspec.convert(ray.get(answer), Report)
            except ActorUnavailableError as error:  # its machine is lost, or it starts again
                held.error = _short(error)
                self._lost(held)
            except ActorDiedError as error:  # nobody starts it again
                held.error = _short(error)
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

    def _refuse(self, name: str, held: _Held, report: Report) -> None:
        """Take the process away from a machine with another version."""
        self._refused[report.machine] = report.version
        self._kill(held)
        if held.process is not None:
            self._held[name] = _Held(self._create(held.process), held.process, before=held.before)
        else:
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
        faults = []
        for label in process.machines or tuple(machines):
            machine = machines.get(label)
            if machine is None:
                faults.append(f"machine {label} has not joined")
            elif not machine.alive:
                faults.append(f"machine {label} is lost")
            elif machine.version != self._version:
                faults.append(
                    f"machine {label} has abhinaya {machine.version}, the controller "
                    f"{self._version}: install the same"
                )
            elif process.never_on_head and machine.head:
                faults.append(f"machine {label} is the head")
            elif process.cpus > machine.cpus or process.gpus > machine.gpus:
                faults.append(f"machine {label} is too small")
            else:
                return ""
        return "; ".join(faults) or "no machine has joined"

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
        if not held.dead:
            with _speaking():
                ray.kill(held.actor)


def connect(address: str, directory: Path, node_address: str) -> None:
    """Connect this process to Ray on this machine; its environment has the token.

    Raises:
        NetworkError: Ray does not answer.

    """
    with _speaking():
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=str(directory),
            _node_ip_address=node_address,
        )


def make_one(
    kind: type, namespace: str, name: str, labels: Mapping[str, str], *arguments: object
) -> None:
    """Make a detached actor if there is none of this name; end others of its namespace.

    Raises:
        NetworkError: Ray does not answer.

    """
    with _speaking():
        for found in ray.util.list_named_actors(all_namespaces=True):
            if found["namespace"] == namespace and found["name"] != name:
                ray.kill(ray.get_actor(found["name"], namespace))
        make: Any = ray.remote(kind).options(
            name=name,
            namespace=namespace,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            label_selector=dict(labels),
        )
        ray.get(make.remote(*arguments).ready.remote(), timeout=STARTED_S)


def leave() -> None:
    """Let go of Ray; an actor ends, and is not started again."""
    context = ray.get_runtime_context()
    if context.get_actor_id() is not None:
        ray.kill(context.current_actor)
    ray.shutdown()


def namespace(cluster: str) -> str:
    """Return the first part of the namespaces of a cluster's actors."""
    return f"abhinaya/{cluster}"


@contextmanager
def _speaking() -> Iterator[None]:
    """Turn Ray's own errors into ours.

    Raises:
        NetworkError: Ray does not answer.

    """
    try:
        yield
    except (RayError, ConnectionError, RuntimeError) as error:
        raise NetworkError("Ray", f"does not answer: {_short(error)}", "is the head up?") from error


def _short(error: Exception) -> str:
    return one_line(str(error))[:200]
