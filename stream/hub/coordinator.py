"""Connects the deciders of the hub. The label itself is decided in models/vote/ensemble.py.

Pure: segments and answers in; tasks, cancels and events out. `dispatch.py` assigns tasks to nodes,
`aggregator.py` makes verdicts of votes, `partials.py` makes provisional verdicts during speech. All
three work on the records of `segments.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from msgspec.structs import replace

from abhinaya.models.vote.combiner import Combiner
from abhinaya.models.vote.ensemble import NOT_ASKED
from abhinaya.stream.hub import admission as load
from abhinaya.stream.hub.admission import PATIENCE, REASON, TOO_LATE, Admission
from abhinaya.stream.hub.aggregator import Aggregator
from abhinaya.stream.hub.dispatch import Dispatch
from abhinaya.stream.hub.nodes import Absent, Assign, Limits, Node, Retract
from abhinaya.stream.hub.partials import Partials
from abhinaya.stream.hub.publisher import MAX_LISTED, Publisher
from abhinaya.stream.hub.segments import Record, Segments, Stream
from abhinaya.stream.hub.streams import Streams
from abhinaya.stream.hub.task_inputs import task_of
from abhinaya.stream.hub.validation import FURTHEST_SAMPLES, REFINER, TRANSCRIBER, service_of
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.vote import rule_of
from abhinaya.stream.wire.messages import (
    Cancel,
    End,
    Failed,
    Gap,
    Message,
    NodeDown,
    Ready,
    Remark,
    Segment,
    Status,
    StreamEnded,
    Transcript,
    Vote,
)

LEAST_S: Final = 1.0
"""Time that the nodes have for a live segment, even if it arrives when its deadline is over."""

CATCH_UP: Final = 3
"""How many times the usual time those have that a cut has held back: they come several at once."""


class Coordinator:
    """All decisions about segments.

    `send` sends a message to a node by name; `node_down` is called when a node is no longer used.
    """

    def __init__(
        self,
        config: Config,
        combiner: Combiner | None,
        publisher: Publisher,
        send: Callable[[str, Message], None],
        node_down: Callable[[NodeDown], None],
        supervised: bool = False,
    ) -> None:
        self._deadlines, self._flow = config.deadlines, config.flow
        self._publisher, self._send, self._node_down = publisher, send, node_down
        voters = tuple(config.voters)
        # tasks are sent in this order; the transcriber is first because others wait for it
        line_up = (TRANSCRIBER, *voters) if config.asr else voters
        rule = rule_of(config.vote, combiner, config.refiner is not None)
        second = (*rule.cascade, *((REFINER,) if config.refiner else ()))
        self.services = frozenset((*line_up, *second))
        deadlines = config.deadlines
        limits = Limits(config.supervise.silent_s, deadlines.task_s, deadlines.attempts, supervised)
        self.segments = Segments()
        self.admission = Admission(tuple(config.vote.shed), deadlines.live_s)
        self.dispatch = Dispatch(line_up, second, self.segments, limits)
        self._aggregator = Aggregator(voters, rule, deadlines.revise_s, self.dispatch.explain)
        self._partials = Partials(
            voters, rule, deadlines.provisional_s, self.segments, self.dispatch
        )

    @property
    def undecided(self) -> int:
        """Number of segments without a verdict."""
        return sum(record.item.final and record.verdict is None for record in self.segments)

    # --- from fronts ------------------------------------------------------------------------------

    def fault_of_room(self, stream: Stream, item: Segment | Gap | End) -> str:
        """Return why the hub cannot hold the audio of an item too; empty if it can."""
        most = self._flow.audio_mib
        more = item.samples.nbytes if isinstance(item, Segment) else 0
        held = self.segments.audio[stream.owner]
        full = more and held + more > most * 2**20
        return f"the hub holds {most} MiB of audio of its key already" if full else ""

    def partial(self, now: float, stream: Stream, item: Segment) -> None:
        """Add a partial of the next segment of a stream."""
        self._partials.open(now, stream, item)

    def item(self, now: float, stream: Stream, item: Segment | Gap | End) -> None:
        """Add the next item of a stream."""
        stream.next_sequence += 1
        partial = self.segments.get((stream.id, item.sequence))
        if partial is not None:
            self._partials.end(partial)
            if not isinstance(item, Segment):
                self._drop(partial)
        if isinstance(item, End):
            stream.ended = True
            ended = StreamEnded(
                stream=item.stream,
                sequence=item.sequence,
                position=item.position,
                reason=item.reason,
                sound=item.sound,
            )
            self._aggregator.append(stream, ended)
            return
        stream.position = item.end
        if isinstance(item, Gap):
            self._aggregator.append(stream, item)
            return
        live = stream.info.live
        due = now + (self._time_left_s(item) if live else self._deadlines.file_s)
        record = self.segments.open(stream, item, now, due)
        self._aggregator.open(record)
        if live and item.held_ms <= 1000 * self._deadlines.live_s:
            self.admission.arrived(now, stream)  # what was held back during a cut comes but once
        self.dispatch.submit(record, without=self._without(stream))
        self._act(now)
        if live:
            self._shed(stream)

    def _without(self, stream: Stream) -> dict[str, str]:
        """Return what the next segment of a stream does without, and why."""
        admission = self.admission
        if not admission.shares or not stream.info.live:
            return {}
        most_s = PATIENCE / 2 * self._deadlines.live_s
        queued = load.queued(self.segments, live=True)
        late = {s: TOO_LATE for s, n in queued.items() if admission.needed_s(s, n) > most_s}
        return late | dict.fromkeys(admission.refused(stream), REASON)

    def skip(self, stream: Stream, first: int) -> None:
        """Go on at a later item: another hub had the stream, and what is before is written."""
        for record in self.segments.of(stream):
            self._partials.end(record)
            self._drop(record)
        for kept in (stream.outcomes, stream.transcripts, stream.states):
            kept.clear()
        stream.next_sequence = stream.acknowledged = first

    def abort(self, now: float, stream: Stream, reason: str) -> None:
        """End a stream at once; its segments without a verdict become gaps."""
        for record in self.segments.of(stream):
            if record.item.final:
                self._aggregator.shed(record, reason)
        self.forget(stream)
        self.end(now, stream, reason)

    def forget(self, stream: Stream) -> None:
        """Drop what is left of a stream that has gone: its partial."""
        for record in self.segments.of(stream):
            self._partials.end(record)
            self._drop(record)

    def end(self, now: float, stream: Stream, reason: str, reached: int = 0) -> None:
        """End a stream in place of its front; from its last item to `reached` there is a gap."""
        name, start = stream.info.stream, stream.position
        end = max(start, min(reached, start + FURTHEST_SAMPLES))
        if end > start:
            number = stream.next_sequence
            lost = Gap(stream=name, sequence=number, start=start, end=end, reason=reason)
            self.item(now, stream, lost)
        number = stream.next_sequence
        self.item(now, stream, End(stream=name, sequence=number, position=end, reason=reason))

    def _time_left_s(self, item: Segment) -> float:
        """Return the time until the deadline of a live segment, which began with the last word."""
        live_s = self._deadlines.live_s
        if item.held_ms > 1000 * live_s:
            return CATCH_UP * live_s
        before_s = item.sent_unix_s - item.captured_unix_s - item.held_ms / 1000
        return max(live_s - max(0.0, before_s), min(live_s, LEAST_S))

    def _shed(self, stream: Stream) -> None:
        waiting = [record for record in self.segments.of(stream) if record.begun is None]
        backlog = self._flow.live_backlog
        for record in waiting[: max(0, len(waiting) - backlog)]:
            reason = f"overload: {backlog} later segments were waiting"
            self._aggregator.shed(record, reason)
            self._drop(record)

    def _drop(self, record: Record) -> None:
        """Delete a segment; nodes that hold it get a cancel."""
        self.dispatch.close(record)
        self.segments.drop(record)

    # --- load -------------------------------------------------------------------------------------

    def review(self, now: float, streams: Streams) -> None:
        """Decide what live streams do without and how many files wait, by what the nodes manage."""
        live = streams.live()
        nodes, admission = self.dispatch.nodes, self.admission
        served = {service for node in nodes.values() for service in node.gives}
        oldest_s = load.oldest_s(now, self.segments, served, live=True)
        remark = admission.review(now, live, load.processes(nodes), oldest_s)
        if remark:
            self._publisher.publish(Remark(source="hub", text=remark))
        self.dispatch.live_first = bool(live)
        windows = streams.windows
        windows.manageable = admission.files(windows.most_of_files, self._deadlines.file_s)
        windows.changed = True

    def leave_out(self, now: float) -> None:
        """Under overload, give up what live streams do without, and what would be too late."""
        least_s = PATIENCE * self._deadlines.live_s
        for record in self.segments if self.admission.shares else ():
            stream = record.stream
            late = dict.fromkeys(record.work if record.due - now < least_s else (), TOO_LATE)
            if record.item.final and stream.info.live:
                refused = dict.fromkeys(self.admission.refused(stream), REASON)
                self.dispatch.leave_out(record, late | refused)

    def status(self, now: float, hub: str, refused: dict[str, int], doubles: int) -> Status:
        """Return the status without fronts."""
        nodes, queued = self.dispatch.nodes, load.queued(self.segments)
        loads = (n for node in nodes.values() if not node.silent for n in node.loads(now))
        return Status(
            hub=hub,
            waiting=queued.total(),
            open_segments=self.undecided,
            nodes=tuple(islice(loads, MAX_LISTED)),
            fronts=(),
            refused=refused,
            doubles=doubles,
            suspects=tuple(islice(self.dispatch.alive.suspects(), MAX_LISTED)),
            oldest_s=load.oldest_s(now, self.segments, self.services),
            left_out=self.admission.left_out(),
            queued=dict(queued),
        )

    # --- from nodes -------------------------------------------------------------------------------

    def ready(self, now: float, ready: Ready) -> Node:
        """Add a node."""
        self._partials.declared(ready)
        self.admission.declared(ready.gives, ready.credits // 2)  # one in work, one that fills
        return self.dispatch.ready(now, ready)

    def invalid(self, node: Node, answer: Vote | Transcript | Failed, fault: str) -> None:
        """Treat an answer that failed validation as a failure without a retry."""
        service, key = service_of(answer), (answer.stream, answer.sequence)
        for name in [service] if service in node.gives else node.gives:
            self.dispatch.failed(node.name, key, answer.part, name, fault, retry=False)

    def answered(self, now: float, node: Node, answer: Vote | Transcript | Failed) -> bool:
        """Store an answer; return False if it came twice or too late."""
        service, key, part = service_of(answer), (answer.stream, answer.sequence), answer.part
        record = self.segments.get(key)
        if isinstance(answer, Failed):
            self.dispatch.failed(node.name, key, part, service, answer.reason, answer.retry)
            counts = not answer.retry
        else:
            self._partials.measured(service, answer.run_ms, part)
            if not part:
                self.admission.measured(service, answer.run_ms, answer.batch_size)
            counts = self.dispatch.answered(node.name, key, part, service)
            if record is not None:
                name = record.stream.info.stream
                self._store(now, record, replace(answer, stream=name, state=b""), counts)
        if record is not None and counts and not part:
            record.stream.keep_state(answer.sequence, service, answer.state)
        return counts or part > 0 or isinstance(answer, Failed)

    def _store(self, now: float, record: Record, answer: Vote | Transcript, counts: bool) -> None:
        """Store an answer in its record."""
        if isinstance(answer, Vote):
            if counts:
                self._aggregator.voted(now, record, answer)
            return
        if answer.part and not record.item.final:
            self._partials.keep_words(record, answer)
        if counts:
            record.transcript, record.transcribed = answer, now
            if record.item.final:
                record.stream.transcribed(answer)
                self._aggregator.transcribed(record)

    # --- decisions --------------------------------------------------------------------------------

    def decide(self, now: float) -> None:
        """Publish all verdicts that are due, and send all tasks that can be sent."""
        self._act(now)
        self._second_stage(now)
        while outcomes := self._aggregator.collect(now):
            for stream, event in outcomes:
                self._publisher.publish(event, stream.info.run)
                record = self.segments.get((stream.id, event.sequence))
                if record is not None:
                    self.dispatch.decided(record)
            self._act(now)
        self._second_stage(now)
        for key in self._aggregator.closed(now):
            if record := self.segments.get(key):
                self._drop(record)
        if self._partials:
            self._act(now)
            for stream, verdict in self._partials.collect(now):
                self._publisher.publish_unnumbered(verdict, stream.info.run)
            self.dispatch.assign_partials()
        self._act(now)

    def _second_stage(self, now: float) -> None:
        """Ask the voters of the cascade, and the refiner, or leave them out."""
        for record, services, ask in self._aggregator.second_stage():
            if ask:
                self.dispatch.ask(record, services)
            else:
                self.dispatch.leave_out(record, dict.fromkeys(services, NOT_ASKED))
            if record.item.final:
                self.admission.asked(services, ask)
        self._act(now)

    def _act(self, now: float) -> None:
        """Carry out the actions of the dispatch."""
        for action in self.dispatch.actions():
            if isinstance(action, Assign):
                record = action.record
                if not record.item.final:
                    self._partials.begun(now, record)
                elif record.begun is None:
                    record.begun = now
                gives = [action.node.gives[name] for name in action.services]
                self._send(action.node.name, task_of(record, gives))
            elif isinstance(action, Retract):
                of_stream, sequence = action.key
                cancel = Cancel(stream=of_stream, sequence=sequence, part=action.part)
                self._send(action.node, cancel)
            elif isinstance(action, Absent):
                self._aggregator.absent(now, action.record, action.service, action.reason)
            else:
                self._node_down(action)
