"""ZeroMQ sockets: endpoints and limits. No decisions.

On one machine the sockets are files in a private directory. Over TCP both sides authenticate with
CURVE keys: a hub accepts the client keys in its directory, a client only its copy of the hub's key,
or the key in a map of cells.
Without keys, only the loopback interface can be used.
"""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import os
import resource
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import zmq

from abhinaya.models.text import encodable
from abhinaya.stream.errors import NetworkError, WireError
from abhinaya.stream.wire.client import Client
from abhinaya.stream.wire.codec import Decoder
from abhinaya.stream.wire.guard import Guard
from abhinaya.stream.wire.keys import HUB, LOCAL, Key, Keys, read_pair, read_server

M = TypeVar("M")

_LOG = logging.getLogger("abhinaya.wire")

HARD_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""Above this message size ZeroMQ disconnects the peer; `codec.py` has lower limits with reasons."""

HEARTBEAT_MS: Final = 1_000
DEAD_MS: Final = 4_000
"""A TCP connection without a sign of life for so long is closed: a cut cable closes nothing, and
what both sides queue for it meanwhile would arrive all at once, and late."""

HANDSHAKE_MS: Final = 10_000
"""A connection that has not introduced itself by then is closed: it holds a file descriptor."""

MAX_PATH: Final = 103
"""Bytes that the path of a socket may have: Linux takes 107, macOS 103."""

MAX_FILES: Final = 8192
"""File descriptors, and so connections, of a hub on TCP."""

MAX_RECEIVED: Final = 256
"""Maximum number of messages from one peer that wait at a hub; further ones wait at the peer."""

# pyzmq's flags are enums, slow to combine: a hub does that ten thousand times a second
_NOW: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK) | int(zmq.SNDMORE)


def workers_endpoint(base: str) -> str:
    """Return the endpoint of the hub at `base` for fronts and nodes."""
    return f"{base}/hub" if base.startswith("ipc://") else base


def sinks_endpoint(base: str) -> str:
    """Return the endpoint of the hub at `base` for sinks: another socket file, or the next port."""
    if base.startswith("ipc://"):
        return f"{base}/sinks"
    head, _, port = base.rpartition(":")
    return f"{head}:{int(port) + 1}"


def check_endpoint(base: str, keys: Keys | None) -> None:
    """Refuse an endpoint that is malformed, or open to the network without keys.

    Raises:
        NetworkError: the endpoint is malformed, or needs keys.

    """
    if base.startswith("ipc://"):
        directory = Path(base.removeprefix("ipc://"))
        if base in ("ipc://", "ipc:///") or base.startswith("ipc://@"):  # @: not a file, for all
            raise NetworkError(base, "is not an endpoint", "write ipc://DIRECTORY")
        if len(os.fsencode(directory / "sinks")) > MAX_PATH:
            raise NetworkError(base, "is longer than a socket's path may be", "use a shorter one")
        return
    parts = urlsplit("")
    try:
        parts = urlsplit(base)
        port, host = parts.port, parts.hostname
    except ValueError:
        port = host = None
    extra = parts.path or parts.query or parts.fragment or "@" in parts.netloc or "#" in base
    if parts.scheme != "tcp" or not host or not port or port > 65534 or extra:
        raise NetworkError(base, "is not an endpoint", "write tcp://HOST:PORT or ipc://DIRECTORY")
    if keys is None and not is_loopback(host):
        raise NetworkError(
            base,
            "is open to the network, but has no keys",
            "make keys with `abhinaya keys` and pass --keys, or use 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Lock:
    """Lock of an `ipc://` endpoint: libzmq would silently replace the socket of another hub."""

    def __init__(self, base: str) -> None:
        self._file: Any = None
        if base.startswith("ipc://"):
            directory = Path(base.removeprefix("ipc://"))
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                if directory.stat().st_mode & 0o077:
                    raise NetworkError(
                        base, "is open to others", f"`chmod 700 {directory}`, or use another"
                    )
                self._file = (directory / "lock").open("w")
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise NetworkError(
                    base, "has a hub already", "stop that one, or choose another endpoint"
                ) from error
            except OSError as error:
                raise NetworkError(base, f"cannot be used: {error.strerror}") from error

    def release(self) -> None:
        """Release the endpoint for another hub."""
        if self._file is not None:
            self._file.close()


class Hub:
    """The two ROUTER sockets of a hub.

    Raises:
        NetworkError: the endpoint is taken, malformed, or open to the network without keys.

    """

    def __init__(self, context: zmq.Context[Any], base: str, keys: Keys | None = None) -> None:
        check_endpoint(base, keys)
        self._lock = Lock(base)
        self._open: list[zmq.Socket[bytes]] = []
        self.guard: Guard | None = None
        try:
            self.guard = Guard(context, keys.directory) if keys else None
            if base.startswith("tcp"):
                _allow_connections()
            self.workers = self._bind(context, workers_endpoint(base), keys)
            self.sinks = self._bind(context, sinks_endpoint(base), keys)
        except NetworkError:
            self.close()
            raise

    def _bind(
        self, context: zmq.Context[Any], endpoint: str, keys: Keys | None
    ) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._open.append(socket)
        _limit(socket, endpoint)
        socket.rcvhwm = MAX_RECEIVED
        socket.router_mandatory = True  # an unreachable peer is an error, not a silent drop
        socket.router_handover = True  # a peer that reconnects under its name takes over
        socket.handshake_ivl = HANDSHAKE_MS
        if keys is not None and self.guard is not None:
            pair = read_pair(Keys(keys.directory, HUB))
            socket.curve_publickey, socket.curve_secretkey = pair
            socket.curve_server = True
            socket.zap_domain, socket.zap_enforce_domain = b"hub", 1  # no answer, no admission
            self.guard.watch(socket)
        try:
            # a folder may have a name that is not UTF-8
            socket.bind(os.fsencode(endpoint))  # type: ignore[arg-type]
        except zmq.ZMQError as error:
            raise NetworkError(
                endpoint, f"cannot be bound: {error.strerror}", "choose another endpoint"
            ) from error
        return socket

    def key_of(self, frame: zmq.Frame) -> Key | None:
        """Return the client that sent a message; None if its key is no longer admitted."""
        if self.guard is None:
            return LOCAL
        return self.guard.admissions.get(str(frame.get("User-Id")))

    def close(self) -> None:
        """Close all sockets and release the endpoint."""
        for socket in self._open:
            socket.close()
        if self.guard is not None:
            self.guard.close()
        self._lock.release()


def connect(
    context: zmq.Context[Any], endpoint: str, identity: str, keys: Keys | None = None
) -> Client:
    """Open the connection of a front, node or sink to a hub, which may start later.

    Its identity begins with `identity` and cannot be guessed: a peer cannot take over another's.
    """
    check_endpoint(endpoint.rpartition("/")[0] if endpoint.startswith("ipc") else endpoint, keys)
    socket: Client = context.socket(zmq.DEALER, socket_class=Client)
    _limit(socket, endpoint)
    socket.identity = encodable(identity).encode()[:200] + b"-" + secrets.token_hex(8).encode()
    socket.immediate = True
    socket.reconnect_ivl = 50
    socket.reconnect_ivl_max = 1000
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey = read_pair(keys)
        socket.curve_serverkey = read_server(keys)
        socket.from_map = bool(keys.server)
    socket.watch()
    try:
        socket.connect(os.fsencode(endpoint))  # type: ignore[arg-type]
    except zmq.ZMQError as error:
        socket.close()
        raise NetworkError(endpoint, f"cannot be reached: {error.strerror}") from error
    return socket


def check_client(endpoint: str, keys: Keys | None) -> None:
    """Check an endpoint, and the key files of a client, without connecting.

    Raises:
        NetworkError: the endpoint is malformed, or a key is missing or damaged.

    """
    check_endpoint(endpoint, keys)
    if keys is not None:
        read_pair(keys)
        read_server(keys)


def send(socket: zmq.Socket[bytes], frames: Sequence[Any], identity: bytes | None = None) -> bool:
    """Send without waiting; return False if the peer is unreachable or its queue is full."""
    last = len(frames) - 1
    try:
        if identity is not None:
            socket.send(identity, _MORE)
        for i, frame in enumerate(frames):
            # copying is faster for short frames; long frames are shared with the socket
            flags = _MORE if i < last else _NOW
            socket.send(frame, flags, copy=memoryview(frame).nbytes < 65536)
    except zmq.ZMQError as error:
        if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            return False
        raise NetworkError("socket", f"cannot send: {error.strerror}") from error
    return True


def receive(socket: zmq.Socket[bytes]) -> list[zmq.Frame] | None:
    """Return the frames of the next message; None if none has arrived."""
    try:
        frame = socket.recv(_NOW, copy=False)
        frames = [frame]
        while frame.more:
            frame = socket.recv(_NOW, copy=False)
            frames.append(frame)
        return frames
    except zmq.Again:
        return None
    except zmq.ZMQError as error:
        raise NetworkError("socket", f"cannot receive: {error.strerror}") from error


def messages(socket: zmq.Socket[bytes], decoder: Decoder[M]) -> Iterator[M]:
    """Yield the messages that have arrived; one that cannot be used is logged and dropped."""
    while (frames := receive(socket)) is not None:
        try:
            message = decoder.decode(frames)
        except WireError as error:
            _LOG.warning("a message was dropped: %s", error)
            continue
        yield message


def _limit(socket: zmq.Socket[bytes], endpoint: str) -> None:
    socket.linger = 0
    socket.maxmsgsize = HARD_LIMIT_BYTES
    socket.sndhwm = 10_000  # only a last limit: credits bound the messages in flight
    socket.rcvhwm = 10_000
    if endpoint.startswith("tcp:"):  # a process of this machine is watched by its supervisor
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = socket.heartbeat_ttl = DEAD_MS
        socket.connect_timeout = DEAD_MS


def _allow_connections() -> None:
    """Raise the soft limit of file descriptors: each connection needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
