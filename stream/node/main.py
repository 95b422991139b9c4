"""The node process: receives tasks, batches them, runs the models, sends the answers.

The main thread does the network and sends heartbeats; a second thread runs the models. So the hub
can tell a stuck model from a silent process. The answers of each model are sent as soon as it has
finished a batch.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import zmq
from msgspec.structs import replace

from abhinaya.stream.clock import to_samples
from abhinaya.stream.errors import ModelError, NetworkError, ProcessError
from abhinaya.stream.hub.segments import Key
from abhinaya.stream.node.answers import CANCELLED, Answer, answer_of
from abhinaya.stream.node.batching import Batcher
from abhinaya.stream.node.worker import Adapter, load_node
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.config import SuperviseConfig, workers_of
from abhinaya.stream.wire.child import Stop, drain, hub_of, run_child, wake, wakeup
from abhinaya.stream.wire.client import Client
from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import (
    Beat,
    Cancel,
    Drain,
    Introduce,
    Message,
    Ready,
    Refused,
    Task,
    ToNode,
)
from abhinaya.stream.wire.sockets import connect, messages, send, workers_endpoint

IDLE_POLL_MS = 100

LINGER_MS: Final = 1000
"""What is left to send when a node ends that finishes its tasks; else it may be lost."""

TRIM_S: Final = 3.0
"""Seconds between two returns of free memory to the system, which cost 25 ms each. Without them a
node grows with each new length of segment: its heap has ever more holes (docs/measured.md)."""

_trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: 0)
"""Of glibc only."""


class Worker:
    """The thread that runs the models, one batch at a time."""

    def __init__(self, adapter: Adapter, done: Callable[[], None]) -> None:
        self._adapter = adapter
        self._done = done
        self._batches: queue.SimpleQueue[list[tuple[float, Task]] | Key] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[list[Answer] | None] = queue.SimpleQueue()
        self.since: float | None = None
        """Start time of the batch in progress; None when idle."""
        self._cpu_s = 0.0
        threading.Thread(target=self._loop, daemon=True).start()

    def start(self, now: float, batch: list[tuple[float, Task]]) -> None:
        """Begin a batch of (arrival, task); the worker must be idle."""
        self.since, self._cpu_s = now, time.process_time()
        self._batches.put(batch)

    def work(self, now: float) -> tuple[float, float] | tuple[None, None]:
        """Return the age of the batch in progress and its processor seconds; None when idle."""
        since = self.since
        return (None, None) if since is None else (now - since, time.process_time() - self._cpu_s)

    def forget(self, key: Key) -> None:
        """Delete the data of the partials of a segment, after the batch in progress."""
        self._batches.put(key)

    def answers(self) -> Iterator[Answer]:
        """Yield the new answers of the batch; after the last one the worker is idle."""
        while not self._answers.empty():
            answers = self._answers.get_nowait()
            if answers is None:
                self.since = None
            else:
                yield from answers

    def _loop(self) -> None:
        trimmed = 0.0
        while True:
            batch = self._batches.get()
            if isinstance(batch, tuple):
                self._adapter.forget(*batch)
                continue
            for answers in self._adapter.run(time.monotonic(), batch):
                self._answers.put(answers)
                self._done()
            self._answers.put(None)
            self._done()
            if (now := time.monotonic()) - trimmed >= TRIM_S:
                trimmed = now
                _trim(0)


class Node:
    """The loop of the main thread.

    Args:
        ready: introduces the node.
        adapter: its models.
        batcher: groups its tasks.
        socket: the connection to the hub.
        supervise: settings of start and heartbeat.
        patience_s: seconds in which it finishes its tasks when it is asked to stop.
        hub: returns where the hub is now; empty if it has not moved.

    """

    def __init__(
        self,
        ready: Ready,
        adapter: Adapter,
        batcher: Batcher,
        socket: Client,
        supervise: SuperviseConfig,
        patience_s: float = 0.0,
        hub: Callable[[], str] = lambda: "",
    ) -> None:
        self._ready = ready
        self._batcher = batcher
        self._socket = socket
        self._supervise = supervise
        self._patience_s = patience_s
        self._where, self._hub = hub, ""
        self._leave_by: float | None = None
        self._encoder = Encoder()
        self._decoder: Decoder[Message] = Decoder(ToNode, MAX_STATES_BYTES)
        self._woken, self._wake = wakeup()
        self._worker = Worker(adapter, lambda: wake(self._wake))
        self._draining = False

    def run(self, stop: Stop) -> int:
        """Work until drained or asked to stop; return the exit code.

        Raises:
            NetworkError: no hub has accepted the connection in time.

        """
        stop.serving()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._woken, zmq.POLLIN)
        poller.register(self._socket.watch(), zmq.POLLIN)
        next_beat, deadline = 0.0, time.monotonic() + self._supervise.ready_s
        while not (self._draining and self._is_idle()):
            now = time.monotonic()
            stop.beat(now)
            if stop.asked and self._leaves(now):
                break
            if now >= next_beat:
                next_beat = now + self._supervise.beat_s
                if now > deadline and not self._socket.made:
                    raise self._socket.error()
                self._beat(now)
                self._follow()
            poller.poll(self._patience_ms(now, next_beat))
            drain(self._woken)
            if self._socket.is_new():
                self._introduce()
            for message in messages(self._socket, self._decoder):
                self._handle(message)
            for answer in self._worker.answers():
                self._send(answer)
            self._begin()
        return 0

    def _introduce(self) -> None:
        """Introduce the node on a new connection, or to a hub that does not know it.

        Tasks and answers may have been lost on the way: the hub sends again what it still needs.
        """
        if self._leave_by is None:
            self._batcher.clear()
        self._send(self._ready)

    def _leaves(self, now: float) -> bool:
        """After a stop request, ask the hub for no more tasks; return whether to exit at once.

        A node without credits gets the answer `Drain`, behind all tasks that are on their way.
        """
        if self._leave_by is None:
            self._ready = replace(self._ready, credits=0)
            asked = self._patience_s > 0 and self._send(self._ready)
            self._leave_by = now + (self._patience_s if asked else 0.0)
        return now >= self._leave_by

    def _follow(self) -> None:
        """Connect to the hub where it is now."""
        if (hub := self._where()) and hub != self._hub:
            self._hub = hub
            self._socket.move(workers_endpoint(hub))

    def _beat(self, now: float) -> None:
        age_s, cpu_s = self._worker.work(now)
        self._send(Beat(name=self._ready.node, work_age_s=age_s, work_cpu_s=cpu_s))

    def _patience_ms(self, now: float, next_beat: float) -> int:
        due = self._batcher.next_due() if self._worker.since is None else None
        until = next_beat if due is None else min(next_beat, due)
        return max(0, min(IDLE_POLL_MS, math.ceil(1000 * (until - now))))

    def _handle(self, message: Message) -> None:
        if isinstance(message, Task):
            self._batcher.add(time.monotonic(), message)
        elif isinstance(message, Cancel):
            self._cancel(message)
        elif isinstance(message, Introduce):
            self._introduce()
        elif isinstance(message, Drain):
            self._draining = True
        elif isinstance(message, Refused):
            # the supervisor does not restart a process that ends with a ModelError
            other = ProcessError if message.restart else ModelError
            kind = NetworkError if message.rights else other
            reason = f"was refused by the hub: {message.reason}"
            raise kind(self._ready.node, reason, message.remedy)

    def _cancel(self, cancel: Cancel) -> None:
        key = (cancel.stream, cancel.sequence)
        for task in self._batcher.cancel(key, cancel.part):
            for service in self._ready.gives:
                if service.name in task.services:
                    self._send(answer_of(task, service, CANCELLED))
        if not cancel.part:
            self._worker.forget(key)

    def _is_idle(self) -> bool:
        return self._worker.since is None and not self._batcher

    def _begin(self) -> None:
        now = time.monotonic()
        if self._worker.since is None and (batch := self._batcher.take(now)):
            self._worker.start(now, batch)

    def _send(self, message: Message) -> bool:
        return send(self._socket, self._encoder.encode(message))


def serve(
    run: configuration.Config,
    name: str,
    service: str,
    endpoint: str,
    stop: Stop,
    keys: Keys | None = None,
    patience_s: float = 0.0,
    hub: Callable[[], str] = lambda: "",
) -> int:
    """Load the models of `service` and its guests, connect, and work until asked to stop; return 0.

    See `Node` for `patience_s` and `hub`.

    Raises:
        AbhinayaError: a model cannot be loaded, or the hub refuses the node.

    """
    ready, adapter = load_node(run, service, name, str(os.getpid()))
    worker = workers_of(run)[service]
    batcher = Batcher(worker.max_batch, to_samples(worker.max_padded_s), worker.max_wait_ms / 1000)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = connect(context, workers_endpoint(hub() or endpoint), name, keys)
    try:
        return Node(ready, adapter, batcher, socket, run.supervise, patience_s, hub).run(stop)
    finally:
        socket.close(LINGER_MS if patience_s else None)
        context.term()


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a child of a supervisor: that of one run, or of a cluster (`--endpoint`)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--service", required=True)
    parser.add_argument("--endpoint")
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--key-name", default="")
    parser.add_argument("--hub-key", default="")
    args = parser.parse_args(argv)
    run = configuration.decode((args.directory / "config.json").read_bytes())
    keys = Keys(args.keys, args.key_name, args.hub_key) if args.keys else None
    endpoint = args.endpoint or f"ipc://{args.directory}"
    patience_s = run.deadlines.task_s if args.endpoint else 0.0

    def hub() -> str:
        return hub_of(args.directory, args.name)[0]

    def body(stop: Stop) -> int:
        return serve(run, args.name, args.service, endpoint, stop, keys, patience_s, hub)

    return run_child(args.name, args.directory, args.lifeline, body)


if __name__ == "__main__":
    sys.exit(main())
