"""The map of the cells, and the choice of a cell for a call.

A cell is a hub with its own nodes. A call goes to a cell by rendezvous hashing (Thaler and
Ravishankar 1998): a cell that leaves moves only its own calls, and a new one takes an equal share
from each. All channels of a call have the same cell.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Final, Literal

import msgspec

from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.keys import Keys

LARGEST: Final = 1024 * 1024
"""Bytes of a map."""

_ENDPOINT: Final = re.compile(
    r"tcp://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+(%\w+)?\]):[0-9]{1,5}|ipc://[^\x00-\x1f]+"
)
"""What ZeroMQ accepts without an error; whether there is such a host is found out later."""

State = Literal["open", "draining", "gone"]
"""open: takes calls; draining: finishes the calls that it has; gone: is not there any more."""


class Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    endpoint: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    """Where its hub is: tcp://HOST:PORT or ipc://DIRECTORY."""
    key: Annotated[str, msgspec.Meta(pattern=r"^([\x21-\x7e]{40})?$")] = ""
    """Public CURVE key of its hub; empty: a hub of this machine without keys."""
    state: State = "open"

    def keys(self, own: Keys | None) -> Keys | None:
        """Return the keys for a connection to its hub, of a process whose own are `own`.

        Raises:
            NetworkError: the hub has a key, and `own` is None.

        """
        if not self.key:
            return own if not self.name else None
        if own is None:
            raise NetworkError(f"cell {self.name}", "needs keys", "pass --keys (docs/keys.md)")
        return replace(own, server=self.key)

    def same_place(self, other: Cell) -> bool:
        """Whether both have the same hub, as far as the map says."""
        return (self.name, self.endpoint, self.key) == (other.name, other.endpoint, other.key)


class CellMap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All cells, at one time."""

    epoch: Annotated[int, msgspec.Meta(ge=1, lt=2**62)]
    """Grows with each change."""
    cells: Annotated[tuple[Cell, ...], msgspec.Meta(min_length=1, max_length=1000)]

    def cell(self, name: str) -> Cell | None:
        """Return a cell by its name; None if it is unknown or gone."""
        found = next((cell for cell in self.cells if cell.name == name), None)
        return None if found is None or found.state == "gone" else found

    def choose(self, call: str, without: Collection[str] = ()) -> Cell | None:
        """Return the open cell for the call with this id; None if no cell is open.

        `without` has the names of cells that do not answer: the next one of the call takes over.
        """
        able = [c for c in self.cells if c.state == "open" and c.name not in without]
        return max(able, key=lambda cell: _weight(call, cell.name), default=None)

    def succeed(self, old: CellMap | None, where: object) -> bool:
        """Whether this map is newer than `old`.

        Raises:
            NetworkError: its epoch is lower, or the same although the cells differ.

        """
        if old is None or self.epoch > old.epoch:
            return True
        if self == old:
            return False
        raise NetworkError(
            f"map of cells {where}",
            f"has epoch {self.epoch}, and epoch {old.epoch} with other cells was read before",
            "the map in use stays; each change of a map needs a higher epoch",
        )


def _weight(call: str, cell: str) -> bytes:
    return hashlib.blake2b(f"{cell}\0{call}".encode("utf-8", "replace"), digest_size=8).digest()


def decode(data: bytes, where: object) -> CellMap:
    """Return the map in JSON `data`, which came from `where`.

    Raises:
        NetworkError: it is not a map of cells.

    """
    if len(data) > LARGEST:
        raise NetworkError(f"map of cells {where}", f"is longer than {LARGEST} bytes")
    try:
        found = msgspec.json.decode(data, type=CellMap)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NetworkError(f"map of cells {where}", f"cannot be used: {error}") from error
    for cell in found.cells:
        if not _ENDPOINT.fullmatch(cell.endpoint):
            reason = f"has the endpoint {cell.endpoint[:80]!r} for cell {cell.name}"
            remedy = "write tcp://HOST:PORT, or ipc://DIRECTORY on one machine"
            raise NetworkError(f"map of cells {where}", reason, remedy)
    for what in ("name", "endpoint"):
        count = Counter(getattr(cell, what) for cell in found.cells if cell.state != "gone")
        if double := [value for value, n in count.items() if n > 1]:
            raise NetworkError(
                f"map of cells {where}", f"has two cells with the {what} {double[0]}"
            )
    if len({bool(cell.key) for cell in found.cells if cell.state != "gone"}) > 1:
        raise NetworkError(f"map of cells {where}", "has a key for some cells, and not for others")
    return found


def encode(cells: CellMap) -> bytes:
    """Return the map as JSON."""
    return msgspec.json.format(msgspec.json.encode(cells)) + b"\n"
