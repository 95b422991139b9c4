"""A hub among hostile peers: messages with any values in them, and the laws that hold all the same.

`World.feed` takes bytes: records of (who, length, header). So a fuzzer can drive it, and any input
that broke a law can be kept and fed again.
"""

from __future__ import annotations

import copy
import math
import random
import struct
from collections.abc import Iterator
from typing import Any, Final

import fakes
import msgspec
import numpy as np

from abhinaya.stream.errors import WireError
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.hub.publisher import Outgoing
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.settings.config import SuperviseConfig
from abhinaya.stream.sinks.events import to_dict
from abhinaya.stream.wire.codec import (
    MAX_STATES_BYTES,
    MAX_WORKER_HEADER_BYTES,
    Decoder,
    Encoder,
)
from abhinaya.stream.wire.messages import (
    End,
    FromSink,
    Message,
    Notice,
    Segment,
    Subscribe,
    ToFront,
    ToHub,
    ToNode,
    ToSink,
)

WORKERS: Final = [b"front-0", b"front-1", b"S1-0", b"asr-0", b"T2-0"]
SINKS: Final = [b"recorder", b"reader"]
RECORD: Final = struct.Struct("<BBH")
"""Peer or tick, samples, length of the header."""
SAMPLES: Final = [b"", bytes(32), bytes(3), np.full(8, np.nan, np.float32).tobytes()]

HOSTILE: Final[list[Any]] = [
    None, True, 0, 1, -1, 2**31, 2**46, 2**62 - 1, 2**62, 2**63 - 1, -(2**63), 2**64 - 1,
    0.0, -0.0, 1e300, -1e300, math.nan, math.inf, -math.inf, 1e-320,
    "", "call", "front-0", "S1", "asr", "S1-0", "x" * 1025, "x" * 33_000, "\x1fcanary", "\x00",
    "\u202eevil", "{}%s", b"", b"x", bytes(300_000), [], [1] * 2_000, {}, {"S1": b"x"}, {"": 1},
    [1, "int16", [16]], [1, "int16", [-1]], [1, "float32", [2**31]], [2, "int16", [1]],
]  # fmt: skip


class World:
    """A hub, and readers for everything that it sends."""

    def __init__(self) -> None:
        config = fakes.config(supervise=SuperviseConfig(silent_s=3.0, canary_s=5.0))
        self.broker = Broker(config, "hub")
        self.now = 100.0
        self.refused = 0
        self._encoder = Encoder()
        self._from = {
            "workers": Decoder[Message](ToHub, MAX_WORKER_HEADER_BYTES),
            "sinks": Decoder[Message](FromSink),
        }
        self._to: dict[str, Decoder[Message]] = {
            "workers": Decoder[Message](ToFront | ToNode, MAX_STATES_BYTES),
            "sinks": Decoder[Message](ToSink, MAX_STATES_BYTES),
        }
        self._ledger = Ledger()
        for service in ("asr", "S1", "T2", "ST1"):
            self.say(f"{service}-0".encode(), fakes.ready(service, credits=9, trial_ms=1.0))

    def feed(self, data: bytes) -> None:
        """Handle each record of `data`."""
        at = 0
        while at + RECORD.size <= len(data):
            who, samples, length = RECORD.unpack_from(data, at)
            at += RECORD.size
            self.receive(who, samples, data[at : at + length])
            at += length

    def receive(self, who: int, samples: int, header: bytes) -> None:
        """Handle one message, or the passing of time."""
        peers = [("workers", peer) for peer in WORKERS] + [("sinks", peer) for peer in SINKS]
        if who >= len(peers):
            self.now += who / 16
            self.deliver(self.broker.tick(self.now))
            return
        door, peer = peers[who]
        payload = SAMPLES[samples % len(SAMPLES)]
        try:
            message = self._from[door].decode([header, payload] if payload else [header])
        except WireError as error:
            self.refused += 1
            self.deliver(self.broker.malformed(self.now, peer, error.reason))
            return
        handle = self.broker.from_worker if door == "workers" else self.broker.from_sink
        self.deliver(handle(self.now, peer, message))

    def say(self, peer: bytes, message: Message) -> None:
        """Handle a message that is not hostile."""
        self.deliver(self.broker.from_worker(self.now, peer, message))

    def deliver(self, out: list[Outgoing]) -> None:
        """Read what the hub sends: a receiver must be able to use each message."""
        for item in out:
            frames = self._encoder.encode(item.message)
            message = self._to[item.door].decode(frames)
            if isinstance(message, Notice):
                event = self._ledger.admit(message.event)
                if event is not None:
                    msgspec.json.encode(to_dict(event, 1_000_000.0))


def record(who: int, message: Message | bytes, samples: int = 0) -> bytes:
    """Return a message as a record for `World.feed`."""
    header = message if isinstance(message, bytes) else Encoder().encode(message)[0]
    return RECORD.pack(who, samples, len(header) & 0xFFFF) + header[:0xFFFF]


def good_run() -> bytes:
    """Return the records of a short run in which each peer behaves."""
    live = fakes.info("call", live=True)
    front = [fakes.hello(live), fakes.partial(0, part=1), fakes.segment(0), fakes.segment(1)]
    words = [fakes.answer(fakes.task(n), "asr") for n in range(2)]
    votes = [fakes.answer(fakes.task(n), "S1") for n in range(2)]
    end = End(stream="call", sequence=3, position=3 * fakes.SECOND)
    records = [
        record(5, Subscribe(sink="recorder", confirm=True, run=live.run)),
        *(record(0, m, samples=int(isinstance(m, Segment))) for m in front),
        *(record(3, m) for m in words),
        *(record(2, m) for m in votes),
        *(record(0, m) for m in (fakes.gap(2), end)),
        record(255, b""),
    ]
    return b"".join(records)


def mutated(rng: random.Random, base: list[Any]) -> bytes:
    """Return the header of one of some messages (as plain values) with a few hostile values."""
    value = msgspec.msgpack.decode(msgspec.msgpack.encode(rng.choice(base)))
    for _ in range(rng.choice((0, 0, 1, 1, 1, 2))):
        places = list(_places(value))
        holder, key = rng.choice(places)
        holder[key] = copy.deepcopy(rng.choice(HOSTILE))
    header = bytearray(msgspec.msgpack.encode(value))
    if rng.random() < 0.1 and header:
        header[rng.randrange(len(header))] ^= 1 << rng.randrange(8)
    return bytes(header)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
