"""ZeroMQ sockets: endpoints, keys and limits. No decisions.

On one machine the sockets are files in a private directory. Over TCP both sides authenticate with
CURVE keys: a hub accepts the client keys in its directory, a client only its copy of the hub's key.
Without keys, only the loopback interface can be used.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import zmq
import zmq.auth
from zmq.utils.z85 import Z85CHARS

from abhinaya.models.text import encodable
from abhinaya.stream.errors import NetworkError

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

HARD_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""Above this message size ZeroMQ disconnects the peer; `codec.py` has lower limits with reasons."""

# pyzmq's flags are enums, slow to combine: a hub does that ten thousand times a second
_NOW: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK) | int(zmq.SNDMORE)


@dataclass(frozen=True, slots=True)
class Keys:
    """Location of the CURVE keys.

    `directory` has NAME.key (public) and NAME.key_secret (private). The hub's own pair is `hub`;
    each other NAME.key in the hub's directory is a client that may connect.
    """

    directory: Path
    name: str


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
        if len(os.fsencode(directory / "sinks")) > 100:
            raise NetworkError(base, "is longer than a socket's path may be", "use a shorter one")
        return
    parts = urlsplit(base)
    try:
        port, host = parts.port, parts.hostname
    except ValueError:
        port = host = None
    extra = parts.path or parts.query or parts.fragment or "@" in parts.netloc or "#" in base
    if parts.scheme != "tcp" or not host or not port or port > 65534 or extra:
        raise NetworkError(base, "is not an endpoint", "write tcp://HOST:PORT or ipc://DIRECTORY")
    if keys is None and not _is_loopback(host):
        raise NetworkError(
            base,
            "is open to the network, but has no keys",
            "make keys with `abhinaya keys` and pass --keys, or use 127.0.0.1",
        )


def _is_loopback(host: str) -> bool:
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
        self._guard = _guard(context, keys) if keys else None
        self._open: list[zmq.Socket[bytes]] = []
        try:
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
        _limit(socket)
        socket.router_mandatory = True  # an unreachable peer is an error, not a silent drop
        socket.router_handover = True  # a peer that reconnects under its name takes over
        if keys is not None:
            socket.curve_publickey, socket.curve_secretkey = _pair(keys.directory, "hub")
            socket.curve_server = True
        try:
            # a folder may have a name that is not UTF-8
            socket.bind(os.fsencode(endpoint))  # type: ignore[arg-type]
        except zmq.ZMQError as error:
            raise NetworkError(
                endpoint, f"cannot be bound: {error.strerror}", "choose another endpoint"
            ) from error
        return socket

    def close(self) -> None:
        """Close both sockets and release the endpoint."""
        for socket in self._open:
            socket.close()
        if self._guard is not None:
            self._guard.stop()
        self._lock.release()


def connect(
    context: zmq.Context[Any], endpoint: str, identity: str, keys: Keys | None = None
) -> zmq.Socket[bytes]:
    """Open the DEALER socket of a front, node or sink.

    It queues nothing while disconnected: the caller sends again after the hub has answered.
    """
    check_endpoint(endpoint.rpartition("/")[0] if endpoint.startswith("ipc") else endpoint, keys)
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    _limit(socket)
    socket.identity = encodable(identity).encode()
    socket.immediate = True
    socket.reconnect_ivl = 50
    socket.reconnect_ivl_max = 1000
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey = _pair(keys.directory, keys.name)
        socket.curve_serverkey = _public(keys.directory, "hub")
    try:
        socket.connect(os.fsencode(endpoint))  # type: ignore[arg-type]
    except zmq.ZMQError as error:
        raise NetworkError(endpoint, f"cannot be reached: {error.strerror}") from error
    return socket


def check_client(endpoint: str, keys: Keys | None) -> None:
    """Check an endpoint, and the key files of a client, without connecting.

    Raises:
        NetworkError: the endpoint is malformed, or a key is missing or damaged.

    """
    check_endpoint(endpoint, keys)
    if keys is not None:
        _pair(keys.directory, keys.name)
        _public(keys.directory, "hub")


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


def make_keys(directory: Path, name: str) -> None:
    """Write NAME.key and NAME.key_secret (mode 0600) into `directory` (mode 0700).

    Raises:
        NetworkError: the directory cannot be written, or the key pair exists already.

    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (directory / f"{name}.key_secret").exists():
            raise NetworkError(
                str(directory), f"has keys for {name!r} already", "delete them first"
            )
        previous = os.umask(0o077)
        try:
            zmq.auth.create_certificates(directory, name)
        finally:
            os.umask(previous)
    except OSError as error:
        raise NetworkError(str(directory), f"cannot hold keys: {error.strerror}") from error


def _limit(socket: zmq.Socket[bytes]) -> None:
    socket.linger = 0
    socket.maxmsgsize = HARD_LIMIT_BYTES
    socket.sndhwm = 10_000  # only a last limit: credits bound the messages in flight
    socket.rcvhwm = 10_000


def _guard(context: zmq.Context[Any], keys: Keys) -> ThreadAuthenticator:
    from zmq.auth.thread import ThreadAuthenticator  # loads asyncio: import it only with keys

    # one damaged file would lock all clients out, and only the authenticator's log would show it
    for path in sorted(keys.directory.glob("*.key")):
        _public(keys.directory, path.stem, "have its client send it again, or remove it")
    guard = ThreadAuthenticator(context)
    guard.start()
    guard.configure_curve(domain="*", location=str(keys.directory))
    return guard


def _pair(directory: Path, name: str) -> tuple[bytes, bytes]:
    path = directory / f"{name}.key_secret"
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise NetworkError(
            str(path), f"is not a key pair: {error}", "see `abhinaya keys`"
        ) from error
    if secret is None or not (_is_key(public) and _is_key(secret)):
        raise NetworkError(str(path), "holds no secret key", "see `abhinaya keys`")
    return public, secret


def _public(directory: Path, name: str, remedy: str = "copy it from the hub's machine") -> bytes:
    path = directory / f"{name}.key"
    try:
        public, _ = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise NetworkError(str(path), f"is not a public key: {error}", remedy) from error
    if not _is_key(public):
        raise NetworkError(str(path), "is not a public key", remedy)
    return public


def _is_key(key: bytes) -> bool:
    return len(key) == 40 and set(key) <= set(Z85CHARS)
