"""Turns votes into verdicts, in order and by their deadline; a late vote may revise a verdict.

The label itself is decided by the vote rule in models/vote/ensemble.py, which this file calls.
Pure: no sockets and no clock; `now` is seconds of any monotonic clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

from abhinaya.models.base import Ballot
from abhinaya.models.vote.ensemble import Decision, Rule, decide, defers, withheld
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.hub.segments import Key, Record, State, Stream
from abhinaya.stream.hub.validation import REFINER, TRANSCRIBER
from abhinaya.stream.wire.messages import NOT_JUDGED, Gap, Missing, StreamEnded, Verdict, Vote

Outcome = Verdict | Gap | StreamEnded
Explain = Callable[[Record, str], str]
"""Returns why a voter has not answered for a segment."""


class Aggregator:
    """Decides when each segment gets its verdict, and publishes each stream in order.

    Args:
        voters: names of the voters that a verdict waits for.
        rule: the vote rule.
        revise_s: how long after a verdict a late vote may still change it.
        explain: returns why a voter is late.

    """

    def __init__(
        self, voters: Iterable[str], rule: Rule, revise_s: float, explain: Explain
    ) -> None:
        self._voters = tuple(voters)
        self._rule = rule
        self._revise_s = revise_s
        self._explain = explain
        self._touched: dict[str, Stream] = {}
        """Streams that may have something new to publish."""
        self._due: list[tuple[float, int, Stream]] = []
        self._most = 100
        """Length of `_due` above which it is cleared of the segments that are decided."""
        self._closing: list[tuple[float, Key]] = []
        self._revised: list[tuple[Stream, Outcome]] = []
        self._contested: list[Record] = []
        self._answered: dict[Record, None] = {}
        """Records with a new vote, or one less to come: the cascade may have its turn."""
        cascade = self._rule.cascade
        self._at_once = tuple(voter for voter in self._voters if voter not in cascade)

    def open(self, record: Record) -> None:
        """Add a segment; its verdict is due at `record.due`."""
        record.stream.outcomes.append(record)
        self._touch(record.stream)  # perhaps nobody is asked about it
        heapq.heappush(self._due, (record.due, record.order, record.stream))
        if len(self._due) > self._most:  # long deadlines must not keep streams that are over
            self._due = [due for due in self._due if due[2].outcomes]
            heapq.heapify(self._due)
            self._most = 2 * len(self._due) + 100

    def voted(self, now: float, record: Record, vote: Vote) -> None:
        """Add a vote; a late vote revises the verdict if it changes the label or the attributes."""
        if vote.voter != REFINER:
            record.votes[vote.voter] = vote
            record.missing.pop(vote.voter, None)
            record.voted = now
            self._answered[record] = None
        elif record.choices:
            record.choices, record.refinement = (), vote
        if record.verdict is None:
            self._touch(record.stream)
        else:
            self._revise(now, record)

    def transcribed(self, record: Record) -> None:
        """Note that the transcript is there: the verdict may have waited for it."""
        self._touch(record.stream)

    def absent(self, now: float, record: Record, voter: str, reason: str) -> None:
        """Note that a voter, the transcriber or the refiner will not answer."""
        if voter == TRANSCRIBER:
            self._touch(record.stream)
        elif voter == REFINER:
            record.choices = ()
            self._finish(now, record)
        elif voter in self._voters and voter not in record.votes:
            record.missing[voter], record.voted = reason, now
            self._answered[record] = None
            if record.verdict is None:
                self._touch(record.stream)
            else:
                self._finish(now, record)

    def shed(self, record: Record, reason: str) -> None:
        """Replace a segment by a gap, unless it has a verdict."""
        if record.verdict is not None:
            return
        item, outcomes = record.item, record.stream.outcomes
        outcomes[outcomes.index(record)] = Gap(
            stream=item.stream,
            sequence=item.sequence,
            start=item.start,
            end=item.end,
            reason=reason,
        )
        self._touch(record.stream)

    def append(self, stream: Stream, outcome: Gap | StreamEnded) -> None:
        """Add a gap or the end of the stream."""
        stream.outcomes.append(outcome)
        self._touch(stream)

    def collect(self, now: float) -> list[tuple[Stream, Outcome]]:
        """Return the outcomes that can be published now, each stream in order."""
        while self._due and self._due[0][0] <= now:
            self._touch(heapq.heappop(self._due)[2])
        outcomes, self._revised = self._revised, []
        for stream in self._touched.values():
            outcomes += [(stream, outcome) for outcome in self._release(now, stream)]
        self._touched.clear()
        return outcomes

    def closed(self, now: float) -> list[Key]:
        """Return the segments whose verdicts will not change any more; may repeat some."""
        keys = []
        while self._closing and self._closing[0][0] <= now:
            keys.append(heapq.heappop(self._closing)[1])
        return keys

    def second_stage(self) -> Iterable[tuple[Record, tuple[str, ...], bool]]:
        """Yield (segment or partial, services of the second stage, whether they must be asked)."""
        while self._contested:
            yield self._contested.pop(), (REFINER,), True
        while self._answered:
            record, _ = self._answered.popitem()
            deferred = tuple(v for v in self._rule.cascade if record.state_of(v) is State.DEFERRED)
            complete = not record.is_open(self._at_once)
            if deferred and defers(_ballots(record), self._rule, complete):
                yield record, deferred, True
            elif deferred and complete:
                yield record, deferred, False

    # --- how it works -----------------------------------------------------------------------------

    def _touch(self, stream: Stream) -> None:
        self._touched[stream.id] = stream

    def _release(self, now: float, stream: Stream) -> Iterable[Outcome]:
        while stream.outcomes:
            head = stream.outcomes[0]
            if isinstance(head, Record):
                # the words belong to the verdict, also where no voter reads them
                settled = head.settled(self._voters) and not head.is_open((TRANSCRIBER,))
                if not settled and now < head.due:
                    return
                head.verdict = self._judge(now, head, 0)
                self._contest(head)
                wait = 0.0 if settled and not head.choices else self._revise_s
                heapq.heappush(self._closing, (now + wait, head.key))
                yield head.verdict
            else:
                yield head
            stream.outcomes.popleft()

    def _revise(self, now: float, record: Record) -> None:
        assert record.verdict is not None
        verdict, old = self._judge(now, record, record.verdict.revision + 1), record.verdict
        if (verdict.label, verdict.attributes) != (old.label, old.attributes):
            record.verdict = verdict
            self._revised.append((record.stream, verdict))
        self._finish(now, record)

    def _contest(self, record: Record) -> None:
        """Ask the refiner if the verdict was close and the segment has words."""
        if self._rule.refine_margin and record.transcript and record.transcript.text:
            record.choices = _decision(record, self._rule).contested(self._rule)
            if record.choices:
                self._contested.append(record)

    def _finish(self, now: float, record: Record) -> None:
        """Close a decided segment if no more answers are expected."""
        if record.settled(self._voters) and not record.choices:
            heapq.heappush(self._closing, (now, record.key))

    def _judge(self, now: float, record: Record, revision: int) -> Verdict:
        return judge(now, record, self._voters, self._rule, self._explain, revision)


def judge(
    now: float,
    record: Record,
    voters: Sequence[str],
    rule: Rule,
    explain: Explain,
    revision: int = 0,
) -> Verdict:
    """Return the verdict from the present votes, with the reason of each missing vote."""
    item, decision, voters = record.item, _decision(record, rule), record.voting(voters)
    return Verdict(
        stream=item.stream,
        sequence=item.sequence,
        start=item.start,
        end=item.end,
        start_unix_s=record.stream.info.start_unix_s + to_seconds(item.start),
        label=decision.label,
        reason=(decision.reason and _common_reason(record, voters)) or decision.reason,
        leading=decision.leading,
        confidence=decision.confidence,
        agreement=decision.agreement,
        margin=decision.margin,
        attributes=decision.attributes,
        revision=revision,
        part=item.part,
        refinement=record.refinement,
        votes=tuple(record.votes[v] for v in voters if v in record.votes),
        missing=tuple(
            Missing(voter=v, reason=record.missing.get(v) or explain(record, v))
            for v in voters
            if v not in record.votes
        ),
        transcript=record.transcript,
        captured_unix_s=item.captured_unix_s,
        stages_ms=_stages(now, record, record.settled(voters)),
    )


def _common_reason(record: Record, voters: Sequence[str]) -> str:
    """Return the reason of all missing voters, if it is the same for all."""
    reasons = {record.missing.get(voter, "") for voter in voters}
    return reasons.pop() if len(reasons) == 1 else ""


def _decision(record: Record, rule: Rule) -> Decision:
    if not record.stream.info.judged:
        return withheld(NOT_JUDGED)
    opinion = record.refinement.label if record.refinement else ""
    return decide(_ballots(record), rule, opinion)


def _ballots(record: Record) -> dict[str, Ballot]:
    return {
        name: Ballot(vote.label, vote.probabilities, attributes=vote.attributes)
        for name, vote in record.votes.items()
    }


def _stages(now: float, record: Record, settled: bool) -> dict[str, float]:
    """Return the duration of each stage from the end of speech to the verdict, in milliseconds."""
    item = record.item
    to_hub_ms = 1000 * (item.sent_unix_s - item.captured_unix_s)
    begun = record.begun if record.begun is not None else now
    transcribed = max(record.transcribed if record.transcribed is not None else begun, begun)
    # a verdict at its deadline: the voters took all the time until now
    voted = max(record.voted if settled and record.voted is not None else now, transcribed)
    return {
        "capture": item.capture_ms,
        "segment": max(0.0, to_hub_ms - item.capture_ms),
        "queue": 1000 * (begun - record.received),
        "asr": 1000 * (transcribed - begun),
        "voters": 1000 * (voted - transcribed),
        "vote": 1000 * (now - voted),
    }
