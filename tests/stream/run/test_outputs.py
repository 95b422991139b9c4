"""What sinks get of a run over several cells: the sum, and, where they ask for it, each cell."""

from __future__ import annotations

import fakes
from msgspec.structs import replace

from abhinaya.stream.run.outputs import Outputs
from abhinaya.stream.run.recorder import in_cell
from abhinaya.stream.wire.messages import Event, NodeLoad, NodeUp, Status


class Sink:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.of: list[tuple[str, int]] = []

    def write(self, event: Event, now_unix_s: float) -> None:
        self.events.append(event)

    def cell_status(self, cell: str, status: Status | None, now_unix_s: float) -> None:
        self.of.append((cell, -1 if status is None else status.waiting))

    def close(self) -> None:
        pass


def test_a_sink_gets_the_sum_of_the_cells_that_answer_and_each_of_them() -> None:
    (status,) = (m for m in fakes.one_of_each() if isinstance(m, Status))
    load = NodeLoad(node="S1-0", service="S1", held=1, done=2)
    own = replace(
        status, waiting=3, nodes=(load,), oldest_s={"S1": 2.0}, refused={"x": 1}, queued={"S1": 3}
    )
    sink = Sink()
    outputs = Outputs([sink], lambda: 0.0)
    for cell, found in (("a", own), ("b", replace(own, waiting=4, oldest_s={"S1": 5.0, "asr": 1}))):
        event = in_cell(found, cell)
        assert isinstance(event, Status)
        outputs.publish(event, cell)
    total = sink.events[-1]
    assert isinstance(total, Status)
    assert (total.waiting, total.refused, total.queued) == (7, {"x": 2}, {"S1": 6})
    assert total.oldest_s == {"S1": 5.0, "asr": 1}
    assert [node.node for node in total.nodes] == ["a/S1-0", "b/S1-0"]
    assert sink.of == [("a", 3), ("b", 4)]
    outputs.tick({"b"})
    outputs.publish(own, "b")
    assert sink.events[-1] == own
    assert sink.of[2:] == [("a", -1), ("b", 3)]


def test_nodes_of_different_cells_have_different_names_and_without_cells_their_own() -> None:
    up = fakes.node_up()
    named = in_cell(up, "a")
    assert isinstance(named, NodeUp)
    assert named.node == f"a/{up.node}"
    assert in_cell(up, "") is up
