"""The socket of a client of the hub: whether its connection stands, and if not, why not."""

from __future__ import annotations

import itertools
import logging
import math
import time
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from abhinaya.stream.errors import NetworkError

_LOG = logging.getLogger("abhinaya.client")

EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

DIAL_AGAIN_S: Final = 1.0

_NO_HUB: Final = ("", "start the hub, and check address and firewall")
_FAULTS: Final = {
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): (
        "it does not admit this key",
        "copy NAME.key into the hub's directory of keys; its log names the key",
    ),
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): (
        "hub.key is probably not its key",
        "copy hub.key from the hub's machine again",
    ),
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): (
        "only one of the two sides uses keys, or it is not a hub",
        "pass --keys to both sides or to neither, and check the address",
    ),
}


_NOT_OF_MAP: Final = (
    "its key is not the one in the map of cells",
    "correct the map, or give the hub its own keys again",
)

_NUMBERS: Final = itertools.count()


class Client(zmq.Socket[bytes]):
    """The DEALER socket of a front, node or sink; `sockets.connect` opens it.

    It queues nothing while disconnected. What was on its way when a connection broke is lost, in
    both directions.
    """

    made = False
    """Whether the hub has ever accepted a connection."""
    cause, remedy = _NO_HUB
    """Why the hub does not answer, if it is known, and what to do."""
    from_map = False
    """Whether the expected key is from a map of cells."""
    _dial_at = math.inf

    def watch(self) -> zmq.Socket[bytes]:
        """Return the socket that is readable after a handshake, for a poller; then ask `is_new`."""
        # pyzmq's own name is made of the descriptor, which a socket that is still closing may have
        return self.get_monitor_socket(EVENTS, f"inproc://watch-{next(_NUMBERS)}")

    def is_new(self) -> bool:
        """Whether a connection was made since the last call; call it often.

        After a refusal it dials again, which libzmq does not do: the hub may admit the key by now.
        """
        new, now = False, time.monotonic()
        while self.watch().poll(0):
            event = int(parse_monitor_message(self.watch().recv_multipart())["event"])
            new = event not in _FAULTS
            fault = _FAULTS.get(event, _NO_HUB)
            if self.from_map and event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                fault = _NOT_OF_MAP
            # a connection that is cut ends like one with a wrong key
            cut = event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and (self.made or not self._keys)
            before, (self.cause, self.remedy) = self.cause, _NO_HUB if cut else fault
            if self.cause not in ("", before):
                _LOG.warning("%s; trying again", self.error())
            if event in (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
                self._dial_at = min(self._dial_at, now + DIAL_AGAIN_S)
        if new:
            self.made, self._dial_at = True, math.inf
            self.get(zmq.EVENTS)  # else the next `send` might not know the connection yet
        if now >= self._dial_at:
            self._dial_at = math.inf
            endpoint = self._endpoint()
            self.disconnect(endpoint)
            self.connect(endpoint)
        return new

    def move(self, endpoint: str, server: str = "") -> None:
        """Connect to the hub at another endpoint instead; `server` is its key if it has another."""
        self.disconnect(self._endpoint())
        if server:
            self.curve_serverkey = server.encode()
        self.made, self._dial_at = False, math.inf
        self.connect(endpoint)

    def error(self, endpoint: str = "") -> NetworkError:
        """Return why the hub does not answer, and what to do."""
        endpoint = endpoint or self._endpoint()
        reason = f"the hub does not answer{self.cause and ': '}{self.cause}"
        return NetworkError(endpoint, reason, self.remedy)

    @property
    def _keys(self) -> bool:
        return int(self.get(zmq.MECHANISM)) == zmq.CURVE

    def _endpoint(self) -> str:
        return bytes(self.get(zmq.LAST_ENDPOINT)).decode()

    def close(self, linger: int | None = None) -> None:
        """Close the connection."""
        watch = self._monitor_socket
        if watch is not None and not self.closed:
            self.disable_monitor()
            watch.close(linger=0)
        super().close(linger)
