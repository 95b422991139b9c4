"""Processes without models, to measure the cost of transport.

A null node uses the node protocol and answers each task at once. The bare relay has no protocol: it
sends frames to four nodes and back, without queue, order, deadline or record. The difference is the
cost of the hub.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import zmq

from abhinaya.models.labels import LABELS
from abhinaya.stream.run import monitor
from abhinaya.stream.run.supervisor import Spec
from abhinaya.stream.settings.config import Config, DeadlineConfig, FlowConfig, WorkerConfig
from abhinaya.stream.wire.child import Stop, run_child
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import (
    Beat,
    Introduce,
    Message,
    Ready,
    Service,
    Task,
    ToNode,
    Transcript,
    Vote,
)
from abhinaya.stream.wire.sockets import connect, receive, send, workers_endpoint

NEEDS: Final[dict[str, tuple[Any, ...]]] = {
    **dict.fromkeys(("asr", "V1", "V2", "V3"), ("audio",)),
    "V4": ("audio", "transcript"),
}
"""Needs of each null node: a transcriber and four voters, one of which needs the transcript."""

BARE_NODES: Final = ("B1", "B2", "B3", "B4")
SENDER: Final = b"sender"
BEAT_S: Final = 0.5
_MODULE: Final = "abhinaya.bench.null_nodes"


def null_config(live_s: float = 60.0) -> Config:
    """Return the configuration of a hub that has only null nodes and drops no segment."""
    worker = WorkerConfig(model="null")
    return Config(
        profile="null",
        asr=worker,
        voters={name: worker for name in NEEDS if name != "asr"},
        flow=FlowConfig(file_window=1024, live_backlog=1024),
        deadlines=DeadlineConfig(live_s=live_s),
    )


def specs(path: str) -> list[Spec]:
    """Return the processes of a run with the `hub` or the `bare relay`."""
    if path == "hub":
        return null_specs(dict.fromkeys(NEEDS, 0.0))
    bare = [Spec(name, _MODULE, ("--bare-node", name)) for name in BARE_NODES]
    return [Spec("relay", _MODULE, ("--bare-relay",)), *bare]


def null_specs(busy_s: Mapping[str, float], where: Sequence[str] = ()) -> list[Spec]:
    """Return a hub and null nodes that take such times for each task.

    `where`: `--endpoint` and `--keys` of a hub beyond this run; none: that of the run.
    """
    nodes = [
        Spec(name, _MODULE, ("--null", name, "--busy-s", f"{busy}", *where), services=(name,))
        for name, busy in busy_s.items()
    ]
    return [Spec("hub", "abhinaya.stream.hub.main", tuple(where)), *nodes]


@contextmanager
def null_nodes(busy_s: float = 0.0) -> Iterator[None]:
    """Make each `Run` start null nodes in place of the models."""

    def specs_of(service: str, replicas: int, guests: Sequence[str] = ()) -> list[Spec]:
        return [Spec(service, _MODULE, ("--null", service, "--busy-s", f"{busy_s}"), (service,))]

    with patch.object(monitor, "node_specs", specs_of):
        yield


def null_node(
    endpoint: str, service: str, stop: Stop, busy_s: float = 0.0, keys: Keys | None = None
) -> int:
    """Answer every task at once, or one after the other with `busy_s` for each."""
    socket = connect(zmq.Context(), workers_endpoint(endpoint), service, keys)
    encoder, decoder = Encoder(), Decoder[Message](ToNode)
    votes = service != "asr"
    made: dict[str, Any] = {"model": "null", "version": "0", "licence": "none"}
    made["kind"], labels = ("vote", LABELS) if votes else ("transcript", ())
    given = Service(name=service, needs=NEEDS[service], labels=labels, **made)
    held = 4 if busy_s else 256
    ready = Ready(node=service, incarnation=str(os.getpid()), gives=(given,), credits=held)
    introduced, next_beat = False, 0.0
    waiting: deque[tuple[float, Task]] = deque()
    while not stop.asked:
        if (now := time.monotonic()) >= next_beat:
            introduced = send(socket, encoder.encode(Beat(name=service) if introduced else ready))
            next_beat = now + (BEAT_S if introduced else 0.02)
        due = min(next_beat, waiting[0][0]) if waiting else next_beat
        socket.poll(max(1, round(1000 * (due - now))))
        while waiting and waiting[0][0] <= time.monotonic():
            send(socket, encoder.encode(_answer(waiting.popleft()[1], service, busy_s)))
        while (frames := receive(socket)) is not None:
            message = decoder.decode(frames)
            if isinstance(message, Task) and busy_s:
                before = waiting[-1][0] if waiting else 0.0
                waiting.append((max(before, time.monotonic()) + busy_s, message))
            elif isinstance(message, Task):
                send(socket, encoder.encode(_answer(message, service)))
            elif isinstance(message, Introduce):
                introduced = send(socket, encoder.encode(ready))
    return 0


def _answer(task: Task, service: str, busy_s: float = 0.0) -> Vote | Transcript:
    of = {"stream": task.stream, "sequence": task.sequence, "part": task.part}
    run = {"model": "null", "queue_ms": 0.0, "run_ms": 1000 * busy_s, "batch_size": 1}
    common: dict[str, Any] = of | run
    if service == "asr":
        return Transcript(text="the words of a null transcriber", **common)
    shares = (1 / len(LABELS),) * len(LABELS)
    return Vote(voter=service, label="neutral", probabilities=shares, version="0", **common)


def bare_relay(endpoint: str) -> int:
    """Forward each message of the sender to every node, and every answer to the sender."""
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.sndhwm = socket.rcvhwm = 10_000
    socket.bind(workers_endpoint(endpoint))
    nodes = [name.encode() for name in BARE_NODES]
    while True:
        peer, *parts = socket.recv_multipart(copy=False)
        for target in nodes if peer.bytes == SENDER else [SENDER]:
            socket.send_multipart([target, *parts], copy=False)


def bare_node(endpoint: str, name: str) -> int:
    """Answer each message with its first frame."""
    socket = bare_socket(zmq.Context(), name.encode(), endpoint)
    while True:
        socket.send(socket.recv_multipart(copy=False)[0])


def bare_socket(context: zmq.Context[Any], name: bytes, endpoint: str) -> zmq.Socket[bytes]:
    """Return a socket that is connected to the bare relay."""
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.sndhwm = socket.rcvhwm = 10_000
    socket.identity = name
    socket.connect(workers_endpoint(endpoint))
    return socket


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a child of the supervisor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("--null", choices=NEEDS)
    role.add_argument("--bare-node", choices=BARE_NODES)
    role.add_argument("--bare-relay", action="store_true")
    parser.add_argument("--busy-s", type=float, default=0.0)
    parser.add_argument("--endpoint")
    parser.add_argument("--keys", type=Path)
    args = parser.parse_args(argv)
    endpoint = args.endpoint or f"ipc://{args.directory}"

    def body(stop: Stop) -> int:
        if args.null:
            keys = Keys(args.keys, "node") if args.keys else None
            return null_node(endpoint, args.null, stop, args.busy_s, keys)
        return bare_node(endpoint, args.bare_node) if args.bare_node else bare_relay(endpoint)

    return run_child(args.null or args.bare_node or "relay", args.directory, args.lifeline, body)


if __name__ == "__main__":
    sys.exit(main())
