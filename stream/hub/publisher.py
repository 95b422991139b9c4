"""Publishes events to the sinks of the hub, and keeps those of a run until they are confirmed.

Pure. A recorder gets the events of its run, each with a number, and confirms them; a new recorder
of the run gets all unconfirmed events again. A reader confirms nothing, and gets the events of all
runs that it may see. Events of nodes and the status go to all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from msgspec.structs import replace

from abhinaya.stream.hub.runs import Run, Runs
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    Gap,
    Message,
    NodeUp,
    Notice,
    Seen,
    Status,
    StreamEnded,
    StreamStarted,
    Suspect,
    Verdict,
)

MAX_WAITING: Final = 10_000
"""With so many unconfirmed events, a run keeps only those that the windows of its fronts bound."""

MAX_LISTED: Final = 1000
"""Maximum number of fronts, and of services of nodes, in a status: it must fit into a message."""

MaySee = Callable[[bytes, str], bool]
"""Returns whether a peer may read the events of a run."""

Door = Literal["workers", "sinks"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and its receiver."""

    door: Door
    peer: bytes
    message: Message


class Publisher:
    """The sinks of a hub, and the events for them."""

    def __init__(self, hub: str, runs: Runs, may_see: MaySee) -> None:
        self._hub = hub
        self._runs = runs
        self._may_see = may_see
        self._recorders: dict[bytes, Run] = {}
        self._readers: dict[bytes, str] = {}
        """The run that each asked for; empty for all."""
        self._out: list[Outgoing] = []

    def knows(self, peer: bytes) -> bool:
        """Whether a peer has subscribed."""
        return peer in self._recorders or peer in self._readers

    def recorded_by(self, peer: bytes) -> Run | None:
        """Return the run that a peer records; None if it is not a recorder."""
        return self._recorders.get(peer)

    def add_recorder(self, peer: bytes, run: Run, up: Iterable[NodeUp]) -> None:
        """Make a peer the recorder of a run: send what is present and what is unconfirmed."""
        self.drop(peer)
        if run.recorder is not None:  # that one may still be there, and must not subscribe again
            self._readers[run.recorder] = run.id
            del self._recorders[run.recorder]
        run.recorder, self._recorders[peer] = peer, run
        sent = {_subject(notice.event) for notice in run.unconfirmed}
        present: list[tuple[Event, str]] = [(started, run.id) for started in _started(run)]
        present += [(node, "") for node in up]
        for event, of_run in present:
            if _subject(event) not in sent:
                self._send(peer, 0, event, of_run)
        self._out += [Outgoing("sinks", peer, notice) for notice in run.unconfirmed]

    def add_reader(self, peer: bytes, run: str, up: Iterable[NodeUp]) -> None:
        """Add a reader of one run, or of all: send what is present."""
        self.drop(peer)
        self._readers[peer] = run
        for each in self._runs:
            if self._reads(peer, each.id):
                for event in _started(each):
                    self._send(peer, 0, event, each.id)
        for node in up:
            self._send(peer, 0, node)

    def drop(self, peer: bytes) -> None:
        """Remove a sink."""
        self._readers.pop(peer, None)
        if run := self._recorders.pop(peer, None):
            run.recorder = None

    def publish(self, event: Event, run: str = "") -> None:
        """Send an event of a run, or of all runs; each run keeps it until it is confirmed."""
        found = self._runs.get(run) if run else None
        for each in self._runs if not run else [found] if found else []:
            number = 0
            if len(each.unconfirmed) < MAX_WAITING or isinstance(
                event, Verdict | Gap | StreamEnded
            ):
                number = each.number = each.number + 1
                each.unconfirmed.append(Notice(number=number, hub=each.hub, run=run, event=event))
            if each.recorder is not None:
                self._send(each.recorder, number, event, run)
        self._to_readers(event, run)

    def publish_unnumbered(self, event: Event | Activity, run: str) -> None:
        """Send an event without confirmation: activity, or a provisional verdict."""
        found = self._runs.get(run)
        if found is not None and found.recorder is not None:
            self._send(found.recorder, 0, event, run)
        self._to_readers(event, run)

    def publish_status(
        self,
        status: Status,
        fronts: Mapping[str, Iterable[str]],
        suspects: Mapping[str, Iterable[Suspect]],
    ) -> None:
        """Send the status to all, with the fronts of those runs that each sink sees.

        Args:
            status: the status without fronts.
            fronts: names of fronts by run.
            suspects: fronts that are silent, by run.

        """
        seen = {peer: {run.id} for peer, run in self._recorders.items()}
        for peer in self._readers:
            seen[peer] = {run for run in (*fronts, *suspects) if self._reads(peer, run)}
        for peer, runs in seen.items():
            names = [name for run in runs for name in fronts.get(run, ())]
            silent = [suspect for run in runs for suspect in suspects.get(run, ())]
            added = (*status.suspects, *silent)
            self._send(
                peer,
                0,
                replace(status, fronts=tuple(names[:MAX_LISTED]), suspects=added[:MAX_LISTED]),
            )

    def confirmed(self, run: Run, seen: Seen) -> list[Event | Activity]:
        """Return the events of a run that its recorder has now written."""
        events = []
        # numbers of an earlier hub, or of an earlier run of this id, mean other events
        while seen.hub == run.hub and run.unconfirmed and run.unconfirmed[0].number <= seen.number:
            events.append(run.unconfirmed.popleft().event)
        return events

    def take(self) -> list[Outgoing]:
        """Return the messages to send since the last call."""
        out, self._out = self._out, []
        return out

    def _to_readers(self, event: Event | Activity, run: str) -> None:
        for peer in self._readers:
            if not run or self._reads(peer, run):
                self._send(peer, 0, event, run)

    def _reads(self, peer: bytes, run: str) -> bool:
        return self._readers[peer] in ("", run) and self._may_see(peer, run)

    def _send(self, peer: bytes, number: int, event: Event | Activity, run: str = "") -> None:
        recorded = self._recorders.get(peer)
        hub = recorded.hub if recorded else self._hub
        notice = Notice(number=number, hub=hub, run=run, event=event)
        self._out.append(Outgoing("sinks", peer, notice))


def _started(run: Run) -> Iterator[StreamStarted]:
    return (StreamStarted(info=s.info) for s in run.streams.values() if not s.ended)


def _subject(event: Event | Activity) -> tuple[type[Event], str, str] | None:
    """Return the identity of the stream or service that an event announces; None for others."""
    if isinstance(event, StreamStarted):
        return StreamStarted, event.info.stream, ""
    if isinstance(event, NodeUp):
        return NodeUp, event.node, event.service
    return None
