"""What the hub does with each message: who may say what, what is kept, what is answered.

Pure: the hub's loop hands in messages and the time, and sends what comes back. A segment is kept
until its verdict is written down by the recorder (the one sink that confirms); only then may the
front that sent it forget it, so that a hub that dies loses nothing.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from abhinaya.models.ensemble import Rule
from abhinaya.models.labels import LABELS
from abhinaya.stream.aggregator import Aggregator, Facts
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.config import Config
from abhinaya.stream.dispatch import Absent, Action, Assign, Dispatch, Key, Limits, Lost, Retract
from abhinaya.stream.messages import (
    Beat,
    Cancel,
    Credit,
    Died,
    Drain,
    End,
    Event,
    Failed,
    FrontDown,
    Gap,
    Hello,
    Introduce,
    Message,
    NodeDown,
    NodeLoad,
    NodeUp,
    Notice,
    Payload,
    Ready,
    Refused,
    Remark,
    Seen,
    Segment,
    Standing,
    Status,
    StreamEnded,
    StreamInfo,
    StreamStarted,
    Subscribe,
    Task,
    Transcript,
    Verdict,
    Vote,
    Welcome,
)

TRANSCRIBER: Final = "asr"
"""Name of the service that the profile's [asr] table describes."""

LONGEST_SAMPLES: Final = to_samples(10)

LONGEST_REASON: Final = 1000
LONGEST_TRANSCRIPT: Final = 2000
"""Characters, and words: a verdict that carries all of them still fits into a message."""

REASONS: Final = 64
"""Reasons for refusals that are counted apart."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and the peer it goes to."""

    door: Literal["workers", "sinks"]
    peer: bytes
    message: Message


@dataclass(slots=True)
class _Front:
    name: str
    incarnation: str
    streams: list[str]
    heard: float
    silent: bool = False


@dataclass(slots=True)
class _Node:
    name: str
    incarnation: str
    service: str
    needs: frozenset[str]
    labels: frozenset[str]


@dataclass(slots=True)
class _Stream:
    info: StreamInfo
    front: bytes
    next_sequence: int
    position: int
    acknowledged: int
    ended: bool = False


@dataclass(slots=True)
class _Notices:
    """What the recorder has not confirmed yet."""

    unconfirmed: deque[Notice] = field(default_factory=deque)
    number: int = 0


