"""Messages as telephone providers send them, and audio in their encodings."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from abhinaya.stream.sources.base import SampleFormat
from abhinaya.stream.sources.pcm import to_float

Message = dict[str, Any]

FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
TELNYX_FORMAT = {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}


def frame(track: int, number: int) -> bytes:
    return bytes([track * 100 + number % 100]) * 160


def twilio_start(call: str = "CA1", **changes: Any) -> Message:
    start = {"callSid": call, "tracks": ["inbound", "outbound"], "mediaFormat": FORMAT}
    own = {"customParameters": {"from": "+15550100", "outbound": "Asha"}}
    return {"event": "start", "sequenceNumber": "1", "start": start | own | changes}


def telnyx_start(call: str = "v2:T1", **changes: Any) -> Message:
    start = {"call_control_id": call, "media_format": TELNYX_FORMAT} | changes
    return {"event": "start", "sequence_number": "1", "start": start, "stream_id": "s"}


def media(side: int, number: int, /, **changes: Any) -> Message:
    """The message `number` (from 0) of a track; the provider's clock began 57 ms before it."""
    body = {
        "track": ("inbound", "outbound")[side],
        "chunk": str(number + 1),
        "timestamp": str(57 + number * 20),
        "payload": base64.b64encode(frame(side, number)).decode(),
    }
    return {"event": "media", "media": body | changes}


def text(*messages: Message) -> list[str]:
    return [json.dumps(message) for message in messages]


def written(samples: np.ndarray, kind: SampleFormat) -> bytes:
    if kind == "f32le":
        return samples.astype("<f4").tobytes()
    if kind == "s16le":
        return (samples * 32_767).astype("<i2").tobytes()
    values = to_float(bytes(range(256)), kind)
    order = np.argsort(values)
    return order[np.searchsorted(values[order], samples).clip(0, 255)].astype(np.uint8).tobytes()
