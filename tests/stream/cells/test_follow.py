"""Which cell a front has, while cells come, go, drain and fall silent: no sockets, a table."""

from __future__ import annotations

import time
from collections.abc import Iterable

from abhinaya.stream.cells.follow import Follow
from abhinaya.stream.cells.map import Cell, CellMap


def cells(*said: str) -> CellMap:
    """Return a map of `name`, `name:state` or `name@endpoint`."""
    found = []
    for text in said:
        name, _, state = text.partition(":")
        name, _, place = name.partition("@")
        found.append(Cell(name=name, endpoint=place or name, state=state or "open"))  # type: ignore[arg-type]
    return CellMap(epoch=1, cells=tuple(found))


A = next(f"call-{n}" for n in range(99) if "".join(
    c.name for c in [cells("a", "b", "c").choose(f"call-{n}")] if c) == "a"
    and cells("b", "c").choose(f"call-{n}").name == "b")  # type: ignore[union-attr]  # fmt: skip
"""A call that belongs to a, and then to b."""


def test_a_front_stays_while_it_can_and_a_home_calls_it_back() -> None:
    for said, lost, stray, homely in (
        (["a", "b", "c"], "", "a", "a"),
        (["a", "b", "c"], "a", "b", "b"),
        (["a", "b", "c"], "", "b", "a"),  # back: what has moved stays, the push front goes home
        (["a", "b", "c"], "ab", "c", "c"),
        (["a", "b", "c"], "abc", "c", "c"),  # nobody takes over: they wait where they are
        (["a:draining", "b", "c:draining"], "b", "c", "a"),  # a draining cell keeps what it has
        (["a:draining", "b:draining", "c:draining"], "c", "c", "a"),
        (["a@new", "b", "c@new"], "", "c@new", "a@new"),
        (["b", "c:gone"], "", "b", "b"),
        (["b:gone"], "", "b", "b"),  # no cell at all
        (["a", "b"], "", "b", "a"),
    ):
        if said == ["a", "b", "c"] and not lost and stray == "a":
            follow = Follow(cells(*said))
            assert follow.add("stray", A)
            assert follow.add("homely", A, home="a")
        before = {front: follow.cell_of(front) for front in ("stray", "homely")}
        moved = follow.review(cells(*said), lost)
        after = {front: follow.cell_of(front) for front in ("stray", "homely")}
        expected = [w if "@" in w else f"{w}@{w}" for w in (stray, homely)]
        assert [f"{c.name}@{c.endpoint}" for c in after.values()] == expected, (said, lost)
        assert moved == [f for f in after if not after[f].same_place(before[f])]
        assert {c.name for c in after.values()} == set(follow.used())


def test_new_calls_go_to_cells_that_answer_and_wait_only_if_none_does() -> None:
    follow = Follow(cells("a", "b", "c"))
    for lost, chosen, expected in (("", "a", "a"), ("a", "b", "b"), ("abc", None, "a")):
        follow.review(follow.cells, lost)
        cell = follow.choose(A)
        assert (cell.name if cell else None) == chosen
        assert follow.expect(A).name == expected  # type: ignore[union-attr]
    follow.review(cells("a:draining"), "")
    assert follow.expect(A) is None
    assert not follow.add("front", A)


def test_a_front_beside_another_one_is_in_its_cell() -> None:
    follow = Follow(cells("a", "b"))
    follow.add("first", A)
    follow.review(follow.cells, follow.cell_of("first").name)
    follow.add_beside("second", "first")
    assert follow.fronts_of("b") == ["first", "second"]
    follow.forget("first")
    assert follow.fronts_of("b") == ["second"]


def test_a_choice_among_many_cells_costs_less_than_a_millisecond() -> None:
    follow, calls = Follow(cells(*(f"c{n}" for n in range(100)))), 200
    follow.review(follow.cells, {"c1"})

    def cost(names: Iterable[str]) -> float:
        begun = time.process_time()
        for name in names:
            follow.choose(name)
        return (time.process_time() - begun) / calls

    assert min(cost([f"call-{n}" for n in range(calls)]) for _ in range(3)) < 0.001
