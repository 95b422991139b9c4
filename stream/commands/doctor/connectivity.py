"""Looks at the sockets: can a hub be opened here, does the one named answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import zmq

from abhinaya.stream.commands.doctor.finding import Finding
from abhinaya.stream.run.monitor import run_directory
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.messages import Message, Notice, Refused, Subscribe, ToSink
from abhinaya.stream.wire.sockets import Hub, Keys, connect, receive, send, sinks_endpoint

AGAIN_S = 0.2


def endpoint(listen: str | None, keys: Keys | None) -> Iterator[Finding]:
    """Open a hub's sockets and close them: in a private directory, and where it shall listen.

    Raises:
        NetworkError: they cannot be opened.

    """
    context: zmq.Context[Any] = zmq.Context()
    try:
        with run_directory() as directory:
            Hub(context, f"ipc://{directory}").close()
        yield Finding("sockets", "ok", "a hub can listen on this machine")
        if listen:
            Hub(context, listen, keys).close()
            yield Finding("endpoint", "ok", f"a hub can listen on {listen}")
    finally:
        context.destroy(linger=0)


def hub(address: str, keys: Keys | None, timeout_s: float) -> Iterator[Finding]:
    """Listen to a hub for a moment, without taking anything from its recorder.

    Raises:
        NetworkError: the endpoint or the keys cannot be used.

    """
    context: zmq.Context[Any] = zmq.Context()
    name = f"doctor-{os.uname().nodename}-{os.getpid()}"
    try:
        socket = connect(context, sinks_endpoint(address), name, keys)
        yield _answer(socket, name, address, timeout_s)
    finally:
        context.destroy(linger=0)


def _answer(socket: zmq.Socket[bytes], name: str, address: str, timeout_s: float) -> Finding:
    encoder, decoder = Encoder(), Decoder[Message](ToSink)
    begun = time.monotonic()
    while (waited_s := time.monotonic() - begun) < timeout_s:
        send(socket, encoder.encode(Subscribe(sink=name, confirm=False)))
        if not socket.poll(round(1000 * AGAIN_S)):
            continue
        frames = receive(socket)
        message = decoder.decode(frames) if frames is not None else None
        if isinstance(message, Refused):
            return Finding("hub", "fault", f"{address} refuses: {message.reason}", "see its log")
        if isinstance(message, Notice):
            return Finding("hub", "ok", f"{address} answers after {1000 * waited_s:.0f} ms")
    remedy = "is it running, is the port (and the next) open, and are the keys right?"
    return Finding("hub", "fault", f"{address} does not answer within {timeout_s:g} s", remedy)
