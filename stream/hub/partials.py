"""Provisional verdicts during speech, by fast services in their idle time. Pure.

`dispatch.py` sends a partial only to a node without tasks and never retries it; it ends when the
whole segment arrives. A newer partial waits until the current one is decided, and replaces another
that waits. So the rate of partials adapts to the load, and no work is wasted.

The verdict is made when all asked services have answered, or at the time limit with the votes that
are present. Words that arrive later are published with the next partial.

A service is asked if its measured time for a partial (or for a segment, until it has had a partial)
is within the limit. A service without a measurement is not asked: a slow model must not be busy
with a partial when a segment arrives. An incremental service is always asked, because a later
partial reuses its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from abhinaya.models.vote.ensemble import Rule
from abhinaya.stream.hub.aggregator import judge
from abhinaya.stream.hub.dispatch import Dispatch
from abhinaya.stream.hub.segments import Key, Record, Segments, Stream
from abhinaya.stream.hub.validation import REFINER, TRANSCRIBER
from abhinaya.stream.wire.messages import Ready, Segment, Service, Transcript, Verdict

SMOOTHING: Final = 0.3
"""Weight of the latest batch in the running mean of a service's time."""


class _Speed:
    """Running mean of the time that a service needs for a partial."""

    def __init__(self) -> None:
        self.run_ms: float | None = None
        self._of_partials = False

    def tried(self, run_ms: float) -> None:
        """Use the time of a trial, unless there is a measurement."""
        if self.run_ms is None:
            self.run_ms = run_ms

    def measured(self, run_ms: float, partial: bool) -> None:
        """Add the time of a batch. Whole segments count only until the first partial."""
        if self._of_partials and not partial:
            return
        fresh = self.run_ms is None or partial > self._of_partials
        self._of_partials |= partial
        known = run_ms if fresh or self.run_ms is None else self.run_ms
        self.run_ms = known + SMOOTHING * (run_ms - known)


class Partials:
    """Decides which services are asked about partials, and when each partial gets its verdict."""

    def __init__(
        self,
        voters: Sequence[str],
        rule: Rule,
        limit_s: float,
        segments: Segments,
        dispatch: Dispatch,
    ) -> None:
        self._voters = voters
        self._rule = rule
        self._limit_s = limit_s
        self._segments = segments
        self._dispatch = dispatch
        self._declared: dict[str, Service] = {}
        self._speeds: dict[str, _Speed] = {}
        self._undecided: dict[Key, Record] = {}

    def __bool__(self) -> bool:
        return bool(self._undecided)

    # --- services ---------------------------------------------------------------------------------

    def declared(self, ready: Ready) -> None:
        """Store the declared services of a node, and the times of their trials."""
        for service in ready.gives:
            if service.name != REFINER:  # provisional verdicts are not refined
                self._declared[service.name] = service
                if service.trial_ms is not None:
                    self._speeds.setdefault(service.name, _Speed()).tried(service.trial_ms)

    def measured(self, service: str, run_ms: float, part: int) -> None:
        """Add the time of a batch of a service."""
        self._speeds.setdefault(service, _Speed()).measured(run_ms, part > 0)

    def _run_ms(self, service: str) -> float | None:
        return self._speeds[service].run_ms if service in self._speeds else None

    def _is_fast(self, service: Service) -> bool:
        run_ms = self._run_ms(service.name)
        return service.incremental or (run_ms is not None and run_ms <= 1000 * self._limit_s)

    def _asked(self) -> list[str]:
        fast = {
            name: service
            for name, service in self._declared.items()
            if self._dispatch.is_served(name) and self._is_fast(service)
        }
        words = TRANSCRIBER in fast
        asked = [name for name, s in fast.items() if words or "transcript" not in s.needs]
        first = any(name in self._voters and name not in self._rule.cascade for name in asked)
        return [name for name in asked if first or name not in self._rule.cascade]

    # --- from partial to verdict ------------------------------------------------------------------

    def open(self, now: float, stream: Stream, item: Segment) -> None:
        """Add a partial; it waits while a node works on an earlier one; older ones are ignored."""
        record = self._segments.get((stream.id, item.sequence))
        if record is not None:
            newest = record.next or record.item
            if item.part <= newest.part:
                return
            if record.key in self._undecided and record.begun is not None:
                self._segments.keep(record, item)
                return
        self._begin(now, stream, item)

    def _begin(self, now: float, stream: Stream, item: Segment) -> None:
        record = self._segments.open(stream, item, now, now + self._limit_s)
        self._undecided[record.key] = record
        self._dispatch.submit(record, self._asked())

    def begun(self, now: float, record: Record) -> None:
        """Start the time limit of a partial, when the first node receives it."""
        record.served = now
        if record.begun is None:
            record.begun, record.due = now, now + self._limit_s

    def keep_words(self, record: Record, words: Transcript) -> None:
        """Keep the transcript of a partial, even if it came too late for the verdict."""
        if record.words is None or record.words.part < words.part:
            record.words = words

    def end(self, record: Record) -> None:
        """End the partials of a segment, and cancel their tasks."""
        self._segments.keep(record, None)
        record.words = None
        if self._undecided.pop(record.key, None):
            self._dispatch.stop(record)

    def collect(self, now: float) -> list[tuple[Stream, Verdict]]:
        """Return the verdicts of partials that are complete or due; start the next partials."""
        verdicts: list[tuple[Stream, Verdict]] = []
        for record in list(self._undecided.values()):
            overdue = record.begun is not None and record.due <= now
            if record.is_open(record.work) and not overdue:
                continue
            del self._undecided[record.key]
            verdict = self._judge(now, record)
            verdicts += [(record.stream, verdict)] if verdict else []
            record.work = {}
            if item := record.next:
                self._segments.keep(record, None)
                self._begin(now, record.stream, item)
        return verdicts

    def _judge(self, now: float, record: Record) -> Verdict | None:
        """Return the verdict; None if there are neither a label, nor attributes, nor words."""
        record.transcript = record.transcript or record.words
        verdict = judge(now, record, self._voters, self._rule, self._why_missing)
        return verdict if verdict.leading or verdict.attributes or verdict.text else None

    def _why_missing(self, record: Record, voter: str) -> str:
        service, run_ms = self._declared.get(voter), self._run_ms(voter)
        if service is None or not self._dispatch.is_served(voter):
            return "no node is ready"
        if record.is_open((voter,)):
            return "late for a provisional label"
        if self._is_fast(service):
            return "no transcript during speech"
        if run_ms is not None:
            return f"too slow for provisional labels ({run_ms:.0f} ms)"
        return "is not asked for provisional labels before it has voted once"
