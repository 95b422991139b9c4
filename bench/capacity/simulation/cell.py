"""One cell: the real broker, simulated nodes, the channels of its calls, and their recorder."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from abhinaya.bench.capacity.demand import Group, partials_of
from abhinaya.bench.capacity.figures import Figures
from abhinaya.bench.capacity.plan import Nodes
from abhinaya.bench.capacity.simulation.events import Events, Server
from abhinaya.bench.capacity.simulation.nodes import Answer, Pool, SimNode
from abhinaya.bench.capacity.simulation.speech import Spoken, spoken
from abhinaya.bench.load import kind_of
from abhinaya.stream.clock import SAMPLE_RATE, to_samples
from abhinaya.stream.errors import ProcessError
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.hub.main import TICK_S
from abhinaya.stream.hub.publisher import Outgoing
from abhinaya.stream.hub.validation import LONGEST_SAMPLES
from abhinaya.stream.settings.config import Config, workers_of
from abhinaya.stream.wire.messages import (
    Beat,
    Cancel,
    Gap,
    Hello,
    Notice,
    Payload,
    Refused,
    Seen,
    Segment,
    StreamInfo,
    Subscribe,
    Task,
    Verdict,
)

HOP_S: Final = 0.0005
"""Assumption: time of a message between two machines."""
CONFIRM_S: Final = 0.1
RUN: Final = "run"
MOVED: Final = "moved"
"""Front of the calls that come from a lost cell."""
RECORDER: Final = b"recorder"
SILENCE: Final = np.zeros(LONGEST_SAMPLES, np.int16)


@dataclass(slots=True)
class Tally:
    """What became of the segments that were spoken in some time."""

    spoken: int = 0
    verdicts: int = 0
    latency_s: list[float] = field(default_factory=list)
    """From the last sample to the verdict."""
    votes: int = 0
    """Votes that verdicts should have."""
    missing: Counter[str] = field(default_factory=Counter)
    """Missing votes: `overload`, `late` or `other`."""
    by_voter: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    held: int = 0
    """Segments that waited for another cell."""

    def add(self, other: Tally) -> None:
        """Add the segments of another cell."""
        self.spoken += other.spoken
        self.verdicts += other.verdicts
        self.latency_s += other.latency_s
        self.votes += other.votes
        self.missing.update(other.missing)
        self.by_voter.update(other.by_voter)
        self.gaps.update(other.gaps)
        self.held += other.held


@dataclass(slots=True)
class _Channel:
    """A stream: what it says, and how far it has come."""

    name: str
    front: str
    says: Iterator[Spoken]
    since: float
    """When its hub took over; what was ready before is not said."""
    sequence: int = 0
    position: int = 0


class SimCell:
    """A hub with its nodes and the channels of its calls.

    Args:
        config: settings of the profile.
        figures: what messages and models cost.
        groups: processes of the profile, with the number of nodes of each in this cell.
        cells: number of cells that share the servers.
        window: simulated seconds between which segments are counted, by when they were spoken.

    """

    def __init__(
        self,
        config: Config,
        figures: Figures,
        groups: Sequence[tuple[Group, Nodes]],
        cells: int,
        window: tuple[float, float],
    ) -> None:
        self.events = Events()
        self.hub = Server(self.events)
        self.own, self.moved = Tally(), Tally()
        self._figures, self._window = figures, window
        self._config = simulated(config)
        self._broker = Broker(self._config, "hub", None, supervised=True)
        self._silence_s = config.vad.min_silence_s
        self._partials = partials_of(config.vad, figures.speech.lengths_s)[0]
        self._limit_s = config.deadlines.provisional_s
        self.nodes: dict[bytes, SimNode] = {}
        self._channels: dict[str, _Channel] = {}
        self._confirm = 0
        self._hub_id = ""
        self._open: dict[tuple[str, int], float] = {}
        self.open_s = 0.0
        """Sum of the time that each segment was open."""
        self.closed = 0
        self._start(groups, cells)

    def _start(self, groups: Sequence[tuple[Group, Nodes]], cells: int) -> None:
        self._deliver(
            self._broker.from_sink(0.0, RECORDER, Subscribe(sink="recorder", confirm=True, run=RUN))
        )
        workers = workers_of(self._config)
        servers = [(group, nodes) for group, nodes in groups if group.serves]
        for group, nodes in groups:
            host, pool = group.services[0], None
            for server, of in servers:
                if server.services[0] == f"server of {host}":
                    pool = Pool(of.total * server.batch / cells, server.batch_s)
            for number in range(nodes.per_cell):
                node = SimNode(
                    f"{host}-{number}", group, workers[host], self.events, self._answered, pool
                )
                self.nodes[node.name.encode()] = node
                self._deliver(self._broker.from_worker(0.0, node.name.encode(), node.ready()))
        self.events.every(TICK_S, lambda now: self._deliver(self._broker.tick(now)))
        self.events.every(self._config.supervise.beat_s, self._beat, 0.01)
        self.events.every(CONFIRM_S, self._confirmed, 0.02)

    # --- channels ---------------------------------------------------------------------------------

    def connect(self, front: str, names: Sequence[str], seed: str, since: float = 0.0) -> None:
        """Let a front bring channels; `since`: they spoke before, and kept what was not taken."""
        now = self.events.now
        added = [
            _Channel(name, front, spoken(self._figures.speech, f"{seed}/{name}"), since)
            for name in names
        ]
        infos = tuple(
            StreamInfo(stream=c.name, front=front, source="", live=True, start_unix_s=0.0, run=RUN)
            for c in added
        )
        hello = Hello(
            front=front, incarnation="0", run=RUN, streams=infos, first_sequences=(0,) * len(infos)
        )
        self._deliver(self._broker.from_worker(now, front.encode(), hello))
        for channel in added:
            self._channels[channel.name] = channel
            self._next(channel)

    def _next(self, channel: _Channel) -> None:
        """Let the channel say its next segment."""
        said = next(channel.says)
        while said.ready_s + self._silence_s < channel.since:
            said = next(channel.says)
        due = said.ready_s + self._silence_s
        self.events.at(due, lambda now: self._say(now, channel, said, now - due))

    def _say(self, now: float, channel: _Channel, said: Spoken, held_s: float) -> None:
        length = min(LONGEST_SAMPLES, to_samples(said.length_s))
        end = max(channel.position + length, round(said.ready_s * SAMPLE_RATE))
        segment = Segment(
            stream=channel.name,
            sequence=channel.sequence,
            start=end - length,
            end=end,
            samples=Payload.of(SILENCE[:length]),
            cut="pause",
            captured_unix_s=said.ready_s,
            capture_ms=0.0,
            sent_unix_s=now,
            held_ms=1000 * held_s,
        )
        channel.sequence, channel.position = channel.sequence + 1, end
        if self._counts(said.ready_s):
            tally = self._tally(channel.name)
            tally.spoken += 1
            tally.held += held_s > HOP_S
        cost_s = self._figures.hub.segment_s + self._cost_of_partials()
        peer = channel.front.encode()

        def arrive(now: float) -> None:
            self._open[channel.name, segment.sequence] = now
            self._deliver(self._broker.from_worker(now, peer, segment))

        self.events.at(now + HOP_S, lambda _: self.hub.take(cost_s, arrive))
        self._next(channel)

    def _cost_of_partials(self) -> float:
        """Return what the partials of a segment cost the hub: tasks only while nodes are idle."""
        idle = {
            node.group.services: node.group.tasks
            for node in self.nodes.values()
            if node.work_age_s(0.0) is None and node.group.alone_s <= self._limit_s
        }
        hub = self._figures.hub
        return self._partials * (hub.segment_s + sum(idle.values()) * hub.task_s)

    # --- messages ---------------------------------------------------------------------------------

    def _answered(self, now: float, name: str, answers: Sequence[Answer]) -> None:
        peer, cost_s = name.encode(), self._figures.hub.task_s

        def arrive(answer: Answer) -> None:
            def handle(now: float) -> None:
                self._deliver(self._broker.from_worker(now, peer, answer))

            self.events.at(now + HOP_S, lambda _: self.hub.take(cost_s, handle))

        for answer in answers:
            arrive(answer)

    def _beat(self, now: float) -> None:
        for name, node in self.nodes.items():
            beat = Beat(name=node.name, work_age_s=node.work_age_s(now))
            self._deliver(self._broker.from_worker(now, name, beat))
        for front in {channel.front for channel in self._channels.values()}:
            self._deliver(self._broker.from_worker(now, front.encode(), Beat(name=front)))

    def _confirmed(self, now: float) -> None:
        if self._confirm:
            seen = Seen(hub=self._hub_id, number=self._confirm)
            self._confirm = 0
            self._deliver(self._broker.from_sink(now, RECORDER, seen))

    def _deliver(self, outgoing: Sequence[Outgoing]) -> None:
        now = self.events.now
        for item in outgoing:
            message = item.message
            if isinstance(message, Task):
                node = self.nodes[item.peer]
                self.events.at(now + HOP_S, functools.partial(_take, node, message))
            elif isinstance(message, Cancel):
                self.nodes[item.peer].cancel(message)
            elif isinstance(message, Notice):
                self._note(now, message)
            elif isinstance(message, Refused):
                raise ProcessError("the simulated hub", f"refused {item.peer!r}: {message.reason}")

    def _note(self, now: float, notice: Notice) -> None:
        event = notice.event
        if notice.number:
            self._confirm, self._hub_id = notice.number, notice.hub
        if not isinstance(event, Verdict | Gap):
            return
        since = self._open.pop((event.stream, event.sequence), None)
        if since is None:
            return  # it revises a verdict
        self.open_s, self.closed = self.open_s + now - since, self.closed + 1
        if isinstance(event, Gap):
            if self._counts(event.end / SAMPLE_RATE):
                self._tally(event.stream).gaps[event.reason] += 1
        elif self._counts(event.captured_unix_s):
            self._count(now + HOP_S - event.captured_unix_s, event)

    def _count(self, latency_s: float, verdict: Verdict) -> None:
        tally = self._tally(verdict.stream)
        tally.verdicts += 1
        tally.latency_s.append(latency_s)
        tally.votes += len(verdict.votes) + len(verdict.missing)
        for missing in verdict.missing:
            tally.missing[kind_of(missing.reason)] += 1
            tally.by_voter[missing.voter] += 1

    def _tally(self, stream: str) -> Tally:
        return self.moved if self._channels[stream].front == MOVED else self.own

    @property
    def open(self) -> int:
        """Return how many segments have no verdict yet."""
        return len(self._open)

    def _counts(self, spoken_s: float) -> bool:
        return self._window[0] <= spoken_s < self._window[1]


def _take(node: SimNode, task: Task, now: float) -> None:
    node.take(now, task)


def simulated(config: Config) -> Config:
    """Return the settings of a profile without what needs its models: canary and combiner."""
    supervise = dataclasses.replace(config.supervise, canary_s=0.0)
    vote = dataclasses.replace(config.vote, method="majority", combiner="")
    return dataclasses.replace(config, supervise=supervise, vote=vote, refiner=None)
