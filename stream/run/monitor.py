"""One run: starts a hub, nodes and fronts; its loop records events and supervises processes."""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    AbhinayaError,
    ProcessError,
)
from abhinaya.stream.run.inputs import Inputs
from abhinaya.stream.run.plan import Input, Plan, Supply, check_licence
from abhinaya.stream.run.recorder import Recorder
from abhinaya.stream.run.supervisor import Death, Spec, Supervisor, node_specs
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.config import guests, workers_of
from abhinaya.stream.sinks.base import Sink, Ticks, publish
from abhinaya.stream.sinks.open import Observer
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    NodeDown,
    NodeUp,
    Remark,
    Status,
    StreamEnded,
    StreamStarted,
    Suspect,
)

_LOG = logging.getLogger("abhinaya.run")
HUB = "hub"
POLL_S = 0.05


@dataclass(slots=True)
class _Interrupts:
    """Counts the signals SIGINT (Ctrl-C) and SIGTERM."""

    count: int = 0

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        self.count += 1


@dataclass(slots=True)
class _Progress:
    """Data of the loop."""

    faults: list[AbhinayaError] = field(default_factory=list)
    fronts_started: bool = False
    draining_since: float | None = None
    given_up_at: dict[str, float] = field(default_factory=dict)
    """Time by name of process."""
    given_up: set[str] = field(default_factory=set)
    """Services whose nodes are all given up."""


