"""Labels while somebody still speaks: from fast voters, in their idle time, and soon.

Pure, and of the lowest rank: `dispatch.py` gives a partial only to a node that holds nothing,
nobody tries it twice, and it ends when the segment comes. A newer partial waits until the one
before is decided, and takes the place of another that waits: so partials come as often as the
nodes have time for them, and no work is thrown away.

The verdict is given when all who were asked have answered, or after the limit with those present.
Words that come later than that are published with the next partial: they are no less true.

Who is asked follows from what was measured, of partials where there were any: a service that took
longer than the limit is not, nor one of which nothing is known yet, for a slow model must not be
found at work on a partial when a segment comes. One that declares itself incremental is always
asked: nothing of what it does for a partial is lost.
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
"""Weight of the latest batch in the running estimate of a service's speed."""


class _Speed:
    """How long a service takes over a partial."""

    def __init__(self) -> None:
        self.run_ms: float | None = None
        self._of_partials = False

    def tried(self, run_ms: float) -> None:
        """Note a trial; it says nothing against what was measured."""
        if self.run_ms is None:
            self.run_ms = run_ms

    def measured(self, run_ms: float, partial: bool) -> None:
        """Note a batch. Those of whole segments count as long as there was none of a partial."""
        if self._of_partials and not partial:
            return
        fresh = self.run_ms is None or partial > self._of_partials
        self._of_partials |= partial
        known = run_ms if fresh or self.run_ms is None else self.run_ms
        self.run_ms = known + SMOOTHING * (run_ms - known)


class Partials:
    """Who is asked about partials, and when each gets its verdict."""

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

    # --- who is asked -----------------------------------------------------------------------------

    def declared(self, ready: Ready) -> None:
        """Note what services need and give, and how fast they were when they were tried."""
        for service in ready.gives:
            if service.name != REFINER:  # while speech goes on there is no verdict to refine
                self._declared[service.name] = service
                if service.trial_ms is not None:
                    self._speeds.setdefault(service.name, _Speed()).tried(service.trial_ms)

    def measured(self, service: str, run_ms: float, part: int) -> None:
        """Note how long a batch of a service took."""
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
        return [name for name, s in fast.items() if words or "transcript" not in s.needs]

    # --- from partial to verdict ------------------------------------------------------------------

    def open(self, now: float, stream: Stream, item: Segment) -> None:
        """Take in a partial: at once, or when the one before it is decided."""
        record = self._segments.get((item.stream, item.sequence))
        if record is not None:
            newest = record.next or record.item
            if item.part <= newest.part:
                return
            if record.key in self._undecided and record.begun is not None:
                record.next = item
                return
        self._begin(now, stream, item)

    def _begin(self, now: float, stream: Stream, item: Segment) -> None:
        record = self._segments.open(stream, item, now, now + self._limit_s)
        self._undecided[record.key] = record
        self._dispatch.submit(record, self._asked())

    def begun(self, now: float, record: Record) -> None:
        """Note that a node was given a partial: from here on time counts."""
        record.served = now
        if record.begun is None:
            record.begun, record.due = now, now + self._limit_s

    def heard(self, record: Record, words: Transcript) -> None:
        """Note what a partial said, also where it came too late for its verdict."""
        if record.words is None or record.words.part < words.part:
            record.words = words

    def over(self, record: Record) -> None:
        """Note that the segment itself has come, or never will; nodes at work are told."""
        record.next = record.words = None
        if self._undecided.pop(record.key, None):
            self._dispatch.stop(record)

    def collect(self, now: float) -> list[Verdict]:
        """Return the verdicts on partials that are complete or due; the next ones then begin."""
        verdicts = []
        for record in list(self._undecided.values()):
            overdue = record.begun is not None and record.due <= now
            if record.is_open(record.work) and not overdue:
                continue
            del self._undecided[record.key]
            verdict = self._judge(now, record)
            verdicts += [verdict] if verdict else []
            record.work = {}
            if record.next:
                item, record.next = record.next, None
                self._begin(now, record.stream, item)
        return verdicts

    def _judge(self, now: float, record: Record) -> Verdict | None:
        """Return the verdict, if it has anything to say: a label, or words."""
        record.transcript = record.transcript or record.words
        enough = len(record.votes) >= max(1, self._rule.quorum)
        if not enough and not (record.transcript and record.transcript.text):
            return None
        return judge(now, record, self._voters, self._rule, self._why_missing)

    def _why_missing(self, record: Record, voter: str) -> str:
        service, run_ms = self._declared.get(voter), self._run_ms(voter)
        if service is None or not self._dispatch.is_served(voter):
            return "no node is ready"
        if record.is_open((voter,)):
            return "late for a provisional label"
        if self._is_fast(service):
            return "no transcript while speech goes on"
        if run_ms is not None:
            return f"too slow for provisional labels ({run_ms:.0f} ms)"
        return "is not asked for provisional labels before it has voted once"
