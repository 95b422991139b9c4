"""Votes in, verdicts out: in order, by their deadline, revised if a late vote changes the label.

Pure: no sockets and no clock; `now` is seconds of any monotonic clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from abhinaya.models.base import Ballot
from abhinaya.models.vote.ensemble import Decision, Rule, decide
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.hub.dispatch_state import Key
from abhinaya.stream.hub.validation import REFINER
from abhinaya.stream.wire.messages import (
    Gap,
    Missing,
    Provisional,
    Segment,
    StreamEnded,
    StreamInfo,
    Transcript,
    Verdict,
    Vote,
)

Outcome = Verdict | Gap | StreamEnded
Explain = Callable[[Key, str], str]
"""Says why a voter has not answered for a segment."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a verdict repeats of its segment."""

    stream: str
    sequence: int
    start: int
    end: int
    start_unix_s: float
    captured_unix_s: float
    capture_ms: float
    segment_ms: float

    @classmethod
    def of(cls, item: Segment | Provisional, info: StreamInfo) -> Facts:
        """Take them from a segment, or a part of one."""
        on_the_way_ms = 1000 * (item.sent_unix_s - item.captured_unix_s)
        return cls(
            stream=item.stream,
            sequence=item.sequence,
            start=item.start,
            end=item.end,
            start_unix_s=info.start_unix_s + to_seconds(item.start),
            captured_unix_s=item.captured_unix_s,
            capture_ms=item.capture_ms,
            segment_ms=max(0.0, on_the_way_ms - item.capture_ms),
        )

    @property
    def key(self) -> Key:
        """Identity of the segment."""
        return self.stream, self.sequence


@dataclass(slots=True)
class Case:
    """One segment, or a part of one, on its way to a verdict."""

    facts: Facts
    received: float
    due: float
    votes: dict[str, Vote] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    transcript: Transcript | None = None
    begun: float | None = None
    transcribed: float | None = None
    voted: float | None = None
    """When the last voter answered or was given up."""
    verdict: Verdict | None = None
    """The latest one given."""
    asked: bool = False
    """Whether the refiner has been asked and not answered."""
    refinement: Vote | None = None

    def settled(self, voters: Collection[str]) -> bool:
        """Whether every voter has answered or been given up."""
        return len(self.votes) + len(self.missing) >= len(voters)


class Aggregator:
    """Every segment between its arrival and its last revision.

    Args:
        voters: whose votes a verdict waits for.
        rule: how votes become a label.
        revise_s: how long after a verdict a late vote may still change it.

    """

    def __init__(self, voters: Iterable[str], rule: Rule, revise_s: float) -> None:
        self._voters = tuple(voters)
        self._rule = rule
        self._revise_s = revise_s
        self._cases: dict[Key, Case] = {}
        self._order: dict[str, deque[Case | Gap | StreamEnded]] = {}
        self._touched: dict[str, None] = {}
        self._due: list[tuple[float, str]] = []
        self._closing: list[tuple[float, Key]] = []
        self._revised: list[Outcome] = []
        self._contested: list[tuple[Key, tuple[str, ...]]] = []

    def open(self, now: float, facts: Facts, due: float) -> None:
        """Take in a segment, whose verdict is due at `due`."""
        case = Case(facts, now, due)
        self._cases[facts.key] = case
        self._order.setdefault(facts.stream, deque()).append(case)
        heapq.heappush(self._due, (due, facts.stream))

    def begun(self, now: float, key: Key) -> None:
        """Note that a node has been given the segment."""
        case = self._cases.get(key)
        if case is not None and case.begun is None:
            case.begun = now

    def transcribed(self, now: float, transcript: Transcript) -> None:
        """Add the transcript."""
        case = self._cases.get((transcript.stream, transcript.sequence))
        if case is not None:
            case.transcript, case.transcribed = transcript, now

    def voted(self, now: float, vote: Vote, explain: Explain) -> None:
        """Add a vote; one that comes after the verdict revises it if the label changes."""
        if vote.voter == REFINER:
            self.refined(now, vote, explain)
            return
        case = self._cases.get((vote.stream, vote.sequence))
        if case is None:
            return
        case.votes[vote.voter] = vote
        case.missing.pop(vote.voter, None)
        case.voted = now
        if case.verdict is None:
            self._touch(case)
            return
        self._revise(now, case, explain)

    def refined(self, now: float, answer: Vote, explain: Explain) -> None:
        """Add what the refiner says of a close call; it revises the verdict or confirms it."""
        case = self._cases.get((answer.stream, answer.sequence))
        if case is not None and case.asked:
            case.asked, case.refinement = False, answer
            self._revise(now, case, explain)

    def unrefined(self, now: float, key: Key) -> None:
        """Note that the refiner has no answer: the verdict stands."""
        case = self._cases.get(key)
        if case is not None and case.asked:
            case.asked = False
            self._finish(now, case)

    def absent(self, now: float, key: Key, voter: str, reason: str) -> None:
        """Note that a voter will not vote, or the refiner not answer."""
        if voter == REFINER:
            self.unrefined(now, key)
            return
        case = self._cases.get(key)
        if case is None or voter not in self._voters or voter in case.votes:
            return
        case.missing[voter], case.voted = reason, now
        if case.verdict is None:
            self._touch(case)
        else:
            self._finish(now, case)

    def shed(self, key: Key, reason: str) -> None:
        """Give up a segment: a gap takes its place, unless a verdict has been given."""
        case = self._cases.pop(key)
        facts = case.facts
        if case.verdict is not None:
            return
        queue = self._order[facts.stream]
        queue[queue.index(case)] = Gap(
            stream=facts.stream,
            sequence=facts.sequence,
            start=facts.start,
            end=facts.end,
            reason=reason,
        )
        self._touched[facts.stream] = None

    def append(self, outcome: Gap | StreamEnded) -> None:
        """Put a gap or the end of the stream into its place in the order."""
        self._order.setdefault(outcome.stream, deque()).append(outcome)
        self._touched[outcome.stream] = None

    def collect(self, now: float, explain: Explain) -> list[Outcome]:
        """Give what can be said now, in the order of each stream."""
        while self._due and self._due[0][0] <= now:
            self._touched[heapq.heappop(self._due)[1]] = None
        outcomes, self._revised = self._revised, []
        for stream in self._touched:
            outcomes += self._release(now, stream, explain)
        self._touched.clear()
        return outcomes

    def closed(self, now: float) -> list[Key]:
        """Give the segments about which nothing more will be said, and forget them."""
        keys = []
        while self._closing and self._closing[0][0] <= now:
            key = heapq.heappop(self._closing)[1]
            if self._cases.pop(key, None) is not None:
                keys.append(key)
        return keys

    def next_due(self) -> float | None:
        """When something happens by the passing of time alone."""
        times = [heap[0][0] for heap in (self._due, self._closing) if heap]
        return min(times) if times else None

    def contested(self) -> list[tuple[Key, tuple[str, ...]]]:
        """Give the segments that the refiner should be asked about, and among which labels."""
        found, self._contested = self._contested, []
        return found

    @property
    def undecided(self) -> int:
        """Segments without a verdict."""
        return sum(case.verdict is None for case in self._cases.values())

    # --- how it works -----------------------------------------------------------------------------

    def _touch(self, case: Case) -> None:
        self._touched[case.facts.stream] = None

    def _release(self, now: float, stream: str, explain: Explain) -> Iterable[Outcome]:
        queue = self._order.get(stream)
        while queue:
            head = queue[0]
            if isinstance(head, Case):
                if not head.settled(self._voters) and now < head.due:
                    return
                head.verdict = self._judge(now, head, explain, 0)
                self._contest(head)
                done = head.settled(self._voters) and not head.asked
                wait = 0.0 if done else self._revise_s
                heapq.heappush(self._closing, (now + wait, head.facts.key))
                yield head.verdict
            else:
                yield head
            queue.popleft()
        self._order.pop(stream, None)

    def _revise(self, now: float, case: Case, explain: Explain) -> None:
        assert case.verdict is not None
        verdict = self._judge(now, case, explain, case.verdict.revision + 1)
        if verdict.label != case.verdict.label:
            case.verdict = verdict
            self._revised.append(verdict)
        self._finish(now, case)

    def _contest(self, case: Case) -> None:
        """Have the refiner asked if the verdict was close, and there is something to read."""
        if not self._rule.refine_margin or case.transcript is None or not case.transcript.text:
            return
        choices = _decided(case, self._rule).contested(self._rule)
        if choices:
            case.asked = True
            self._contested.append((case.facts.key, choices))

    def _finish(self, now: float, case: Case) -> None:
        """Close a segment that has its verdict, once nobody is waited for any more."""
        if case.settled(self._voters) and not case.asked:
            heapq.heappush(self._closing, (now, case.facts.key))

    def _judge(self, now: float, case: Case, explain: Explain, revision: int) -> Verdict:
        return judge(now, case, self._voters, self._rule, explain, revision=revision)


