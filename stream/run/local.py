"""Runs broker and models in one process, without sockets and child processes.

Messages that the processes of a run exchange are passed here by calls. The broker is the same, so
the verdicts are the same.
"""

from __future__ import annotations

import dataclasses
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from abhinaya.stream.clock import to_samples
from abhinaya.stream.errors import AbhinayaError, ModelError
from abhinaya.stream.front.numbering import Speech, SpeechItem
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.hub.publisher import Outgoing
from abhinaya.stream.node.answers import CANCELLED, answer_of
from abhinaya.stream.node.batching import Batcher
from abhinaya.stream.node.worker import Adapter, load_node
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.settings.config import Config, workers_of
from abhinaya.stream.settings.vote import load_combiner
from abhinaya.stream.sources.base import Opened
from abhinaya.stream.wire.messages import (
    Activity,
    Beat,
    Cancel,
    Event,
    Hello,
    Message,
    Notice,
    Ready,
    Refused,
    Seen,
    Segment,
    StreamEnded,
    StreamInfo,
    Subscribe,
    Task,
)

FRONT: Final = "front"
RECORDER: Final = b"recorder"
RETRY_S: Final = 0.02
"""Interval of time checks while all nodes are idle but a segment still waits."""


@dataclass(slots=True)
class LocalNode:
    """The models of one node, and its tasks."""

    ready: Ready
    adapter: Adapter
    batcher: Batcher


def load_nodes(config: Config) -> list[LocalNode]:
    """Load all models of a line-up; services that share a process share a node.

    Raises:
        ModelError: a model cannot be loaded.

    """
    nodes = []
    for service, worker in workers_of(config).items():
        if not worker.host:
            ready, adapter = load_node(config, service, f"{service}-0", "0")
            batcher = Batcher(worker.max_batch, to_samples(worker.max_padded_s), 0.0)
            nodes.append(LocalNode(ready, adapter, batcher))
    return nodes


class Local:
    """One run over one or several streams.

    Args:
        config: settings of the run.
        nodes: loaded nodes; only one run at a time may use them.
        infos: the streams.

    """

    def __init__(
        self, config: Config, nodes: Iterable[LocalNode], infos: Sequence[StreamInfo]
    ) -> None:
        run = secrets.token_hex(8)
        # the nodes have just had their trial, and live no longer than this object
        supervise = dataclasses.replace(config.supervise, canary_s=0.0)
        config = dataclasses.replace(config, supervise=supervise)
        self._broker = Broker(config, "local", load_combiner(config.vote))
        self._nodes = {node.ready.node.encode(): node for node in nodes}
        self._ledger = Ledger()
        self._events: deque[Event | Activity] = deque()
        self._open = len(infos)
        """Number of streams that have not ended."""
        for node in self._nodes.values():
            node.batcher.clear()
        self._deliver(
            self._broker.from_sink(
                time.monotonic(), RECORDER, Subscribe(sink="recorder", confirm=True, run=run)
            )
        )
        for peer, node in self._nodes.items():
            self._say(peer, node.ready)
        self._say(
            FRONT.encode(),
            Hello(
                front=FRONT,
                incarnation="0",
                run=run,
                streams=tuple(replace(info, run=run) for info in infos),
                first_sequences=(0,) * len(infos),
            ),
        )

    def feed(self, *items: SpeechItem) -> Iterator[Event | Activity]:
        """Process the next items, in order for each stream; yield the new events."""
        for item in items:
            self._say(FRONT.encode(), item)
        yield from self._settle()

    def finish(self) -> Iterator[Event | Activity]:
        """Yield the remaining events, after the end of every stream was fed."""
        yield from self._settle()
        while self._open:
            time.sleep(RETRY_S)
            self._tick()
            yield from self._settle()

    def _settle(self) -> Iterator[Event | Activity]:
        """Run the nodes until none holds a task; yield the events."""
        while True:
            while self._events:
                yield self._events.popleft()
            busy = next((peer for peer, node in self._nodes.items() if node.batcher), None)
            if busy is None:
                return
            self._work(busy)

    def _work(self, peer: bytes) -> None:
        node, begun = self._nodes[peer], time.monotonic()
        for answers in node.adapter.run(begun, node.batcher.take(begun)):
            for answer in answers:
                self._say(peer, answer)

    def _tick(self) -> None:
        """Check time limits, after heartbeats for all: a long task must not make others silent."""
        now = time.monotonic()
        for name in (FRONT, *(node.ready.node for node in self._nodes.values())):
            self._say(name.encode(), Beat(name=name))
        self._deliver(self._broker.tick(now))

    def _say(self, peer: bytes, message: Message) -> None:
        self._deliver(self._broker.from_worker(time.monotonic(), peer, message))

    def _deliver(self, outgoing: Sequence[Outgoing]) -> None:
        for item in outgoing:
            message = item.message
            if isinstance(message, Task):
                self._nodes[item.peer].batcher.add(time.monotonic(), message)
            elif isinstance(message, Cancel):
                self._cancel(item.peer, message)
            elif isinstance(message, Notice):
                self._note(message)
            elif isinstance(message, Refused):
                raise ModelError(item.peer.decode(), f"was refused: {message.reason}")

    def _cancel(self, peer: bytes, cancel: Cancel) -> None:
        node = self._nodes[peer]
        for task in node.batcher.cancel((cancel.stream, cancel.sequence), cancel.part):
            for service in node.ready.gives:
                if service.name in task.services:
                    self._say(peer, answer_of(task, service, CANCELLED))
        if not cancel.part:
            node.adapter.forget(cancel.stream, cancel.sequence)

    def _note(self, notice: Notice) -> None:
        event = self._ledger.admit(notice.event)
        if event is not None:
            self._events.append(event)
        if isinstance(event, StreamEnded):
            self._open -= 1
        if notice.number:
            seen = Seen(hub=notice.hub, number=notice.number)
            self._deliver(self._broker.from_sink(time.monotonic(), RECORDER, seen))


def items_of(source: Opened, speech: Speech) -> Iterator[SpeechItem]:
    """Yield the items of a source; a thread reads a live source, so that it never waits.

    Raises:
        SourceError: the source broke off; all items before were yielded.

    """
    if not source.live:
        yield from speech.items()
        return
    found: queue.SimpleQueue[SpeechItem | AbhinayaError | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(speech, found), daemon=True).start()
    while True:
        waiting = [found.get()]
        while not found.empty():
            waiting.append(found.get())
        for place, item in enumerate(waiting):
            if item is None:
                return
            if isinstance(item, AbhinayaError):
                raise item
            partial = isinstance(item, Segment) and not item.final
            if not (partial and _outdated(item, waiting[place + 1 :])):
                yield item


def _outdated(item: SpeechItem, later: Sequence[SpeechItem | AbhinayaError | None]) -> bool:
    """Whether a newer item of the same stream waits after a partial."""
    return any(
        not isinstance(newer, AbhinayaError | Activity | None) and newer.stream == item.stream
        for newer in later
    )


def _read(speech: Speech, found: queue.SimpleQueue[SpeechItem | AbhinayaError | None]) -> None:
    try:
        for item in speech.items():
            found.put(item)
        found.put(None)
    except AbhinayaError as error:
        found.put(error)
    except Exception as error:  # a bug must not look like the end of the input
        found.put(AbhinayaError("the input", f"stopped on {type(error).__name__}: {error}"))
