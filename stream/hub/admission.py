"""Decides what live streams do without when the nodes cannot keep up. Pure.

Whoever promises every stream every voter under overload answers every segment too late. So, past
what the nodes manage, live streams lose whole voters: the slowest first, or in the order of
`vote.shed`. The transcriber goes last and only with the voters that need its words. If a voter is
too slow only for some of the streams, the streams that began first keep it; and each stream keeps a
voter. What the nodes manage follows from the measured time of each service.

It begins when segments wait and the measured times say why, and ends only after a calm time, with
room to spare, so that it does not flap.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from abhinaya.stream.hub.nodes import Node
from abhinaya.stream.hub.segments import Record, State, Stream
from abhinaya.stream.hub.validation import TRANSCRIBER
from abhinaya.stream.wire.messages import Service

REASON: Final = "overload: left out, because the nodes do not keep up"
TOO_LATE: Final = "overload: its turn came too late"

SMOOTHING: Final = 0.2
"""Weight of the latest batch in the running mean of a service's time."""

ASKED_SMOOTHING: Final = 0.05
"""Weight of the latest segment in the share of those that a second stage is asked about."""

WINDOW_S: Final = 10.0
"""Time over which arriving segments are counted."""

ACTIVE_S: Final = 30.0
"""Time without a segment after which a stream does not count."""

SHORTEST_S: Final = 4.0
"""The same at the beginning."""

FILES: Final = 0.25
"""Share of a file's deadline that its segments may wait."""

AIM: Final = 0.9
"""Share of the nodes' time that live streams may use when voters are left out."""

LEAST_AIM: Final = 0.3
"""The same, if the measured times prove too hopeful again and again."""

CALM: Final = 0.7
"""Share that they may use when voters come back."""

CALM_S: Final = 10.0
"""Time for which that must be so."""

PATIENCE: Final = 0.25
"""Share of the deadline that a segment may wait before the nodes count as too slow."""

SETTLE_S: Final = 2.0
"""Time in which a change takes effect before the next one."""

TRIFLE: Final = 0.02
"""Share of a process's time below which leaving out a voter helps nobody."""


@dataclass(slots=True)
class _Cost:
    """What one segment costs a service, in seconds of a node.

    A GPU needs hardly longer for a full batch than for one segment, and batches are full only when
    segments wait. So times and sizes of the batches, with the line through them, say what a segment
    costs in a full one. If all had one size, it costs what it did.
    """

    batch_s: float
    measured: bool = False
    _size: float = 1.0
    _size_variance: float = 0.0
    _covariance: float = 0.0

    def add(self, batch_s: float, size: int) -> None:
        """Add the time of a batch."""
        weight = SMOOTHING if self.measured else 1.0
        more_s, more = batch_s - self.batch_s, max(1, size) - self._size
        self.batch_s += weight * more_s
        self._size += weight * more
        self._size_variance = (1 - weight) * (self._size_variance + weight * more * more)
        self._covariance = (1 - weight) * (self._covariance + weight * more * more_s)
        self.measured = True

    def share_s(self, full: int) -> float:
        """Return the share of a segment in a batch of `full` segments."""
        slope_s = mean_s = self.batch_s / self._size
        if self._size_variance > 1e-6:
            slope_s = min(mean_s, max(0.0, self._covariance / self._size_variance))
        return slope_s + (self.batch_s - slope_s * self._size) / max(full, self._size)


