"""One run: starts a hub, nodes and fronts; its loop records events and supervises processes."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from abhinaya.models.interrupts import INTERRUPTS, exit_code
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import (
    EXIT_OK,
    AbhinayaError,
    ProcessError,
    SinkError,
)
from abhinaya.stream.front.assignment import INTERRUPTED
from abhinaya.stream.run.hubs import Hubs
from abhinaya.stream.run.inputs import Inputs, not_processed, reason_of
from abhinaya.stream.run.outputs import Outputs
from abhinaya.stream.run.plan import Input, Plan, Supply, check_licence, check_line_up
from abhinaya.stream.run.progress import Progress
from abhinaya.stream.run.supervisor import Death, Spec, Supervisor, node_specs
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.config import guests, workers_of
from abhinaya.stream.sinks.base import Observer, Sink
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    NodeDown,
    NodeUp,
    Status,
    StreamEnded,
    StreamStarted,
    Suspect,
)

_LOG = logging.getLogger("abhinaya.run")
HUB = "hub"
POLL_S = 0.05

FINISH_S: Final = 1.5
"""Seconds after `drain_s` in which processes end and outputs are finished. Then `Signalled` ends
whatever still waits, so that a stopped program exits well within 8 s."""

LATENESS: Final = 4  # how often the end of a run may be late as its loop was

LEAVE_S: Final = 0.7
"""Seconds that the processes have to exit by themselves."""


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
        self._outputs = Outputs(sinks, wall_clock)
        self._observer = observer
        self._wall_clock = wall_clock
        self._supervise = plan.config.supervise
        self.supervisor = Supervisor(self._supervise, directory)
        run = self._run_id = secrets.token_hex(8)
        hubs = self._hubs = Hubs(plan, directory, run, self.supervisor, self._warn)
        self._inputs = Inputs(
            directory, hubs.ledger, hubs.follow, plan.keys, hubs.prefix, plan.supply, run
        )
        self._progress = Progress()

    @property
    def id(self) -> str:
        """Id of the run."""
        return self._run_id

    @property
    def cells(self) -> Hubs:
        """The cells of the run: `choose` and `open` say where new calls go, from any thread."""
        return self._hubs

    def run(self) -> int:
        """Run to the end of every input; return the exit code.

        Raises:
            AbhinayaError: the run cannot continue.

        """
        with INTERRUPTS.counting(self._supervise.drain_s + FINISH_S):
            try:
                return self._run()
            except BaseException as error:
                self._close_streams(INTERRUPTED if INTERRUPTS.count else reason_of(error))
                if INTERRUPTS.count and isinstance(error, SinkError | SystemExit):
                    return self._exit_code()  # the terminal has gone, and that was the signal
                raise
            finally:
                try:
                    self._hubs.close()
                finally:
                    self.supervisor.stop(LEAVE_S if INTERRUPTS.count < 2 else 0.0)

    def _run(self) -> int:
        try:
            (self._directory / "config.json").write_bytes(configuration.encode(self._plan.config))
        except OSError as error:
            raise ProcessError(
                str(self._directory), f"cannot be written: {error.strerror}"
            ) from error
        self._report(self._plan.faults)
        self._start_services()
        while not self._finished():
            begun = time.monotonic()
            for cell, event in self._hubs.poll(POLL_S):
                self._handle(event, cell)
            self._supervise_processes()
            self._outputs.tick(self._hubs.answering)
            late_s = time.monotonic() - begun - POLL_S
            self._progress.late_s = max(late_s, 0.9 * self._progress.late_s)
        self._close_streams(INTERRUPTED)
        return self._exit_code()

    # --- starting ---------------------------------------------------------------------------------

    def _start_services(self) -> None:
        if not self._hubs.own:
            return
        self.supervisor.start(Spec(HUB, "abhinaya.stream.hub.main"))
        voters = self._plan.config.voters
        for service, worker in workers_of(self._plan.config).items():
            shared = guests(voters, service)
            for spec in () if worker.host else node_specs(service, worker.replicas, shared):
                self.supervisor.start(spec)

    def _start_fronts(self) -> None:
        check_line_up(self._plan.config, self._progress.given_up)
        self._progress.fronts_started = True
        for spec in self._inputs.add(self._plan.inputs):
            self.supervisor.start(spec)
        if self._plan.supply is not None:
            self._plan.supply.start()

    # --- running ----------------------------------------------------------------------------------

    def _handle(self, event: Event | Activity, cell: str = "") -> None:
        match event:
            case Status(nodes=nodes, fronts=fronts, suspects=suspects) if self._hubs.own:
                for name in (HUB, *(load.node for load in nodes), *fronts):
                    self.supervisor.ready(name)
                self.supervisor.suspect(suspects)
            case NodeUp():
                self._check_licence(event)
                self.supervisor.ready(event.node)
            case NodeDown(node=name, incarnation=incarnation, reason=why) if self._hubs.own:
                self.supervisor.kill(name, incarnation, why)
            case StreamStarted(info=info):
                self._inputs.started(info)
            case _:
                pass
        self._outputs.publish(event, cell)
        if isinstance(event, StreamEnded):
            self._inputs.ended(event)

    def _end_streams(self, reason: str, fronts: Iterable[str]) -> None:
        """Write the ends that no process can report any more."""
        for event in list(self._inputs.endings(reason, set(fronts))):
            self._hubs.ledger.admit(event)
            self._handle(event)

    def _close_streams(self, reason: str) -> None:
        """At the end of the run, end what has begun, and name what was not processed."""
        if not self._hubs.own:  # they live on, and must not wait for the rest of these streams
            for front in self._inputs.fronts:
                if not self._inputs.is_written(front):
                    self._hubs.died(front, reason, True)
        endings = list(self._inputs.endings(reason))
        events: list[Event] = [*endings]
        if INTERRUPTS.count or self._progress.fronts_started:
            planned = () if self._progress.fronts_started else self._plan.inputs
            for item in (*planned, *self._inputs.never_begun()):
                events += not_processed(item, self._run_id, self._wall_clock(), reason)
        self._outputs.finish(events)
        for event in endings:
            self._hubs.ledger.admit(event)
            if isinstance(event, StreamEnded):
                self._inputs.ended(event)

    def _resupply(self, supply: Supply) -> None:
        """Start the new inputs of the supply; report its news and errors."""
        for text in supply.news():
            self._outputs.remark("feeds", text)
        self._report(supply.faults())
        if self._progress.draining:
            return
        for name, config in supply.take():
            for spec in self._inputs.add([Input(name, config)]):
                self.supervisor.start(spec)
        for name in supply.cancelled():
            self._inputs.cancel(name)

    def _report(self, faults: Sequence[AbhinayaError]) -> None:
        for fault in faults:
            self._observer.trouble(str(fault))
            _LOG.error("%s", fault)
            self._progress.faults.append(fault)

    def _check_licence(self, node: NodeUp) -> None:
        if node.noncommercial and not self._plan.accept_noncommercial:
            profile = self._plan.config.profile
            check_licence(profile, node.service, node.model, node.licence)

    def _watch_hubs(self, now: float) -> None:
        if not self._hubs.own:
            for front in self._hubs.look(now):
                self._inputs.move(front)
        elif self.supervisor.stages()[HUB] is not Stage.READY:
            # a new hub cannot notice a frozen process: each must introduce itself again
            self.supervisor.recheck_all(HUB)
        elif self._hubs.silence_s(now) > (limit_s := self._supervise.silent_s):
            self.supervisor.suspect([Suspect(name=HUB, reason="was silent", limit_s=limit_s)])

    def _supervise_processes(self) -> None:
        now = time.monotonic()
        self._watch_hubs(now)
        for death in self.supervisor.tick(now):
            self._on_exit(death)
        if self.supervisor.news and not self._progress.overloaded:
            self._progress.overloaded = True  # once is enough
            self._outputs.remark("monitor", self.supervisor.news[0])
        self.supervisor.news.clear()
        self._report(self._inputs.faults())
        stages = self.supervisor.stages()
        if not self._progress.fronts_started:
            waiting = [s for s in stages.values() if s in (Stage.STARTING, Stage.WAITING)]
            if waiting:
                self._observer.loading(stages)
            else:
                self._start_fronts()
        if not self._progress.draining:
            for spec in self._inputs.next():
                self.supervisor.start(spec)
            if self._plan.calls is not None and self._progress.fronts_started:
                for spec in self._inputs.push_fronts(self._plan.calls.cells()):
                    self.supervisor.start(spec)
        for front in self._inputs.fronts:
            stage = self.supervisor.stages()[front]
            if stage is Stage.READY and self._inputs.is_over(front):
                self.supervisor.stop_idle(front)
        self._drain()
        self._forget_fronts()
        if self._plan.supply is not None and self._progress.fronts_started:
            self._resupply(self._plan.supply)

    def _forget_fronts(self) -> None:
        for front in self._inputs.fronts:
            if self._inputs.is_over(front) and self._front_is_done(front):
                self._inputs.forget(front)
                self.supervisor.forget(front)
                self._hubs.forget(front)
                self._progress.gone.pop(front, None)

    def _warn(self, text: str) -> None:
        self._observer.trouble(text)
        _LOG.warning("%s", text)

    def _on_exit(self, death: Death) -> None:
        is_front, draining = death.name in self._inputs.fronts, self._progress.draining
        if death.error is None:
            if is_front and draining:
                self._check_ends(death.name)
            return
        final = death.final
        if is_front and not draining:
            final = self._inputs.is_lost(death.name, death.final)
        text = f"{death.error}" + ("" if final else "; starting it again")
        self._observer.trouble(text)
        _LOG.error("%s: %s", death.name, text)
        if death.name == HUB:
            if death.final:
                raise death.error
            self._hubs.restarted()
            for front, (reason, _) in self._progress.gone.items():
                self._end_streams(reason, [front])
            return
        lost = death.services if death.final and self._none_left(death.services) else ()
        self._progress.given_up.update(dict.fromkeys(lost, death.error))
        if final:
            self._progress.faults.append(death.error)
        if final and is_front:
            self._lose(death.name, death.error.reason)
        else:
            self._hubs.died(death.name, death.error.reason, final, lost)
        if is_front and not draining:
            for spec in self._inputs.died(death.name, death.final):
                self.supervisor.start(spec)
        if self._progress.given_up.keys() >= self._plan.config.voters.keys():
            raise death.error

    def _lose(self, front: str, reason: str) -> None:
        """Have the streams of a dead front ended, by the hub if it lives."""
        self._progress.gone[front] = reason, time.monotonic()
        self._hubs.died(front, reason, True, reached=self._inputs.reached())
        if self._hubs.own and self.supervisor.stages()[HUB] is not Stage.READY:
            self._end_streams(reason, [front])

    def _check_ends(self, front: str) -> None:
        """After a front has ended because it was asked to: nobody else ends its streams."""
        if self.supervisor.stages()[front] is Stage.ENDED and not self._inputs.is_written(front):
            self._lose(front, INTERRUPTED)

    def _none_left(self, services: Sequence[str]) -> bool:
        if not services:
            return False
        stages, service = self.supervisor.stages(), services[0]
        replicas = workers_of(self._plan.config)[service].replicas
        return all(
            stages.get(spec.name) is Stage.GIVEN_UP for spec in node_specs(service, replicas)
        )

    def _drain(self) -> None:
        """After a signal, ask the fronts to stop; open segments have `drain_s` to finish."""
        if INTERRUPTS.count and not self._progress.draining:
            self._progress.draining = True
            self.supervisor.ask_to_stop(self._inputs.fronts)
            for front in self._inputs.fronts:
                self._check_ends(front)

    def _finished(self) -> bool:
        progress = self._progress
        if INTERRUPTS.count >= 2:
            return True
        if INTERRUPTS.count:
            limit_s = self._supervise.drain_s - LATENESS * progress.late_s
            overdue = time.monotonic() - INTERRUPTS.at > limit_s
            if overdue or not progress.fronts_started:
                return True
        if not progress.fronts_started or (self._inputs.waiting and not progress.draining):
            return False
        supply = self._plan.supply
        if supply is not None and not progress.draining and not supply.over:
            return False
        return all(self._front_is_done(front) for front in self._inputs.fronts)

    def _front_is_done(self, front: str) -> bool:
        if self.supervisor.stages()[front] not in (Stage.ENDED, Stage.GIVEN_UP):
            return False
        # if a hub on another machine does not answer either, nothing more comes
        _, since = self._progress.gone.get(front, ("", math.inf))
        overdue = time.monotonic() - since > self._supervise.drain_s
        return overdue or self._inputs.is_written(front)

    def _exit_code(self) -> int:
        if INTERRUPTS.count:
            normal = INTERRUPTS.count == 1 and self._progress.fronts_started and self._is_endless()
            return EXIT_OK if normal else exit_code(INTERRUPTS.number)
        sources = [f for f in self._progress.faults if not isinstance(f, ProcessError)]
        faults = sources or list(self._progress.faults)
        return faults[0].exit_code if faults else EXIT_OK

    def _is_endless(self) -> bool:
        """Whether only Ctrl-C can end the run; then Ctrl-C is its normal end."""
        if self._plan.supply is not None or self._plan.calls is not None:
            return self._plan.follows or self._plan.calls is not None
        return self._inputs.is_endless()
