"""Plug-ins of other packages: voters, transcribers, sources and sinks, found as entry points.

    [project.entry-points."abhinaya.voters"]        docs/plugins.md has a whole example
    loudness = "acme.voter:Loudness"

An entry point is loaded when its name is used, so a broken package affects only its own users.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal

from abhinaya.models.errors import OptionsError

Group = Literal["voters", "transcribers", "sources", "sinks"]
PREFIX: Final = "abhinaya"


def plugins(group: Group) -> Mapping[str, EntryPoint]:
    """Return the installed plug-ins of a group, by name."""
    return {entry.name: entry for entry in entry_points(group=f"{PREFIX}.{group}")}


def load_plugin(group: Group, name: str) -> Any:
    """Return the object that a plug-in's entry point names.

    Raises:
        OptionsError: the plug-in's package cannot be imported.

    """
    entry = plugins(group)[name]
    try:
        return entry.load()
    except Exception as error:  # the package's code may raise anything
        package = entry.dist.name if entry.dist else entry.module
        raise OptionsError(
            f"plug-in {name!r} of {package}",
            f"it cannot be imported ({entry.value}): {type(error).__name__}: {error}",
            f"mend or uninstall {package}",
        ) from error
