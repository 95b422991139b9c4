"""What all lines share: how a sender is refused, and reading a WebSocket within limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketState

from abhinaya.models.text import one_line
from abhinaya.stream.errors import WireError
from abhinaya.stream.serve.calls import CallError

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

CALL_CODES: Final = {"too many": BUSY, "unavailable": BUSY}
"""Code of a `CallError` -> ours; POLICY for all others."""
GONE: Final = (NORMAL, 1001, 1005)
"""Codes with which a sender ends a connection on purpose."""
LOST: Final = 1006
"""There was no close frame."""
RECHECK_S: Final = 15.0
"""How long a token that was revoked may go on."""
_LONGEST_REASON: Final = 123
"""Bytes of the reason in a close frame (RFC 6455, 5.5)."""


class LineError(WireError):
    """A sender broke the rules of its line; the line is closed with this code and reason."""

    def __init__(self, code: int, subject: str, reason: str, remedy: str) -> None:
        super().__init__(subject, reason, remedy)
        self.code = code


def closing(error: LineError | CallError) -> tuple[int, str]:
    """Return the code and the reason with which an error closes a WebSocket."""
    code = error.code if isinstance(error, LineError) else CALL_CODES.get(error.code, POLICY)
    return code, one_line(str(error)).encode()[:_LONGEST_REASON].decode(errors="ignore")


class Inbox:
    """Reads the messages of a WebSocket, within its block and in one task.

    One timer watches all messages: a timeout for each would be an eighth of the cost of a call.

    Args:
        websocket: the connection.
        holds: whether who sends is still allowed to.
        idle_s: a connection without a message for so long is refused.

    """

    def __init__(self, websocket: WebSocket, holds: Callable[[], bool], idle_s: float) -> None:
        self._websocket, self._holds, self._idle_s = websocket, holds, idle_s
        self._since = self._checked = time.monotonic()
        self._waits = self._late = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None

    def __enter__(self) -> Inbox:
        self._task = asyncio.current_task()
        self._watch(self._idle_s)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()

    def _watch(self, wait_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        left_s = self._since + self._idle_s - time.monotonic()
        if not self._waits or left_s > 0:
            self._watch(left_s if self._waits else self._idle_s)
        elif self._task:
            self._late = True
            self._task.cancel()

    async def next(self) -> str | bytes | None:
        """Return the next message; None: the sender has closed the connection.

        Raises:
            LineError: no message came in time, it is too large, the connection broke off, or the
                sender's token was revoked.

        """
        self._since, self._waits = time.monotonic(), True
        try:
            message = await self._websocket.receive()
        except asyncio.CancelledError:
            if not (self._late and self._task):
                raise
            self._task.uncancel()
            reason = f"no audio and no message for {self._idle_s:g} s"
            raise LineError(SILENT, "NET-0001", reason, "send audio or KeepAlive") from None
        finally:
            self._waits = False
        if message["type"] == "websocket.disconnect":
            # uvicorn gives a reason, perhaps an empty one, if there was a close frame
            code = message.get("code", LOST) if "reason" in message else LOST
            if code in GONE:
                return None
            raise LineError(code, "connection", f"broke off with code {code}", "connect again")
        if self._since > self._checked + RECHECK_S:
            self._checked = self._since
            if not self._holds():
                raise LineError(POLICY, "token", "was revoked or has expired", "get a new one")
        data: str | bytes | None = message.get("bytes")
        data = message.get("text") or "" if data is None else data
        if len(data) > LARGEST:
            reason = f"{len(data)} bytes, but at most {LARGEST} are allowed"
            raise LineError(TOO_LARGE, "message", reason, "send shorter pieces")
        return data


async def close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close a WebSocket, unless the other side has gone."""
    if websocket.client_state is not WebSocketState.DISCONNECTED:
        await websocket.close(code, reason)
