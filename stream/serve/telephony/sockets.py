"""What all lines share: how a sender is refused, and reading a WebSocket within limits."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.websockets import WebSocket

from abhinaya.models.text import one_line
from abhinaya.stream.errors import WireError

IDLE_S: Final = 10.0
"""A line without a message for so long is closed."""
LARGEST: Final = 1 << 16
"""Bytes of a message."""

NORMAL: Final = 1000
UNSUPPORTED: Final = 1003
"""Text where audio is due, or the other way round."""
INVALID: Final = 1007
"""The message cannot be decoded."""
POLICY: Final = 1008
"""A message that is not allowed here."""
TOO_LARGE: Final = 1009
SILENT: Final = 1011
"""No message for too long; Deepgram uses this code with NET-0001."""
BUSY: Final = 1013
"""No room for another call: try again later."""

_LONGEST_REASON: Final = 123
"""Bytes of the reason in a close frame (RFC 6455, 5.5)."""


class LineError(WireError):
    """A sender broke the rules of its line; the line is closed with this code and reason."""

    def __init__(self, code: int, subject: str, reason: str, remedy: str) -> None:
        super().__init__(subject, reason, remedy)
        self.code = code

    @property
    def close_reason(self) -> str:
        """The text of the close frame."""
        return one_line(str(self)).encode()[:_LONGEST_REASON].decode(errors="ignore")


async def receive(
    websocket: WebSocket, idle_s: float = IDLE_S, largest: int = LARGEST
) -> str | bytes | None:
    """Return the next message; None: the sender has closed the connection.

    Raises:
        LineError: no message came in time, or it is too large.

    """
    try:
        async with asyncio.timeout(idle_s):
            message = await websocket.receive()
    except TimeoutError:
        reason = f"no audio and no message for {idle_s:g} s"
        raise LineError(SILENT, "NET-0001", reason, "send audio, or KeepAlive messages") from None
    if message["type"] == "websocket.disconnect":
        return None
    data: str | bytes | None = message.get("bytes")
    data = message.get("text") or "" if data is None else data
    if len(data) > largest:
        reason = f"{len(data)} bytes, but at most {largest} are allowed"
        raise LineError(TOO_LARGE, "message", reason, "send shorter pieces")
    return data
