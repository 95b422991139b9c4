"""A reader of one hub that writes the node of each `NodeUp` and `NodeDown`, also of repeated ones.

`python observer.py ENDPOINT DIRECTORY KEY`: the directory has the pair of a reader, KEY is the
hub's. A run writes no repeated notice, so its JSON lines would not show a storm.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import zmq

from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import (
    Introduce,
    Message,
    NodeDown,
    NodeUp,
    Notice,
    Subscribe,
    ToSink,
)
from abhinaya.stream.wire.sockets import connect, messages, send, sinks_endpoint


def main(endpoint: str, directory: str, key: str) -> None:
    """Read until killed."""
    name, context = f"observer-{os.getpid()}", zmq.Context[Any]()
    socket = connect(context, sinks_endpoint(endpoint), name, Keys(Path(directory), "reader", key))
    encoder, decoder = Encoder(), Decoder[Message](ToSink, MAX_STATES_BYTES)
    subscribe = encoder.encode(Subscribe(sink=name, confirm=False))
    while True:
        if socket.is_new():
            send(socket, subscribe)
        socket.poll(200)
        for message in messages(socket, decoder):
            if isinstance(message, Introduce):
                send(socket, subscribe)
            elif isinstance(message, Notice) and isinstance(message.event, NodeUp | NodeDown):
                print(message.event.node, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
