"""Messages to frames and back: a msgpack header, then one raw frame for each payload.

Pure: no sockets. Input is not trusted: a malformed message raises `WireError`, and decoding
allocates no more memory than the received frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np

from abhinaya.models.text import all_encodable
from abhinaya.stream.errors import WireError
from abhinaya.stream.wire.messages import DTYPES, Message, Payload

M = TypeVar("M")

MAX_HEADER_BYTES: Final = 256 * 1024
MAX_WORKER_HEADER_BYTES: Final = 128 * 1024
"""Limit for messages from fronts and nodes: smaller, because a verdict repeats several of them."""
MAX_FRAME_BYTES: Final = 1024 * 1024
"""10 s of float32 samples are 640,000 bytes."""
MAX_FRAMES: Final = 2
"""The header and the samples."""
MAX_STATES_BYTES: Final = 1024 * 1024
"""Header limit for messages from the hub: they may carry the states of several services."""


class Encoder:
    """Turns messages into frames. Not thread-safe: use one per thread."""

    def __init__(self) -> None:
        self._frames: list[Any] = []
        self._header = msgspec.msgpack.Encoder(enc_hook=self._put)

    def encode(self, message: Message) -> list[Any]:
        """Return [header, payload, ...]; payload buffers are not copied."""
        self._frames = []
        try:
            header = self._header.encode(message)
        except UnicodeEncodeError:  # a reason may quote a file name that is not UTF-8
            self._frames = []
            header = self._header.encode(all_encodable(message))
        return [header, *self._frames]

    def _put(self, value: Any) -> Any:
        if not isinstance(value, Payload):
            raise TypeError(f"a message cannot carry a {type(value).__name__}")
        self._frames.append(value.buffer)
        return (len(self._frames), value.dtype, value.shape)


class Decoder(Generic[M]):
    """Turns frames into messages of a union of types. Not thread-safe: use one per thread.

    Args:
        kinds: union of the allowed message types.
        max_header_bytes: limit of the header. The hub receives less than it may send, because it
            adds fields when it passes data on.

    """

    def __init__(self, kinds: Any, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        self._max_header_bytes = max_header_bytes
        self._frames: Sequence[Any] = ()
        self._used = 0
        self._header: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(
            kinds, dec_hook=self._take
        )

    def decode(self, frames: Sequence[Any]) -> M:
        """Return the message; its payloads are views of `frames`.

        Raises:
            WireError: the frames are malformed or too large, or the message type is not allowed.

        """
        if not 1 <= len(frames) <= MAX_FRAMES:
            raise WireError("message", f"has {len(frames)} frames, not 1 to {MAX_FRAMES}")
        header = memoryview(frames[0])
        if header.nbytes > self._max_header_bytes:
            raise WireError("message", f"header of {header.nbytes} bytes is over the limit")
        for frame in frames[1:]:
            if memoryview(frame).nbytes > MAX_FRAME_BYTES:
                raise WireError("message", "payload is over the limit")
        self._frames, self._used = frames, 0
        try:
            message = self._header.decode(header)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # the text of this error may quote the input: keep it short
            raise WireError("message", f"malformed ({str(error)[:200]})") from error
        if self._used != len(frames) - 1:
            raise WireError("message", f"has {len(frames) - 1} payloads, but names {self._used}")
        return message

    def _take(self, kind: type, value: Any) -> Payload:
        if kind is not Payload:
            raise WireError("message", f"{kind.__name__} is not a type that messages may carry")
        index, dtype, shape = self._reference(value)
        frame = self._frames[index]
        expected = math.prod(shape) * np.dtype(dtype).itemsize
        if memoryview(frame).nbytes != expected:
            raise WireError(
                "message", f"payload has {memoryview(frame).nbytes} bytes, {expected} announced"
            )
        self._used += 1
        return Payload(dtype, shape, frame)

    def _reference(self, value: Any) -> tuple[int, str, tuple[int, ...]]:
        match value:
            case [int(index), str(dtype), [*shape]]:
                pass
            case _:
                raise WireError("message", "payload is not [index, dtype, shape]")
        # payloads are in the order of their frames, and each frame is used once
        if index != self._used + 1 or index >= len(self._frames):
            raise WireError("message", f"payload names frame {index}")
        if dtype not in DTYPES:
            raise WireError("message", f"payload of type {dtype[:20]!r}, not one of {DTYPES}")
        if len(shape) > 2 or not all(isinstance(n, int) and 0 <= n < 2**31 for n in shape):
            raise WireError("message", "payload of impossible shape")
        return index, dtype, tuple(shape)
