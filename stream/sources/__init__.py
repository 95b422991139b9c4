"""Audio sources: files, network addresses, standard input, the microphone, arrays."""

from __future__ import annotations

from abhinaya.stream.sources.base import AudioChunk, InputConfig, Opened, Warn, channel_names
from abhinaya.stream.sources.opening import open_source

__all__ = ["AudioChunk", "InputConfig", "Opened", "Warn", "channel_names", "open_source"]