def judge(
    now: float,
    case: Case,
    voters: Sequence[str],
    rule: Rule,
    explain: Explain,
    *,
    revision: int = 0,
    part: int = 0,
) -> Verdict:
    """Give the verdict of the votes that are there; whoever is missing is named with the reason."""
    facts = case.facts
    decision = _decided(case, rule)
    return Verdict(
        stream=facts.stream,
        sequence=facts.sequence,
        start=facts.start,
        end=facts.end,
        start_unix_s=facts.start_unix_s,
        label=decision.label,
        reason=(decision.reason and _common_reason(case, voters)) or decision.reason,
        leading=decision.leading,
        confidence=decision.confidence,
        agreement=decision.agreement,
        margin=decision.margin,
        revision=revision,
        part=part,
        refinement=case.refinement,
        votes=tuple(case.votes[v] for v in voters if v in case.votes),
        missing=tuple(
            Missing(voter=v, reason=case.missing.get(v) or explain(facts.key, v))
            for v in voters
            if v not in case.votes
        ),
        transcript=case.transcript,
        captured_unix_s=facts.captured_unix_s,
        stages_ms=_stages(now, case, case.settled(voters)),
    )


def _common_reason(case: Case, voters: Sequence[str]) -> str:
    """Return why all voters abstained, if all for one reason: it says more than their number."""
    reasons = {case.missing.get(voter, "") for voter in voters}
    return reasons.pop() if len(reasons) == 1 else ""


def _decided(case: Case, rule: Rule) -> Decision:
    ballots = {v: Ballot(vote.label, vote.probabilities) for v, vote in case.votes.items()}
    return decide(ballots, rule, case.refinement.label if case.refinement else "")


def _stages(now: float, case: Case, settled: bool) -> dict[str, float]:
    """Cut the way from the end of speech to the verdict into stages, in milliseconds."""
    begun = case.begun if case.begun is not None else now
    transcribed = max(case.transcribed if case.transcribed is not None else begun, begun)
    # at a deadline, the voters took all the time there was
    voted = max(case.voted if settled and case.voted is not None else now, transcribed)
    return {
        "capture": case.facts.capture_ms,
        "segment": case.facts.segment_ms,
        "queue": 1000 * (begun - case.received),
        "asr": 1000 * (transcribed - begun),
        "voters": 1000 * (voted - transcribed),
        "vote": 1000 * (now - voted),
    }
