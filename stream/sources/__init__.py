"""Where audio comes from: files, standard input, the microphone."""

from __future__ import annotations

from abhinaya.stream.sources.base import AudioChunk, InputConfig, Source, Warn, channel_names
from abhinaya.stream.sources.opening import open_source

__all__ = ["AudioChunk", "InputConfig", "Source", "Warn", "channel_names", "open_source"]
