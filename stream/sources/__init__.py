"""Audio sources: files, network addresses, standard input, the microphone, arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abhinaya.stream.sources.base import AudioChunk, InputConfig, Opened, Warn, channel_names

if TYPE_CHECKING:
    from abhinaya.stream.sources.opening import open_source

__all__ = ["AudioChunk", "InputConfig", "Opened", "Warn", "channel_names", "open_source"]


def __getattr__(name: str) -> Any:
    """Import `open_source` when it is used: most processes open nothing."""
    if name != "open_source":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from abhinaya.stream.sources.opening import open_source

    return open_source