@dataclass(slots=True)
class Admission:
    """Which live streams do without which voters.

    Args:
        order: voters in the order in which they are left out; others follow, the slowest first.
        deadline_s: time from the end of speech to the verdict.

    """

    order: tuple[str, ...]
    deadline_s: float
    shares: dict[str, float] = field(default_factory=dict)
    """By service: the share of the live streams that it serves; empty without overload."""
    load: float = 0.0
    """What live streams need, as a share of what the busiest process manages."""
    _costs: dict[str, _Cost] = field(default_factory=dict)
    _full: dict[str, int] = field(default_factory=dict)
    """By service: segments in a full batch."""
    _needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)
    """By service of the second stage: the share of the segments that it is asked about."""
    _unlabelled: set[str] = field(default_factory=set)
    """Voters that give only attributes: they go first."""
    _arrivals: deque[float] = field(default_factory=deque)
    _spoke: dict[Stream, float] = field(default_factory=dict)
    """When each stream had its latest segment; a stream without speech costs nothing."""
    _refused: dict[Stream, frozenset[str]] = field(default_factory=dict)
    _replicas: dict[str, int] = field(default_factory=dict)
    _slowest_s: float = 0.0
    """What a segment costs the slowest process."""
    _aim: float = AIM
    _pressed: int = 0
    """Reviews in a row that found the nodes too slow."""
    _changed: float = 0.0
    _calm_since: float | None = None

    # --- what is known ----------------------------------------------------------------------------

    def declared(self, services: Iterable[Service], full: int = 1) -> None:
        """Note the services of a node, what their trials took, and the size of a full batch."""
        for service in services:
            self._full[service.name] = max(1, full)
            self._needs[service.name] = service.needs
            if service.kind == "vote" and not service.labels:
                self._unlabelled.add(service.name)
            if service.trial_ms is not None:
                trial_s = service.trial_ms / 1000
                self._costs.setdefault(service.name, _Cost(trial_s))

    def measured(self, service: str, run_ms: float, batch: int) -> None:
        """Add the time of a batch of whole segments."""
        self._costs.setdefault(service, _Cost(0.0)).add(run_ms / 1000, batch)

    def asked(self, services: Iterable[str], asked: bool) -> None:
        """Note whether services of the second stage were asked about a segment."""
        for service in services:
            share = self._asked.get(service, 1.0)
            self._asked[service] = share + ASKED_SMOOTHING * (asked - share)

    def arrived(self, now: float, stream: Stream) -> None:
        """Count a segment of a live stream."""
        self._arrivals.append(now)
        self._spoke[stream] = now

    def files(self, most: int, deadline_s: float) -> int:
        """Return how many segments of files may be in progress: none while live streams suffer."""
        if self.shares:
            return 0
        manageable = FILES * deadline_s / self._slowest_s if self._slowest_s else most
        return max(1, min(most, round(manageable)))

    def needed_s(self, service: str, before: int = 0) -> float:
        """Return the time until a service answers, after this number of tasks in its queue."""
        if service not in self._costs:
            return 0.0
        cost, full = self._costs[service], self._full.get(service, 1)
        return before * cost.share_s(full) / self._replicas.get(service, 1) + cost.batch_s

    def refused(self, stream: Stream) -> frozenset[str]:
        """Return the services that a live stream does without."""
        return self._refused.get(stream, frozenset())

    # --- decisions --------------------------------------------------------------------------------

    def review(
        self,
        now: float,
        streams: Sequence[Stream],
        processes: Mapping[tuple[str, ...], int],
        oldest_s: Mapping[str, float],
    ) -> str:
        """Decide anew, at each beat of the hub; return a remark if it begins or ends.

        Args:
            now: seconds of a monotonic clock.
            streams: live streams, in the order in which they began.
            processes: how many nodes offer the same services.
            oldest_s: age of the oldest open live segment, by service.

        """
        self._spoke = {s: t for s, t in self._spoke.items() if now - t <= ACTIVE_S}
        streams = [s for s in streams if s in self._spoke and s.info.judged]
        while self._arrivals and now - self._arrivals[0] > WINDOW_S:
            self._arrivals.popleft()
        self._replicas = {s: count for services, count in processes.items() for s in services}
        span_s = now - self._arrivals[0] if self._arrivals else 0.0
        per_s = len(self._arrivals) / min(WINDOW_S, max(SHORTEST_S, span_s))
        self._slowest_s = self._load(1.0, processes, {})
        self.load = self._load(per_s, processes, {})
        before = bool(self.shares)
        late = {s for s, age_s in oldest_s.items() if age_s >= PATIENCE * self.deadline_s}
        # the busy process must be one that is waited for: a slow server is no overload of others
        waited = {of: replicas for of, replicas in processes.items() if not late.isdisjoint(of)}
        most = 0.75 * self._aim if before else 1.0
        busy = self._load(per_s, waited, self.shares) > most
        self._pressed = self._pressed + 1 if busy else 0
        if self._pressed >= 2 and (not before or now - self._changed >= SETTLE_S):
            tight = self._fit(per_s, processes, self._aim)
            if before:  # never more than now; the measured times may be too hopeful
                self._aim = max(LEAST_AIM, 0.9 * self._aim)
                tight = {s: min(share, self.shares.get(s, 1.0)) for s, share in tight.items()}
            self._change(now, tight)
        elif before:
            self._relax(now, self._fit(per_s, processes, min(CALM, self._aim)))
        self._refused = self._pairs(streams) if self.shares else {}
        if before == bool(self.shares):
            return ""
        return self._remark(len(streams))

    def _change(self, now: float, shares: dict[str, float]) -> None:
        self.shares = shares if min(shares.values(), default=1.0) < 1.0 else {}
        self._changed, self._calm_since, self._pressed = now, None, 0
        if not self.shares:
            self._aim = AIM

    def _relax(self, now: float, shares: dict[str, float]) -> None:
        """Let voters come back if there has been room for them for some time."""
        better = all(share >= self.shares.get(s, 1.0) for s, share in shares.items())
        if not better or shares == self.shares:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= CALM_S:
            self._change(now, shares)

    def _cost(self, service: str) -> float:
        """Return what a segment costs a service, on average over those that it is not asked for."""
        full = self._full.get(service, 1)
        share_s = self._costs[service].share_s(full) if service in self._costs else 0.0
        return share_s * self._asked.get(service, 1.0)

    def _load(
        self, per_s: float, processes: Mapping[tuple[str, ...], int], shares: Mapping[str, float]
    ) -> float:
        loads = [
            per_s * sum(self._cost(s) * shares.get(s, 1.0) for s in services) / replicas
            for services, replicas in processes.items()
        ]
        return max(loads, default=0.0)

    def _fit(
        self, per_s: float, processes: Mapping[tuple[str, ...], int], aim: float
    ) -> dict[str, float]:
        """Return the share of the streams that each service can serve."""
        shares = {service: 1.0 for services in processes for service in services}
        for services, replicas in processes.items():
            self._relieve(services, shares, aim * replicas / per_s if per_s else float("inf"))
        for service, share in shares.items():
            if self._reads(service):
                shares[service] = min(share, shares.get(TRANSCRIBER, share))
        return shares

    def _relieve(self, services: Collection[str], shares: dict[str, float], room_s: float) -> None:
        """Leave out what a process has no time for: `room_s` for each segment of all streams."""
        voters = self._slowest_first(s for s in services if s != TRANSCRIBER)
        if TRANSCRIBER in services:
            words = [s for s in voters if self._reads(s)]
            sound = [s for s in voters if s not in words]
            least = self._cost(TRANSCRIBER) + sum(map(self._cost, voters[-1:]))
            if least > room_s:  # the words go too, for some streams
                room_s -= sum(map(self._cost, sound))
                kept = words[-1:]
                bundle = (TRANSCRIBER, *kept)
                share = max(0.0, room_s) / max(1e-9, sum(map(self._cost, bundle)))
                shares |= dict.fromkeys(words, 0.0) | dict.fromkeys(bundle, min(1.0, share))
                services, voters = sound, sound
                room_s += sum(map(self._cost, sound)) if room_s < 0 else float("inf")
        spent_s = sum(map(self._cost, services))
        for voter in voters:
            over_s, cost_s = spent_s - room_s, self._cost(voter)
            if over_s <= 0:
                return
            if cost_s < TRIFLE * spent_s:
                continue
            shares[voter] = max(0.0, 1.0 - over_s / cost_s)
            spent_s -= cost_s * (1.0 - shares[voter])

    def _reads(self, service: str) -> bool:
        return "transcript" in self._needs.get(service, ())

    def _slowest_first(self, voters: Iterable[str]) -> list[str]:
        rank = {voter: place for place, voter in enumerate(self.order)}

        def place(voter: str) -> tuple[int, bool, float, str]:
            labels = voter not in self._unlabelled
            return rank.get(voter, len(rank)), labels, -self._cost(voter), voter

        return sorted(voters, key=place)

    # --- streams ----------------------------------------------------------------------------------

    def _pairs(self, streams: Sequence[Stream]) -> dict[Stream, frozenset[str]]:
        """Return what each stream does without; partly served voters begin at different streams."""
        count, begin = len(streams), 0
        kept: list[set[str]] = [set() for _ in streams]
        groups: dict[str, list[str]] = {}
        for service in self.shares:
            words = service == TRANSCRIBER or self._reads(service)
            groups.setdefault(TRANSCRIBER if words else service, []).append(service)
        for group in groups.values():
            most = max(round(self.shares[s] * count) for s in group)
            for service in group:
                for place in range(round(self.shares[service] * count)):
                    kept[(begin + place) % count].add(service)
            begin += most % max(1, count)
        self._cover(kept)
        every = frozenset(self.shares)
        return {stream: every - has for stream, has in zip(streams, kept, strict=True)}

    def _cover(self, kept: list[set[str]]) -> None:
        """Give a voter to each stream that has none: the one with the most time left."""
        others = self._unlabelled | {TRANSCRIBER}
        voters = [s for s in self.shares if s not in others and not self._reads(s)]
        voters = voters or [s for s in self.shares if s not in others]
        extra = dict.fromkeys(voters, 0)
        for has in kept:
            if voters and not has - others:
                voter = min(voters, key=lambda v: (self._cost(v) * (1 + extra[v]), v))
                extra[voter] += 1
                has |= {voter, TRANSCRIBER} if self._reads(voter) else {voter}

    def left_out(self) -> dict[str, int]:
        """Return how many streams do without each service."""
        out: dict[str, int] = {}
        for services in self._refused.values():
            for service in sorted(services):
                out[service] = out.get(service, 0) + 1
        return out

    def _remark(self, streams: int) -> str:
        if not self.shares:
            return "the machine keeps up again: no voter is left out any more"
        of = ", ".join(
            name if count == streams else f"{name} (of {count} of {streams} streams)"
            for name, count in sorted(self.left_out().items(), key=lambda one: (-one[1], one[0]))
        )
        need = f"live streams need {self.load:.0%} of what the nodes manage"
        return f"the machine is overloaded: {need}. Left out until it keeps up: {of}"


# --- how much work there is -----------------------------------------------------------------------


def processes(nodes: Mapping[str, Node]) -> dict[tuple[str, ...], int]:
    """Return how many nodes offer the same services."""
    found: dict[tuple[str, ...], int] = {}
    for node in nodes.values():
        if not node.silent:
            services = tuple(node.gives)
            found[services] = found.get(services, 0) + 1
    return found


def queued(records: Iterable[Record], live: bool = False) -> Counter[str]:
    """Return by service how many segments wait for a node, of all or of live streams."""
    return Counter(
        name
        for record in records
        if record.item.final and (record.stream.info.live or not live)
        for name, work in record.work.items()
        if work.state is State.QUEUED
    )


def oldest_s(
    now: float, records: Iterable[Record], services: Iterable[str], live: bool = False
) -> dict[str, float]:
    """Return by service the age of the oldest segment that waits for it, of all or live streams."""
    found: dict[str, float] = {}
    served = set(services)
    for record in records:
        if record.item.final and (record.stream.info.live or not live):
            for name, work in record.work.items():
                if name in served and work.state in (State.QUEUED, State.HELD):
                    found[name] = max(found.get(name, 0.0), now - record.received)
    return found
