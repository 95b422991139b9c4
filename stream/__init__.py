"""The emotion monitor: audio in, voted labels out.

Python programs use `Monitor`; see `abhinaya.stream.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abhinaya.stream.api import Monitor

    __version__: str

__all__ = ["Monitor", "__version__"]


def __getattr__(name: str) -> Any:
    # imported on first use, so that processes without models start fast
    if name == "Monitor":
        from abhinaya.stream.api import Monitor

        return Monitor
    if name == "__version__":
        from abhinaya.models.command_line import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