class Run:
    """Carries out a plan."""

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        sinks: Sequence[Sink],
        observer: Observer,
        wall_clock: Callable[[], float] = unix_time,
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._sinks = sinks
        self._observer = observer
        self._wall_clock = wall_clock
        self._supervise = plan.config.supervise
        self.supervisor = Supervisor(self._supervise, directory)
        self._endpoint, self._keys, prefix = f"ipc://{directory}", None, ""
        if plan.remote:
            # names must be unique among all clients of the hub
            prefix = f"{socket.gethostname()}-{os.getpid()}-"
            self._endpoint, self._keys = plan.remote.endpoint, plan.remote.keys
        run_id = secrets.token_hex(8)
        self._recorder = Recorder(self._endpoint, f"{prefix}recorder", run_id, self._keys)
        self._inputs = Inputs(
            directory,
            self._recorder.ledger,
            self._endpoint,
            self._keys,
            prefix,
            plan.supply,
            run_id,
        )
        self._progress = _Progress()
        self._interrupts = _Interrupts()

    def run(self) -> int:
        """Run to the end of every input; return the exit code.

        Raises:
            AbhinayaError: the run cannot continue.

        """
        previous = [
            (s, signal.signal(s, self._interrupts)) for s in (signal.SIGINT, signal.SIGTERM)
        ]
        (self._directory / "config.json").write_bytes(configuration.encode(self._plan.config))
        patience_s = 0.0
        try:
            self._report(self._plan.faults)
            self._start_services()
            while not self._finished():
                for event in self._recorder.poll(POLL_S):
                    self._handle(event)
                self._supervise_processes()
                self._tick()
            patience_s = 3.0 if self._interrupts.count < 2 else 0.0
            return self._exit_code()
        finally:
            self._recorder.close()
            self.supervisor.stop(patience_s)
            for number, handler in previous:
                signal.signal(number, handler)

    # --- starting ---------------------------------------------------------------------------------

    def _start_services(self) -> None:
        if self._plan.remote:
            return
        self.supervisor.start(Spec(HUB, "abhinaya.stream.hub.main"))
        voters = self._plan.config.voters
        for service, worker in workers_of(self._plan.config).items():
            shared = guests(voters, service)
            for spec in () if worker.host else node_specs(service, worker.replicas, shared):
                self.supervisor.start(spec)

    def _start_fronts(self) -> None:
        self._progress.fronts_started = True
        for spec in self._inputs.add(self._plan.inputs):
            self.supervisor.start(spec)
        if self._plan.supply is not None:
            self._plan.supply.start()

    # --- running ----------------------------------------------------------------------------------

    def _handle(self, event: Event | Activity) -> None:
        remote = self._plan.remote
        match event:
            case Status(nodes=nodes, fronts=fronts, suspects=suspects):
                for name in (HUB, *(load.node for load in nodes), *fronts):
                    self.supervisor.ready(name)
                # at a hub that others use too, a node may have the name of one of our processes
                theirs = {load.node for load in nodes} if remote else ()
                self.supervisor.suspect(s for s in suspects if s.name not in theirs)
            case NodeUp():
                self._check_licence(event)
                self.supervisor.ready(event.node)
            case NodeDown(node=name, incarnation=incarnation, reason=reason) if not remote:
                self.supervisor.kill(name, incarnation, reason)
            case StreamStarted(info=info):
                self._inputs.started(info)
            case _:
                pass
        publish(self._sinks, event, self._wall_clock())
        if isinstance(event, StreamEnded):
            self._inputs.ended(event)

    def _resupply(self, supply: Supply) -> None:
        """Start the new inputs of the supply; report its news and errors."""
        for text in supply.news():
            publish(self._sinks, Remark(source="feeds", text=text), self._wall_clock())
        self._report(supply.faults())
        if self._progress.draining_since is not None:
            return
        for name, config in supply.take():
            for spec in self._inputs.add([Input(name, config)]):
                self.supervisor.start(spec)

    def _report(self, faults: Sequence[AbhinayaError]) -> None:
        for fault in faults:
            self._observer.trouble(str(fault))
            _LOG.error("%s", fault)
            self._progress.faults.append(fault)

    def _tick(self) -> None:
        now = self._wall_clock()
        for sink in self._sinks:
            if isinstance(sink, Ticks):
                sink.tick(now)

    def _check_licence(self, node: NodeUp) -> None:
        if node.noncommercial and not self._plan.accept_noncommercial:
            profile = self._plan.config.profile
            check_licence(profile, node.service, node.model, node.licence)

    def _supervise_processes(self) -> None:
        now = time.monotonic()
        silent = now - self._recorder.last_received > self._supervise.silent_s
        if silent and self._plan.remote:
            raise self._recorder.unreachable(self._endpoint)
        if silent and self.supervisor.stages()[HUB] is Stage.READY:
            limit_s = self._supervise.silent_s
            self.supervisor.suspect([Suspect(name=HUB, reason="was silent", limit_s=limit_s)])
        for death in self.supervisor.tick(now):
            self._on_exit(death)
        self._report(self._inputs.faults())
        stages = self.supervisor.stages()
        if not self._progress.fronts_started:
            waiting = [s for s in stages.values() if s in (Stage.STARTING, Stage.WAITING)]
            if waiting:
                self._observer.loading(stages)
            else:
                self._start_fronts()
        for front in self._inputs.fronts:
            stage = self.supervisor.stages()[front]
            if stage is Stage.READY and self._inputs.is_over(front):
                self.supervisor.stop_idle(front)
        self._drain(now)
        if self._plan.supply is not None and self._progress.fronts_started:
            self._resupply(self._plan.supply)

    def _on_exit(self, death: Death) -> None:
        if death.error is None:
            return
        is_front = death.name in self._inputs.fronts
        final = death.final
        if is_front and self._progress.draining_since is None:
            final = self._inputs.is_lost(death.name, death.final)
        text = f"{death.error}" + ("" if final else "; starting it again")
        self._observer.trouble(text)
        _LOG.error("%s: %s", death.name, text)
        if death.name == HUB:
            if death.final:
                raise death.error
            self._recorder.forget_hub()
            # a new hub cannot notice a frozen process: each must introduce itself again
            self.supervisor.recheck_all()
            return
        lost = death.services if death.final and self._none_left(death.services) else ()
        self._progress.given_up.update(lost)
        self._recorder.died(death.name, death.error.reason, final, lost)
        if final:
            self._progress.faults.append(death.error)
            self._progress.given_up_at[death.name] = time.monotonic()
        if is_front and self._progress.draining_since is None:
            for spec in self._inputs.died(death.name, death.final):
                self.supervisor.start(spec)
        if self._progress.given_up >= set(self._plan.config.voters):
            raise death.error

    def _none_left(self, services: Sequence[str]) -> bool:
        if not services:
            return False
        stages, service = self.supervisor.stages(), services[0]
        replicas = workers_of(self._plan.config)[service].replicas
        return all(
            stages.get(spec.name) is Stage.GIVEN_UP for spec in node_specs(service, replicas)
        )

    def _drain(self, now: float) -> None:
        """After Ctrl-C, ask the fronts to stop; open segments have `drain_s` to finish."""
        progress = self._progress
        if self._interrupts.count and progress.draining_since is None:
            progress.draining_since = now
            self.supervisor.ask_to_stop(self._inputs.fronts)

    def _finished(self) -> bool:
        progress = self._progress
        if self._interrupts.count >= 2:
            return True
        if progress.draining_since is not None:
            overdue = time.monotonic() - progress.draining_since > self._supervise.drain_s
            if overdue or not progress.fronts_started:
                return True
        if not progress.fronts_started:
            return False
        supply = self._plan.supply
        if supply is not None and progress.draining_since is None and not supply.over:
            return False
        return all(self._front_is_done(front) for front in self._inputs.fronts)

    def _front_is_done(self, front: str) -> bool:
        if self.supervisor.stages()[front] not in (Stage.ENDED, Stage.GIVEN_UP):
            return False
        # if the hub died with the front, no process can report the end of its streams
        given_up = self._progress.given_up_at.get(front, math.inf)
        overdue = time.monotonic() - given_up > self._supervise.drain_s
        return overdue or self._inputs.is_written(front)

    def _exit_code(self) -> int:
        if self._interrupts.count:
            once = self._interrupts.count == 1
            return EXIT_OK if once and self._is_endless() else EXIT_INTERRUPTED
        sources = [f for f in self._progress.faults if not isinstance(f, ProcessError)]
        faults = sources or self._progress.faults
        return faults[0].exit_code if faults else EXIT_OK

    def _is_endless(self) -> bool:
        """Whether only Ctrl-C can end the run; then Ctrl-C is its normal end."""
        if self._plan.supply is not None:
            return self._plan.follows
        return self._inputs.is_endless()
