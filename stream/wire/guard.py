"""Decides who may connect to a hub with keys, while it runs.

libzmq asks about each client key (ZAP, ZeroMQ RFC 27). The hub's loop answers from its directory of
keys, which is read again every second: a new NAME.key admits, a removed one no longer does. Each
message then carries the public key of its sender, so that the hub knows who sent it.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from abhinaya.stream.errors import NetworkError
from abhinaya.stream.log import Throttle
from abhinaya.stream.wire.keys import HUB, ROLES, Key, check_directory, read_public

_LOG = logging.getLogger("abhinaya.hub")

LOOK_EVERY_S: Final = 1.0

REFUSED_KEY: Final = "a connection with a key that is not admitted"
REFUSED_HANDSHAKE: Final = {
    int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC): "a connection with a wrong hub key",
    int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH): "a connection without keys",
}
_OTHER_HANDSHAKE: Final = "a connection that is not ZeroMQ with CURVE"

_Files = dict[Path, tuple[int, ...]]
"""Facts of each file that change with its content or mode."""


class Admissions:
    """The client keys in the hub's directory.

    A change counts when two looks in a row have seen it, so that a file is not read while somebody
    writes it. A damaged file admits nobody, and keeps nobody else out.

    Raises:
        NetworkError: the directory, or a key in it, is damaged or can be changed by others.

    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        check_directory(directory)
        self._read = self._look()
        self._seen = self._read.copy()
        self._keys: dict[Path, Key] = {}
        for path in self._read:
            self._keys[path] = read_public(path, "have its client send it again, or remove it")
        self._next_look = 0.0
        self._throttle = Throttle()
        self._index()

    def get(self, public: str) -> Key | None:
        """Return the client with a public key; None if the key is not admitted."""
        return self._by_public.get(public)

    def look(self, now: float) -> bool:
        """Read the directory again if it is time; return whether the keys have changed."""
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_EVERY_S
        try:
            files = self._look()
        except FileNotFoundError:
            files = {}
        except OSError as error:
            # no descriptor is left, or the storage is away: this says nothing about the keys
            if (note := self._throttle.note(now, "")) is not None:
                _LOG.error("%s: %s; its keys stay admitted%s", self._directory, error, note)
            return False
        paths = (files | self._read).keys()
        settled = {path for path in paths if files.get(path) == self._seen.get(path)}
        changed = sorted(path for path in settled if files.get(path) != self._read.get(path))
        self._seen = files
        for path in changed:
            self._keys.pop(path, None)
            self._read.pop(path, None)
            if path not in files:
                _LOG.warning("%s was removed: it no longer admits its client", path)
                continue
            self._read[path] = files[path]
            try:
                check_directory(self._directory)
                self._keys[path] = read_public(path, "have its client send it again")
            except NetworkError as error:
                _LOG.error("this key admits nobody: %s", error)
        if changed:
            self._index()
        return bool(changed)

    def _look(self) -> _Files:
        with os.scandir(self._directory) as entries:
            paths = sorted(Path(e) for e in entries if e.name.endswith(".key"))
        return {path: facts for path in paths if path.stem != HUB and (facts := _facts(path))}

    def _index(self) -> None:
        self._by_public: dict[str, Key] = {}
        for path, key in self._keys.items():
            known = self._by_public.setdefault(key.public, key)
            if known is not key:
                _LOG.warning("%s is ignored: %s.key is the same key", path, known.name)
            elif key.role not in ROLES:
                remedy = f"`abhinaya keys {self._directory} {key.name} --role {'|'.join(ROLES)}`"
                _LOG.warning("%s gives no rights: its role is %r; %s", path, key.role[:20], remedy)


class Guard:
    """Answers libzmq's questions about client keys; `serve` must be called often."""

    def __init__(self, context: zmq.Context[Any], directory: Path) -> None:
        self.admissions = Admissions(directory)
        self._directory = directory
        self._zap: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._zap.bind("inproc://zeromq.zap.01")
        self._monitors: list[zmq.Socket[bytes]] = []
        self._throttle = Throttle()

    @property
    def sockets(self) -> Sequence[zmq.Socket[bytes]]:
        """The sockets whose input `serve` reads."""
        return (self._zap, *self._monitors)

    def watch(self, socket: zmq.Socket[bytes]) -> None:
        """Notice failed handshakes of a socket, which never get as far as a key."""
        self._monitors.append(socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL))

    def serve(self, now: float) -> Iterator[str]:
        """Answer all questions; yield the reason of each refusal."""
        while self._zap.poll(0):
            _, request, _, address, _, _, key = self._zap.recv_multipart()
            public = z85.encode(key)
            admitted = self.admissions.get(public.decode()) is not None
            answer = [b"200", b"", public] if admitted else [b"400", b"unknown key", b""]
            self._zap.send_multipart([b"1.0", request, *answer, b""])
            if not admitted:
                yield REFUSED_KEY
                self._log(now, address.decode("ascii", "replace"), public.decode())
        for monitor in self._monitors:
            while monitor.poll(0):
                code = int(parse_monitor_message(monitor.recv_multipart())["value"])
                yield (reason := REFUSED_HANDSHAKE.get(code, _OTHER_HANDSHAKE))
                if (note := self._throttle.note(now, reason)) is not None:
                    _LOG.warning("refused %s%s", reason, note)

    def _log(self, now: float, address: str, public: str) -> None:
        if (note := self._throttle.note(now, address)) is not None:
            text = "refused %s from %s: no file in %s has its key %s; to admit it, copy its .key%s"
            _LOG.warning(text, "a connection", address, self._directory, public, note)

    def close(self) -> None:
        """Close all sockets."""
        for socket in self.sockets:
            socket.close(linger=0)


def _facts(path: Path) -> tuple[int, ...]:
    try:
        facts = path.stat()
    except OSError as error:
        # removed since it was listed, or a link that leads nowhere
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            return ()
        raise
    return facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_mode
