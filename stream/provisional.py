"""Labels for speech that is still going on: from fast voters, in their idle time, and soon.

Pure, and of the lowest rank: a part of a segment is given only to nodes that hold nothing, is not
tried twice, gives way to the next part, and ends when the segment itself comes. Its verdict is
given when all who were asked have answered, or after the limit with those present. Words that come
later than that are told with the next part: they are no less true.

Who is asked follows from what was measured: a service whose last batches took longer than the limit
is not, nor one of which nothing is known yet, for a slow model must not be found at work on a part
when a segment comes. One that declares itself incremental is always asked: nothing of what it does
for a part is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from abhinaya.models.ensemble import Rule
from abhinaya.stream.admission import REFINER
from abhinaya.stream.aggregator import Case, Facts, judge
from abhinaya.stream.dispatch import Dispatch, Key, Retract
from abhinaya.stream.messages import Provisional, Ready, Transcript, Verdict, Vote

SMOOTHING: Final = 0.3
"""Weight of the latest batch in the running estimate of a service's speed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this part to this node."""

    node: str
    item: Provisional
    transcript: str | None
    """What was said in it, as far as it is known."""


@dataclass(slots=True)
class _Draft:
    """The latest part of one segment."""

    item: Provisional
    case: Case
    due: float
    expected: dict[str, str]
    """Services that have not answered, and the node that was asked; empty while none was idle."""


class Provisionals:
    """All segments that are still spoken, each with its latest part.

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
        self._declared: dict[str, Ready] = {}
        self._run_ms: dict[str, float] = {}
        self._drafts: dict[Key, _Draft] = {}
        """In the order in which they are due."""
        self._unasked: dict[str, dict[Key, None]] = {}
        """By service, what waits for an idle node, the oldest first."""
        self._touched: dict[Key, None] = {}
        self._said: dict[Key, Transcript | None] = {}
        """The latest words of every segment that is still spoken."""

    def __bool__(self) -> bool:
        return bool(self._drafts)

    # --- who can be asked -------------------------------------------------------------------------

    def declared(self, ready: Ready) -> None:
        """Note what a service needs and gives, and how fast it was when it was tried."""
        if ready.service == REFINER:  # of speech that goes on nothing is decided yet
            return
        self._declared[ready.service] = ready
        if ready.trial_ms is not None:
            self._run_ms.setdefault(ready.service, ready.trial_ms)

    def measured(self, service: str, run_ms: float) -> None:
        """Note how long a batch of a service took."""
        known = self._run_ms.get(service, run_ms)
        self._run_ms[service] = known + SMOOTHING * (run_ms - known)

    def _is_fast(self, ready: Ready) -> bool:
        run_ms = self._run_ms.get(ready.service)
        return ready.incremental or (run_ms is not None and run_ms <= 1000 * self._limit_s)

    def _expected(self) -> dict[str, str]:
        served = (r for r in self._declared.values() if self._dispatch.is_served(r.service))
        fast = [ready for ready in served if self._is_fast(ready)]
        transcribed = any(ready.gives == "transcript" for ready in fast)
        return {
            ready.service: "" for ready in fast if transcribed or "transcript" not in ready.needs
        }

    # --- parts ------------------------------------------------------------------------------------

    def open(self, now: float, facts: Facts, item: Provisional) -> list[Retract]:
        """Take in a part, in place of the one before; the nodes at work on that one are told."""
        old = self._drafts.get(facts.key)
        if old is not None and item.part <= old.item.part:
            return []
        actions = self._drop(facts.key)
        self._said.setdefault(facts.key, None)
        due = now + self._limit_s
        draft = _Draft(item, Case(facts, now, due), due, self._expected())
        self._drafts[facts.key] = draft
        self._touched[facts.key] = None
        for service in draft.expected:
            if "transcript" not in self._declared[service].needs:
                self._unasked.setdefault(service, {})[facts.key] = None
        return actions

    def over(self, key: Key) -> list[Retract]:
        """Forget what there is of a segment; the nodes at work on it are told."""
        self._said.pop(key, None)
        return self._drop(key)

    def _drop(self, key: Key) -> list[Retract]:
        draft = self._drafts.pop(key, None)
        if draft is None:
            return []
        for waiting in self._unasked.values():
            waiting.pop(key, None)
        return [Retract(node, key, draft.item.part) for node in draft.expected.values() if node]

    def asks(self, now: float) -> list[Ask]:
        """Give what can be sent to nodes now."""
        asks = []
        for service, waiting in self._unasked.items():
            while waiting:
                key = next(iter(waiting))
                draft = self._drafts[key]
                node = self._dispatch.lend(service, key, draft.item.part)
                if node is None:
                    break
                del waiting[key]
                draft.expected[service] = node
                draft.case.begun = draft.case.begun or now
                transcript = draft.case.transcript
                asks.append(Ask(node, draft.item, transcript.text if transcript else None))
        return asks

    def answered(self, now: float, node: str, service: str, answer: Vote | Transcript) -> None:
        """Note an answer; it counts if it is about the latest part."""
        key = (answer.stream, answer.sequence)
        self._dispatch.returned(node, key, answer.part)
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
        for name in draft.expected:
            if "transcript" in self._declared[name].needs:
                self._unasked.setdefault(name, {})[key] = None

    def failed(self, node: str, service: str, key: Key, part: int, reason: str) -> None:
        """Note that a node has no answer; nobody else is asked."""
        self._dispatch.returned(node, key, part)
        draft = self._answering(key, part, service, node)
        if draft is not None:
            self._give_up(draft, service, reason)

    def lost(self, node: str, service: str, reason: str) -> None:
        """Note that a node is gone; what it was asked, it will not answer."""
        for key, draft in self._drafts.items():
            if draft.expected.get(service) == node:
                del draft.expected[service]
                self._touched[key] = None
                self._give_up(draft, service, f"{node} {reason}")

    def _give_up(self, draft: _Draft, service: str, reason: str) -> None:
        draft.case.missing[service] = reason
        if self._declared[service].gives == "transcript":
            for name in [n for n in draft.expected if "transcript" in self._declared[n].needs]:
                del draft.expected[name]
                draft.case.missing[name] = f"no transcript: {reason}"

    def _answering(self, key: Key, part: int, service: str, node: str) -> _Draft | None:
        """Give the draft that an answer is about, which expects it no longer."""
        draft = self._drafts.get(key)
        if draft is None or draft.item.part != part or draft.expected.get(service) != node:
            return None
        del draft.expected[service]
        self._touched[key] = None
        return draft

    # --- verdicts ---------------------------------------------------------------------------------

    def collect(self, now: float) -> list[Verdict]:
        """Give the verdicts on parts that are complete or due."""
        ready = [k for k in self._touched if k in self._drafts and not self._drafts[k].expected]
        self._touched.clear()
        for key, draft in self._drafts.items():
            if draft.due > now:
                break
            ready.append(key)
        verdicts = [self._judge(now, self._drafts[key]) for key in dict.fromkeys(ready)]
        for key in dict.fromkeys(ready):
            for waiting in self._unasked.values():
                waiting.pop(key, None)
            del self._drafts[key]
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
        ready = self._declared.get(voter)
        if ready is None or not self._dispatch.is_served(voter):
            return "no node is ready"
        if voter in expected:
            return "late for a provisional label"
        if self._is_fast(ready):
            return "no transcript while speech goes on"
        if voter in self._run_ms:
            return f"too slow for provisional labels ({self._run_ms[voter]:.0f} ms)"
        return "is not asked for provisional labels before it has voted once"
