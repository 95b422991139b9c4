"""The work of a front, as the main process writes it."""

from __future__ import annotations

from typing import Final

import msgspec

from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.messages import Standing

INTERRUPTED: Final = "interrupted"
"""Why a stream ends whose run was asked to stop."""


class AssignedInput(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a front."""

    name: str
    """Name of the stream; for split channels the first part of the streams' names."""
    config: InputConfig
    standings: tuple[Standing, ...] = ()
    """How far the streams are already written, if the front replaces one that died."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one front. The main process writes it to a file.

    Where its hub is stands in another one (`child.hub_of`), since that may change at any time.
    """

    front: str
    keys: tuple[str, str] | None = None
    """Directory and name of the CURVE keys, for a hub on another machine."""
    cell: str = ""
    """Of a push front: the name of its cell. The gateway sends it the calls of this cell."""
    run: str
    """Id of the run: the hub tells streams of the same name in different runs apart by it."""
    inputs: tuple[AssignedInput, ...]
