"""Labels for speech that is still going on: from fast voters, in their idle time, and soon.

Pure, and of the lowest rank: a part of a segment is given only to nodes that hold nothing, is not
tried twice, and ends when the segment itself comes. A newer part waits until the one before it is
told, and takes the place of another that waits: so parts come as often as the nodes have time for
them, and no work is thrown away. Who has waited longest for words or a label goes first, and before
all others who has had nothing of its segment yet.

A node is asked for all that it gives, in one go. The verdict is given when all who were asked have
answered, or after the limit with those present. Words that come later than that are told with the
next part: they are no less true.

Who is asked follows from what was measured, of parts where there were any: a service that took
longer than the limit is not, nor one of which nothing is known yet, for a slow model must not be
found at work on a part when a segment comes. One that declares itself incremental is always asked:
nothing of what it does for a part is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from abhinaya.models.vote.ensemble import Rule
from abhinaya.stream.hub.aggregator import Case, Facts, judge
from abhinaya.stream.hub.dispatch import Dispatch
from abhinaya.stream.hub.dispatch_state import Key, Retract
from abhinaya.stream.hub.validation import REFINER
from abhinaya.stream.wire.messages import Provisional, Ready, Service, Transcript, Verdict, Vote

SMOOTHING: Final = 0.3
"""Weight of the latest batch in the running estimate of a service's speed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this part to this node, for these services."""

    node: str
    services: tuple[str, ...]
    item: Provisional
    transcript: Transcript | None
    """What was said in it, as far as it is known."""


@dataclass(slots=True)
class _Draft:
    """A part of one segment on its way to a verdict."""

    item: Provisional
    case: Case
    expected: dict[str, str]
    """Services that have not answered, and the node that was asked; empty while none was idle."""
    unasked: dict[str, None]
    """Those of them that have all they need."""


class _Speed:
    """How long a service takes over a part."""

    def __init__(self) -> None:
        self.run_ms: float | None = None
        self._of_parts = False

    def tried(self, run_ms: float) -> None:
        """Note a trial; it says nothing against what was measured."""
        if self.run_ms is None:
            self.run_ms = run_ms

    def measured(self, run_ms: float, part: bool) -> None:
        """Note a batch. Those of whole segments count as long as there was none of a part."""
        if self._of_parts and not part:
            return
        fresh = self.run_ms is None or part > self._of_parts
        self._of_parts |= part
        known = run_ms if fresh or self.run_ms is None else self.run_ms
        self.run_ms = known + SMOOTHING * (run_ms - known)


