"""The hub process: the loop that moves messages between two sockets and the broker."""

from __future__ import annotations

import argparse
import logging
import math
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import zmq

from abhinaya.stream.errors import WireError
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.hub.publisher import Door, Outgoing
from abhinaya.stream.log import Throttle
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.vote import load_combiner
from abhinaya.stream.wire import sockets
from abhinaya.stream.wire.child import Stop, run_child
from abhinaya.stream.wire.codec import MAX_WORKER_HEADER_BYTES, Decoder, Encoder
from abhinaya.stream.wire.guard import Guard
from abhinaya.stream.wire.keys import HUB, Keys
from abhinaya.stream.wire.messages import FromSink, Message, Refused, ToHub

_LOG = logging.getLogger("abhinaya.hub")

TICK_S = 0.02
"""Interval between checks of deadlines."""

PAUSE_S = 0.5
"""Interval between two rounds of the loop after which the hub itself was stopped or starved."""

BURST = 64
"""Maximum number of messages read from one socket before the other socket."""


class Hub:
    """Moves messages between the sockets and the broker."""

    def __init__(self, broker: Broker, doors: sockets.Hub) -> None:
        self._broker = broker
        self._doors = doors
        self._throttle = Throttle()
        self._sockets: dict[Door, zmq.Socket[bytes]] = {
            "workers": doors.workers,
            "sinks": doors.sinks,
        }
        self._encoder = Encoder()
        self._decoders: dict[Door, Decoder[Message]] = {
            "workers": Decoder(ToHub, MAX_WORKER_HEADER_BYTES),
            "sinks": Decoder(FromSink),
        }

    def run(self, stop: Stop) -> int:
        """Serve until asked to stop; return the exit code."""
        stop.serving()
        poller = zmq.Poller()
        guard = self._doors.guard
        for socket in (*self._sockets.values(), *(guard.sockets if guard else ())):
            poller.register(socket, zmq.POLLIN)
        next_tick, last = 0.0, time.monotonic()
        while not stop.asked:
            now = time.monotonic()
            if now - last > PAUSE_S:
                self._broker.paused(now - last)
            last = now
            stop.beat(now)
            if now >= next_tick:
                next_tick = now + TICK_S
                self._send(self._broker.tick(now))
            if guard is not None:
                self._admit(guard, now)
            ready = dict(poller.poll(max(0, math.ceil(1000 * (next_tick - now)))))
            for door, socket in self._sockets.items():
                if socket in ready:
                    self._receive(door)
        self._send(self._broker.drain_nodes())
        return 0

    def _admit(self, guard: Guard, now: float) -> None:
        for reason in guard.serve(now):
            self._broker.refusals.add(reason)
        if guard.admissions.look(now):
            self._send(self._broker.keys_changed(now, guard.admissions.get))

    def _receive(self, door: Door) -> None:
        for _ in range(BURST):
            frames = sockets.receive(self._sockets[door])
            if frames is None:
                return
            self._send(self._handle(door, frames, time.monotonic()))

    def _handle(self, door: Door, frames: list[zmq.Frame], now: float) -> list[Outgoing]:
        """Pass a message to the broker; no message may end the hub, which serves others too."""
        peer, key = frames[0].bytes, self._doors.key_of(frames[-1])
        if peer.startswith(b"\0"):
            # libzmq has renamed a connection that a newer one of the same peer replaced: what is
            # left of it must not speak for the peer, for example subscribe in its place
            self._broker.refusals.add("it came on a connection that a newer one has replaced")
            return []
        if key is None:
            return self._broker.not_admitted(door, peer)
        try:
            message = self._decoders[door].decode(frames[1:])
            if door == "workers":
                return self._broker.from_worker(now, peer, message, key)
            return self._broker.from_sink(now, peer, message, key)
        except WireError as error:
            return self._broker.malformed(now, peer, error.reason)
        except Exception as error:  # a bug: the front would send the message to the next hub too
            _LOG.exception("a message from %r was dropped", peer)
            return self._broker.malformed(now, peer, f"{type(error).__name__} in the hub")

    def _send(self, out: Sequence[Outgoing]) -> None:
        pending = list(out)
        while pending:
            unreachable: dict[bytes, None] = {}
            for item in pending:
                if item.peer in unreachable:
                    continue
                if isinstance(item.message, Refused):
                    self._log(item.peer, item.message)
                frames = self._encoder.encode(item.message)
                if not sockets.send(self._sockets[item.door], frames, item.peer):
                    unreachable[item.peer] = None
            # tasks of an unreachable node may now go to another
            now = time.monotonic()
            pending = [m for peer in unreachable for m in self._broker.unreachable(now, peer)]

    def _log(self, peer: bytes, refused: Refused) -> None:
        if (note := self._throttle.note(time.monotonic(), refused.reason)) is not None:
            name = peer.decode("utf-8", "replace")
            _LOG.warning("refused %s: %s; %s%s", name, refused.reason, refused.remedy, note)


def serve(
    run: configuration.Config,
    endpoint: str,
    stop: Stop,
    keys: Keys | None = None,
    supervised: bool = False,
) -> int:
    """Bind `endpoint` and serve until asked to stop; return the exit code.

    `supervised`: somebody watches the processes of all nodes and ends those that are stuck.

    Raises:
        NetworkError: the endpoint is taken, malformed, or open to the network without keys.
        ConfigError: the combiner file has disappeared since the profile was loaded.

    """
    combiner = load_combiner(run.vote)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    doors = sockets.Hub(context, endpoint, keys)
    try:
        return Hub(Broker(run, secrets.token_hex(8), combiner, supervised), doors).run(stop)
    finally:
        doors.close()
        context.term()


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a child of a supervisor: that of one run, or of a cluster (`--endpoint`)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--name", default="hub")
    parser.add_argument("--endpoint")
    parser.add_argument("--keys", type=Path)
    args = parser.parse_args(argv)
    run = configuration.decode((args.directory / "config.json").read_bytes())
    keys = Keys(args.keys, HUB) if args.keys else None
    endpoint = args.endpoint or f"ipc://{args.directory}"
    return run_child(
        args.name,
        args.directory,
        args.lifeline,
        lambda stop: serve(run, endpoint, stop, keys, supervised=not args.endpoint),
    )


if __name__ == "__main__":
    sys.exit(main())
