"""The monitor: audio comes in, segments travel, voted labels come out."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """Return `__version__`, which is looked up only when it is asked for."""
    if name == "__version__":
        from abhinaya.models.command_line import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
