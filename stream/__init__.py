"""The monitor: audio comes in, segments travel, voted labels come out.

`Monitor` is all that a Python program needs; see `abhinaya.stream.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abhinaya.stream.api import Monitor

__all__ = ["Monitor"]


def __getattr__(name: str) -> Any:
    # loaded when asked for: a process of the monitor that needs no models stays light
    if name == "Monitor":
        from abhinaya.stream.api import Monitor

        return Monitor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
