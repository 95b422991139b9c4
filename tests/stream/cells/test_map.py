"""The map of the cells: who gets a call, and which map is a newer one."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from abhinaya.stream.cells.map import Cell, CellMap, decode, encode
from abhinaya.stream.errors import NetworkError

CALLS = [f"twilio:CA{number:08x}" for number in range(20_000)]


def cells(*names: str, epoch: int = 1, **states: str) -> CellMap:
    found = [
        Cell(name=n, endpoint=f"tcp://10.0.0.{i}:5000", state=states.get(n, "open"))  # type: ignore[arg-type]
        for i, n in enumerate(names)
    ]
    return CellMap(epoch=epoch, cells=tuple(found))


def chosen(cells: CellMap, without: tuple[str, ...] = ()) -> list[str]:
    return [cell.name for call in CALLS if (cell := cells.choose(call, without))]


def test_calls_are_shared_equally_and_a_cell_that_leaves_moves_only_its_own() -> None:
    names = [f"c{n}" for n in range(24)]
    before = chosen(cells(*names))
    assert max(Counter(before).values()) < 1.15 * len(CALLS) / 24
    for after in (chosen(cells(*names, c7="draining")), chosen(cells(*names), ("c7",))):
        assert [old for old, new in zip(before, after, strict=True) if old != new] == (
            ["c7"] * before.count("c7")
        )
        heirs = Counter(n for o, n in zip(before, after, strict=True) if o != n)
        assert len(heirs) == 23
        assert "c7" not in heirs
    more = chosen(cells(*names, "new"))
    assert {new for old, new in zip(before, more, strict=True) if old != new} == {"new"}


def test_the_choice_is_known_so_that_every_version_makes_the_same() -> None:
    three = cells("a", "b", "c")
    assert [three.choose(f"call-{n}").name for n in range(8)] == list("cabbcabc")  # type: ignore[union-attr]


def test_no_open_cell_is_no_choice_and_a_gone_cell_is_unknown() -> None:
    none = cells("a", "b", a="draining", b="gone")
    assert none.choose("call") is None
    assert none.cell("b") is None
    assert none.cell("x") is None
    assert none.cell("a") is not None


def test_a_map_is_newer_by_its_epoch_alone() -> None:
    maps = [cells("a", epoch=e) for e in (1, 2, 9)]
    assert maps[0].succeed(None, "m")
    assert all(b.succeed(a, "m") for a, b in pairwise(maps))
    assert not maps[0].succeed(cells("a"), "m")
    for bad in (maps[0], cells("a", "b", epoch=2)):
        with pytest.raises(NetworkError, match="needs a higher epoch"):
            bad.succeed(maps[1], "m")


def test_a_map_survives_json_and_a_wrong_one_is_refused() -> None:
    assert decode(encode(cells("a", "b")), "m") == cells("a", "b")
    good = msgspec.json.decode(encode(cells("a", "b")))
    key = {**good["cells"][0], "key": "short"}
    for bad, why in (
        (b"", "cannot be used"),
        (b"\xff\xfe", "cannot be used"),
        (b"[" * 100_000, "cannot be used"),
        (b" " * 2_000_000, "is longer"),
        (msgspec.json.encode({**good, "epoch": 0}), "epoch"),
        (msgspec.json.encode({**good, "cells": []}), "cells"),
        (msgspec.json.encode({**good, "cells": [*good["cells"], good["cells"][0]]}), "two cells"),
        (msgspec.json.encode({**good, "cells": [key]}), "key"),
        (
            msgspec.json.encode({**good, "cells": [{**key, "key": "k" * 40}, good["cells"][1]]}),
            "some",
        ),
        (msgspec.json.encode({**good, "zone": "eu"}), "zone"),
        *(
            (msgspec.json.encode({**good, "cells": [{"name": "a", "endpoint": at}]}), "endpoint")
            for at in (
                "tcp://a b:5",
                "tcp://*:5",
                "tcp://\x1b[3m:5",
                "http://a:5",
                "tcp://a",
                "ipc://",
            )
        ),
    ):
        with pytest.raises(NetworkError, match=why):
            decode(bad, "m")
