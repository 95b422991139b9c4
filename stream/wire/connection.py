"""The connection of a client to its hub: whether it stands, and if not, why not."""

from __future__ import annotations

import math
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from abhinaya.stream.errors import NetworkError

EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

DIAL_AGAIN_S: Final = 1.0

_NO_HUB: Final = ("the hub does not answer", "start the hub, and check address and firewall")
_FAULTS: Final = {
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): (
        "the hub does not answer: it does not admit this key",
        "copy NAME.key into the hub's directory of keys; its log names the key",
    ),
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): (
        "the hub does not answer: hub.key is probably not its key",
        "copy hub.key from the hub's machine again",
    ),
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): (
        "the hub does not answer: only one of the two sides uses keys, or it is not a hub",
        "pass --keys to both sides or to neither, and check the address",
    ),
}


class Connection:
    """Follows the handshakes of a socket that `sockets.connect` made."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._monitor = socket.get_monitor_socket()
        self._endpoint = socket.last_endpoint.decode()
        self._dial_at = math.inf
        self._fault = _NO_HUB
        self.made = False
        """Whether the hub has ever accepted the connection."""

    def check(self, now: float) -> None:
        """Read the news; after a refusal, dial again: libzmq does not. Call it often."""
        while self._monitor.poll(0):
            event = int(parse_monitor_message(self._monitor.recv_multipart())["event"])
            if event in _FAULTS:
                self._fault = _FAULTS[event]
                if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                    self._dial_at = min(self._dial_at, now + DIAL_AGAIN_S)
            else:
                self.made, self._fault, self._dial_at = True, _NO_HUB, math.inf
        if now >= self._dial_at:
            self._dial_at = math.inf
            self._socket.disconnect(self._endpoint)
            self._socket.connect(self._endpoint)

    @property
    def refused(self) -> bool:
        """Whether a hub is at the endpoint, but refuses the handshake."""
        return self._fault is not _NO_HUB

    def error(self) -> NetworkError:
        """Return why the hub does not answer, and what to do."""
        return NetworkError(self._endpoint, *self._fault)