class Broker:
    """All of the hub but its sockets.

    Args:
        config: of the run.
        incarnation: differs between two hubs in a row.

    """

    def __init__(self, config: Config, incarnation: str) -> None:
        deadlines = config.deadlines
        self._config = config
        self._incarnation = incarnation
        self._voters = tuple(config.voters)
        # first who others wait for: tasks leave in this order
        services = (TRANSCRIBER, *self._voters) if config.asr else self._voters
        self._dispatch = Dispatch(
            services,
            Limits(config.supervise.silent_s, deadlines.task_s, deadlines.attempts),
        )
        vote = config.vote
        rule = Rule(vote.method, vote.tie_policy, vote.priority, vote.weights, vote.quorum)
        self._aggregator = Aggregator(self._voters, rule, deadlines.revise_s)
        self._services = frozenset(services)
        self._fronts: dict[bytes, _Front] = {}
        self._nodes: dict[bytes, _Node] = {}
        self._node_ids: dict[str, bytes] = {}
        self._node_up: dict[str, NodeUp] = {}
        self._streams: dict[str, _Stream] = {}
        self._segments: dict[Key, Segment] = {}
        self._transcripts: dict[Key, str] = {}
        self._sinks: set[bytes] = set()
        self._recorder: bytes | None = None
        self._notices = _Notices()
        self._out: list[Outgoing] = []
        self._acknowledge: dict[str, None] = {}
        self._refused: Counter[str] = Counter()
        self._doubles = 0
        self._next_status = 0.0

    # --- what comes in ----------------------------------------------------------------------------

    def from_worker(self, now: float, peer: bytes, message: Message) -> list[Outgoing]:
        """Handle what a front or a node says."""
        if isinstance(message, Hello):
            self._hello(now, peer, message)
        elif isinstance(message, Ready):
            self._ready(now, peer, message)
        elif peer in self._fronts:
            self._from_front(now, peer, message)
        elif peer in self._nodes:
            self._from_node(now, peer, message)
        else:
            self._send(peer, Introduce())
        return self._flush(now)

    def from_sink(self, now: float, peer: bytes, message: Message) -> list[Outgoing]:
        """Handle what a sink says."""
        if isinstance(message, Subscribe):
            self._subscribe(peer, message)
        elif peer not in self._sinks:
            self._out.append(Outgoing("sinks", peer, Introduce()))
        elif isinstance(message, Seen):
            if peer == self._recorder:
                self._seen(message.number)
        elif isinstance(message, Died):
            self._died(now, message)
        return self._flush(now)

    def refuse(self, reason: str) -> None:
        """Count a message that could not be read."""
        # a peer that invents reasons must not fill the memory
        known = reason in self._refused or len(self._refused) < REASONS
        self._refused[reason if known else "other"] += 1

    def unreachable(self, now: float, peer: bytes) -> list[Outgoing]:
        """Handle that a peer is gone, as the socket has noticed."""
        self._sinks.discard(peer)
        if peer == self._recorder:
            self._recorder = None
        node = self._nodes.get(peer)
        if node is not None:
            self._act(now, self._dispatch.gone(now, node.name, "is not reachable"))
        return self._flush(now)

    def tick(self, now: float) -> list[Outgoing]:
        """Handle the passing of time."""
        self._act(now, self._dispatch.tick(now))
        for front in self._fronts.values():
            age = now - front.heard
            if age > self._config.supervise.silent_s and not front.silent and self._running(front):
                front.silent = True
                self._notify(
                    FrontDown(
                        front=front.name,
                        incarnation=front.incarnation,
                        reason=f"has been silent for {age:.1f} s",
                    )
                )
        if now >= self._next_status:
            self._next_status = now + self._config.supervise.beat_s
            self._broadcast(Notice(number=0, hub=self._incarnation, event=self._status()))
        return self._flush(now)

    def drain_nodes(self) -> list[Outgoing]:
        """Ask every node to finish and leave."""
        return [Outgoing("workers", peer, Drain()) for peer in self._nodes]

    # --- fronts -----------------------------------------------------------------------------------

    def _hello(self, now: float, peer: bytes, hello: Hello) -> None:
        firsts = hello.first_sequences
        if peer in self._nodes or len(hello.streams) != len(firsts) or not _countable(firsts):
            self._refuse(peer, "a front's greeting that contradicts itself")
            return
        for info in hello.streams:
            known = self._streams.get(info.stream)
            owner = self._fronts.get(known.front) if known and not known.ended else None
            if owner is not None and owner.name != hello.front:
                self._refuse(peer, f"stream {info.stream!r} is being sent by {owner.name}")
                return
        # a front that was started again takes over from the process that bore its name
        for other in [p for p, f in self._fronts.items() if f.name == hello.front]:
            del self._fronts[other]
        self._fronts[peer] = _Front(
            hello.front, hello.incarnation, [info.stream for info in hello.streams], now
        )
        for info, lowest in zip(hello.streams, hello.first_sequences, strict=True):
            stream = self._streams.get(info.stream)
            if stream is None:
                self._streams[info.stream] = _Stream(info, peer, lowest, 0, lowest)
                self._notify(StreamStarted(info=info))
            else:
                stream.front = peer
        self._send(peer, self._welcome(hello))

    def _welcome(self, hello: Hello) -> Welcome:
        return Welcome(
            hub=self._incarnation,
            streams=tuple(
                Standing(
                    stream=info.stream,
                    next_sequence=self._streams[info.stream].next_sequence,
                    acknowledged=self._streams[info.stream].acknowledged,
                    position=self._streams[info.stream].position,
                    start_unix_s=self._streams[info.stream].info.start_unix_s,
                    window=self._window(self._streams[info.stream]),
                )
                for info in hello.streams
            ),
        )

    def _window(self, stream: _Stream) -> int:
        flow = self._config.flow
        # a live front may send more than may wait, so that it is the hub who sheds, knowing what
        # has been begun
        return 2 * flow.live_backlog if stream.info.live else flow.file_window

    def _from_front(self, now: float, peer: bytes, message: Message) -> None:
        front = self._fronts[peer]
        front.heard, front.silent = now, False
        if isinstance(message, Beat):
            return
        if isinstance(message, Remark):
            self._notify(message)
            return
        if not isinstance(message, Segment | Gap | End):
            self._refuse(peer, f"{type(message).__name__} is nothing that a front says")
            return
        stream = self._streams.get(message.stream)
        if stream is None or stream.front != peer:
            self._refuse(peer, f"stream {message.stream!r} is not this front's")
            return
        if message.sequence < stream.next_sequence or stream.ended:
            self._doubles += 1
            self._acknowledge[message.stream] = None
            return
        if message.sequence > stream.next_sequence:
            # something before it was lost on the way: have everything sent again
            self.refuse("out of order")
            self._send(peer, Introduce())
            return
        self._accept(now, stream, message)

    def _accept(self, now: float, stream: _Stream, message: Segment | Gap | End) -> None:
        stream.next_sequence += 1
        if isinstance(message, End):
            stream.ended = True
            self._aggregator.append(
                StreamEnded(
                    stream=message.stream,
                    sequence=message.sequence,
                    position=message.position,
                    reason=message.reason,
                )
            )
            return
        fault = _fault(stream, message)
        if fault:
            self.refuse(fault)
            stream.position = max(stream.position, min(message.end, stream.position + 2**40))
            self._aggregator.append(
                Gap(
                    stream=message.stream,
                    sequence=message.sequence,
                    start=min(message.start, stream.position),
                    end=stream.position,
                    reason=f"refused by the hub: {fault}",
                )
            )
            return
        stream.position = message.end
        if isinstance(message, Gap):
            self._aggregator.append(message)
        else:
            self._submit(now, stream, message)

    def _submit(self, now: float, stream: _Stream, segment: Segment) -> None:
        deadlines, info = self._config.deadlines, stream.info
        due = now + (deadlines.live_s if info.live else deadlines.file_s)
        facts = Facts(
            segment.stream,
            segment.sequence,
            segment.start,
            segment.end,
            info.start_unix_s + to_seconds(segment.start),
            segment.captured_unix_s,
            segment.capture_ms,
            max(0.0, 1000 * (segment.sent_unix_s - segment.captured_unix_s) - segment.capture_ms),
        )
        self._segments[facts.key] = segment
        self._aggregator.open(now, facts, due)
        self._act(now, self._dispatch.submit(facts.key, due))
        if info.live:
            self._shed(now, stream)

    def _shed(self, now: float, stream: _Stream) -> None:
        waiting = self._dispatch.unstarted(stream.info.stream)
        backlog = self._config.flow.live_backlog
        for key in waiting[: max(0, len(waiting) - backlog)]:
            self._aggregator.shed(key, f"overload: {backlog} later segments were waiting")
            self._forget(now, key)

    def _running(self, front: _Front) -> bool:
        return any(not self._streams[s].ended for s in front.streams)

    # --- nodes ------------------------------------------------------------------------------------

    def _ready(self, now: float, peer: bytes, ready: Ready) -> None:
        known = self._nodes.get(peer)
        if peer in self._fronts or (known is not None and known.name != ready.node):
            fault = "it has introduced itself as another"
        else:
            fault = self._unfit(ready)
        if fault:
            self._refuse(peer, fault)
            self._notify(
                NodeDown(
                    node=ready.node,
                    incarnation=ready.incarnation,
                    service=ready.service,
                    reason=f"refused: {fault}",
                )
            )
            return
        former = self._node_ids.get(ready.node)
        if former is not None and former != peer:
            self._nodes.pop(former, None)
        self._nodes[peer] = _Node(
            ready.node,
            ready.incarnation,
            ready.service,
            frozenset(ready.needs),
            frozenset(ready.labels),
        )
        self._node_ids[ready.node] = peer
        up = NodeUp(
            node=ready.node,
            service=ready.service,
            gives=ready.gives,
            model=ready.model,
            version=ready.version,
            licence=ready.licence,
            noncommercial=ready.noncommercial,
        )
        actions = self._dispatch.ready(
            now, ready.node, ready.service, ready.needs, ready.gives, ready.credits
        )
        self._node_up[ready.node] = up
        self._notify(up)
        self._act(now, [a for a in actions if not isinstance(a, Lost)])

    def _unfit(self, ready: Ready) -> str:
        if ready.service not in self._services:
            return (
                f"{ready.service!r} has no part in this run ({', '.join(sorted(self._services))})"
            )
        gives = "transcript" if ready.service == TRANSCRIBER else "vote"
        if ready.gives != gives:
            return f"{ready.service} must give a {gives}, not a {ready.gives}"
        foreign = sorted(set(ready.labels) - set(LABELS))
        if foreign:
            return f"labels {', '.join(foreign)} are not of the eight"
        if gives == "vote" and not ready.labels:
            return "it announces no labels"
        if gives == "transcript" and "transcript" in ready.needs:
            return "it needs what it gives"
        if ready.credits < 1:
            return "it takes no tasks"
        return ""

    def _from_node(self, now: float, peer: bytes, message: Message) -> None:
        node = self._nodes[peer]
        if isinstance(message, Beat):
            self._act(now, self._dispatch.beat(now, node.name, message.work_age_s))
        elif isinstance(message, Failed):
            key, reason = (message.stream, message.sequence), message.reason[:LONGEST_REASON]
            self._act(
                now, self._dispatch.failed(node.name, key, node.service, reason, message.retry)
            )
        elif isinstance(message, Vote | Transcript):
            self._answer(now, node, message)
        else:
            self._refuse(peer, f"{type(message).__name__} is nothing that a node says")

    def _answer(self, now: float, node: _Node, answer: Vote | Transcript) -> None:
        key = (answer.stream, answer.sequence)
        fault = _invalid(node, answer)
        if fault:
            self.refuse(fault)
            self._act(now, self._dispatch.failed(node.name, key, node.service, fault, False))
            return
        counts, actions = self._dispatch.answered(node.name, key, node.service)
        if not counts:
            self._doubles += 1
        elif isinstance(answer, Transcript):
            self._transcripts[key] = answer.text
            self._aggregator.transcribed(now, answer)
        else:
            self._aggregator.voted(now, answer, self._dispatch.explain)
        self._act(now, actions)

    def _act(self, now: float, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Assign):
                self._aggregator.begun(now, action.key)
                self._send(self._node_ids[action.node], self._task(action))
            elif isinstance(action, Retract):
                stream, sequence = action.key
                self._send(self._node_ids[action.node], Cancel(stream=stream, sequence=sequence))
            elif isinstance(action, Absent):
                self._aggregator.absent(now, action.key, action.service, action.reason)
            else:
                self._lose(action)

    def _lose(self, lost: Lost) -> None:
        node = self._nodes.pop(self._node_ids.pop(lost.node))
        del self._node_up[lost.node]
        self._notify(
            NodeDown(
                node=lost.node,
                incarnation=node.incarnation,
                service=lost.service,
                reason=lost.reason,
            )
        )

    def _task(self, assign: Assign) -> Task:
        segment = self._segments[assign.key]
        needs = self._nodes[self._node_ids[assign.node]].needs
        audio = "audio" in needs
        return Task(
            stream=segment.stream,
            sequence=segment.sequence,
            start=segment.start,
            end=segment.end,
            samples=segment.samples if audio else None,
            heard=segment.heard if audio else None,
            transcript=self._transcripts.get(assign.key) if "transcript" in needs else None,
        )

    def _forget(self, now: float, key: Key) -> None:
        self._segments.pop(key, None)
        self._transcripts.pop(key, None)
        self._act(now, self._dispatch.close(key))

    # --- sinks ------------------------------------------------------------------------------------

    def _subscribe(self, peer: bytes, subscribe: Subscribe) -> None:
        self._sinks.add(peer)
        unconfirmed = list(self._notices.unconfirmed)
        started = {n.event.info.stream for n in unconfirmed if isinstance(n.event, StreamStarted)}
        up = {n.event.node for n in unconfirmed if isinstance(n.event, NodeUp)}
        present: list[Event] = [
            StreamStarted(info=s.info)
            for s in self._streams.values()
            if s.info.stream not in started and not s.ended
        ]
        present += [event for node, event in self._node_up.items() if node not in up]
        for event in present:
            notice = Notice(number=0, hub=self._incarnation, event=event)
            self._out.append(Outgoing("sinks", peer, notice))
        if subscribe.confirm:
            self._recorder = peer
            self._out += [Outgoing("sinks", peer, notice) for notice in unconfirmed]

    def _seen(self, number: int) -> None:
        waiting = self._notices.unconfirmed
        while waiting and waiting[0].number <= number:
            event = waiting.popleft().event
            if isinstance(event, Verdict | Gap | StreamEnded):
                stream = self._streams[event.stream]
                stream.acknowledged = max(stream.acknowledged, event.sequence + 1)
                self._acknowledge[event.stream] = None

    def _died(self, now: float, died: Died) -> None:
        if died.name in self._node_ids:
            self._act(now, self._dispatch.gone(now, died.name, died.reason))
        if died.service:
            self._act(now, self._dispatch.abandon(died.service, died.reason))
        if not died.final:
            return
        for peer in [p for p, f in self._fronts.items() if f.name == died.name]:
            front = self._fronts.pop(peer)
            for name in front.streams:
                stream = self._streams[name]
                if not stream.ended:
                    end = End(
                        stream=name,
                        sequence=stream.next_sequence,
                        position=stream.position,
                        reason=died.reason,
                    )
                    self._accept(now, stream, end)

    def _notify(self, event: Event) -> None:
        self._notices.number += 1
        notice = Notice(number=self._notices.number, hub=self._incarnation, event=event)
        self._notices.unconfirmed.append(notice)
        self._broadcast(notice)

    def _broadcast(self, notice: Notice) -> None:
        self._out += [Outgoing("sinks", peer, notice) for peer in self._sinks]

    def _status(self) -> Status:
        return Status(
            hub=self._incarnation,
            waiting=self._dispatch.waiting,
            open_segments=self._aggregator.undecided,
            nodes=tuple(
                NodeLoad(node=node, service=service, held=held, done=done)
                for node, service, held, done in self._dispatch.loads()
            ),
            fronts=tuple(front.name for front in self._fronts.values() if not front.silent),
            refused=dict(self._refused),
            doubles=self._doubles,
        )

    # --- what goes out ----------------------------------------------------------------------------

    def _flush(self, now: float) -> list[Outgoing]:
        for event in self._aggregator.collect(now, self._dispatch.explain):
            self._notify(event)
        for key in self._aggregator.closed(now):
            self._forget(now, key)
        for name in self._acknowledge:
            stream = self._streams[name]
            self._send(
                stream.front,
                Credit(stream=name, acknowledged=stream.acknowledged, window=self._window(stream)),
            )
        self._acknowledge.clear()
        out, self._out = self._out, []
        return out

    def _send(self, peer: bytes, message: Message) -> None:
        self._out.append(Outgoing("workers", peer, message))

    def _refuse(self, peer: bytes, reason: str) -> None:
        self.refuse(reason)
        self._send(peer, Refused(reason=reason))