class Provisionals:
    """All segments that are still spoken, each with the part that is being worked on.

    Args:
        voters: of the line-up, in its order.
        rule: how votes become a label.
        limit_s: seconds in which a service must answer, and in which the verdict is given.
        dispatch: lends nodes.

    """

    def __init__(
        self, voters: Sequence[str], rule: Rule, limit_s: float, dispatch: Dispatch
    ) -> None:
        self._voters = voters
        self._rule = rule
        self._limit_s = limit_s
        self._dispatch = dispatch
        self._declared: dict[str, Service] = {}
        self._speeds: dict[str, _Speed] = {}
        self._drafts: dict[Key, _Draft] = {}
        self._next: dict[Key, tuple[Facts, Provisional]] = {}
        """The newest part of a segment that an earlier one is being worked on."""
        self._served: dict[Key, float] = {}
        """When a node was last given a part of a segment."""
        self._touched: dict[Key, None] = {}
        self._said: dict[Key, Transcript | None] = {}
        """The latest words of every segment that is still spoken."""

    def __bool__(self) -> bool:
        return bool(self._drafts)

    # --- who can be asked -------------------------------------------------------------------------

    def declared(self, ready: Ready) -> None:
        """Note what services need and give, and how fast they were when they were tried."""
        for service in ready.gives:
            if service.name == REFINER:  # of speech that goes on nothing is decided yet
                continue
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

    def _expected(self) -> list[Service]:
        served = (s for s in self._declared.values() if self._dispatch.is_served(s.name))
        fast = [service for service in served if self._is_fast(service)]
        transcribed = any(service.kind == "transcript" for service in fast)
        return [s for s in fast if transcribed or "transcript" not in s.needs]

    # --- parts ------------------------------------------------------------------------------------

    def open(self, now: float, facts: Facts, item: Provisional) -> None:
        """Take in a part: at once, or when the one before it is told."""
        key = facts.key
        old = self._drafts.get(key)
        newest = self._next[key][1] if key in self._next else old.item if old else None
        if newest is not None and item.part <= newest.part:
            return
        self._said.setdefault(key, None)
        if old is not None and old.case.begun is not None:
            self._next[key] = facts, item
            return
        self._begin(now, facts, item)

    def _begin(self, now: float, facts: Facts, item: Provisional) -> None:
        expected = self._expected()
        draft = _Draft(
            item,
            Case(facts, now, now + self._limit_s),
            {service.name: "" for service in expected},
            {s.name: None for s in expected if "transcript" not in s.needs},
        )
        self._drafts[facts.key] = draft
        self._touched[facts.key] = None

    def over(self, key: Key) -> list[Retract]:
        """Forget what there is of a segment; the nodes at work on it are told."""
        for table in (self._said, self._next, self._served):
            table.pop(key, None)
        draft = self._drafts.pop(key, None)
        if draft is None:
            return []
        nodes = dict.fromkeys(node for node in draft.expected.values() if node)
        return [Retract(node, key, draft.item.part) for node in nodes]

    def asks(self, now: float) -> Iterator[Ask]:
        """Yield what can be sent to nodes now."""
        waiting = [key for key, draft in self._drafts.items() if draft.unasked]
        for key in sorted(waiting, key=lambda key: self._served.get(key, 0.0)):
            draft = self._drafts[key]
            for service in list(draft.unasked):
                if service not in draft.unasked:
                    continue  # has come along
                node = self._dispatch.idle(service, key)
                if node is not None:
                    yield self._ask(now, key, draft, node)

    def _ask(self, now: float, key: Key, draft: _Draft, node: str) -> Ask:
        """Ask a node for all that it can give of a part."""
        offered = [s for s in self._dispatch.services_of(node) if draft.expected.get(s) == ""]
        transcribes = any(
            self._declared[s].kind == "transcript" for s in offered if s in draft.unasked
        )
        services = tuple(s for s in offered if transcribes or s in draft.unasked)
        for service in services:
            draft.unasked.pop(service, None)
            draft.expected[service] = node
        self._dispatch.lend(node, key, draft.item.part, services)
        self._served[key] = now
        if draft.case.begun is None:
            draft.case.begun, draft.case.due = now, now + self._limit_s
        return Ask(node, services, draft.item, draft.case.transcript)

    def answered(self, now: float, node: str, service: str, answer: Vote | Transcript) -> None:
        """Note an answer; it counts if it is about the part that is being worked on."""
        key = (answer.stream, answer.sequence)
        self._dispatch.returned(node, key, answer.part, service)
        if isinstance(answer, Transcript) and key in self._said:
            before = self._said[key]
            if before is None or before.part < answer.part:
                self._said[key] = answer
        draft = self._answering(key, answer.part, service, node)
        if draft is None:
            return
        if isinstance(answer, Vote):
            draft.case.votes[service], draft.case.voted = answer, now
            return
        draft.case.transcript, draft.case.transcribed = answer, now
        for name, asked in draft.expected.items():
            if not asked and "transcript" in self._declared[name].needs:
                draft.unasked[name] = None

    def failed(self, node: str, service: str, key: Key, part: int, reason: str) -> None:
        """Note that a node has no answer; nobody else is asked."""
        self._dispatch.returned(node, key, part, service)
        draft = self._answering(key, part, service, node)
        if draft is not None:
            self._give_up(draft, service, reason)

    def lost(self, node: str, reason: str) -> None:
        """Note that a node is gone; what it was asked, it will not answer."""
        for key, draft in self._drafts.items():
            for service in [s for s, asked in draft.expected.items() if asked == node]:
                del draft.expected[service]
                self._touched[key] = None
                self._give_up(draft, service, f"{node} {reason}")

    def _give_up(self, draft: _Draft, service: str, reason: str) -> None:
        draft.case.missing[service] = reason
        if self._declared[service].kind != "transcript":
            return
        for name in [n for n in draft.expected if "transcript" in self._declared[n].needs]:
            if not draft.expected[name]:  # who was asked says so itself
                del draft.expected[name]
                draft.case.missing[name] = f"no transcript: {reason}"

    def _answering(self, key: Key, part: int, service: str, node: str) -> _Draft | None:
        """Return the draft that an answer is about, which expects it no longer."""
        draft = self._drafts.get(key)
        if draft is None or draft.item.part != part or draft.expected.get(service) != node:
            return None
        del draft.expected[service]
        self._touched[key] = None
        return draft

    # --- verdicts ---------------------------------------------------------------------------------

    def collect(self, now: float) -> list[Verdict]:
        """Return the verdicts on parts that are complete or due; the next parts then begin."""
        done = [k for k in self._touched if k in self._drafts and not self._drafts[k].expected]
        self._touched.clear()
        begun = [(k, d.case) for k, d in self._drafts.items() if d.case.begun is not None]
        done += [key for key, case in begun if case.due <= now]
        verdicts = []
        for key in dict.fromkeys(done):
            verdicts.append(self._judge(now, self._drafts.pop(key)))
            if key in self._next:
                self._begin(now, *self._next.pop(key))
        return [verdict for verdict in verdicts if verdict is not None]

    def _judge(self, now: float, draft: _Draft) -> Verdict | None:
        """Give the verdict, if it has anything to say: a label, or words."""
        case = draft.case
        case.transcript = case.transcript or self._said[case.facts.key]
        enough = len(case.votes) >= max(1, self._rule.quorum)
        if not enough and not (case.transcript and case.transcript.text):
            return None
        return judge(
            now,
            case,
            self._voters,
            self._rule,
            lambda _, voter: self._why_missing(voter, draft.expected),
            part=draft.item.part,
        )

    def _why_missing(self, voter: str, expected: Collection[str]) -> str:
        service, run_ms = self._declared.get(voter), self._run_ms(voter)
        if service is None or not self._dispatch.is_served(voter):
            return "no node is ready"
        if voter in expected:
            return "late for a provisional label"
        if self._is_fast(service):
            return "no transcript while speech goes on"
        if run_ms is not None:
            return f"too slow for provisional labels ({run_ms:.0f} ms)"
        return "is not asked for provisional labels before it has voted once"