def _countable(sequences: Iterable[int]) -> bool:
    return all(0 <= sequence < 2**62 for sequence in sequences)


def _fault(stream: _Stream, message: Segment | Gap) -> str:
    """Say what is wrong with a segment or gap, if anything."""
    if message.start < stream.position or message.end < message.start:
        return "it overlaps what came before"
    if isinstance(message, Gap):
        return ""
    length = message.end - message.start
    if not 0 < length <= LONGEST_SAMPLES:
        return f"it is {to_seconds(length):.2f} s long, not up to 10 s"
    if message.samples.shape != (length,):
        return f"{message.samples.shape} samples came for {length}"
    heard = message.heard
    if heard is not None and not _are_statistics(heard.mean, heard.std):
        return "its running statistics are no two float32 vectors of one length"
    return ""


def _are_statistics(mean: Payload, std: Payload) -> bool:
    return mean.dtype == std.dtype == "float32" and len(mean.shape) == 1 and mean.shape == std.shape


def _invalid(node: _Node, answer: Vote | Transcript) -> str:
    """Say why an answer does not count, if so."""
    if isinstance(answer, Transcript):
        if node.service != TRANSCRIBER:
            return f"{node.service} gives no transcripts"
        too_long = max(len(answer.text), len(answer.words)) > LONGEST_TRANSCRIPT
        return f"{node.service} gave a transcript without end" if too_long else ""
    if node.service == TRANSCRIBER:
        return f"{node.service} gives no votes"
    if answer.voter != node.service:
        return f"{node.service} voted in the name of {answer.voter}"
    if answer.label not in node.labels:
        return f"{node.service} voted {answer.label!r}, which it did not announce"
    p = answer.probabilities
    if p is None:
        return ""
    if len(p) != len(LABELS):
        return f"{node.service} gave {len(p)} probabilities, not {len(LABELS)}"
    if not all(math.isfinite(x) and x >= 0 for x in p) or abs(math.fsum(p) - 1) > 1e-3:
        return f"{node.service} gave numbers that are no probabilities"
    return ""
