"""The loop of the controller and its folder, without processes: what is written and refused."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abhinaya.stream.cluster import keys, show
from abhinaya.stream.cluster.actions import Wishes
from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.load import parse
from abhinaya.stream.cluster.main import Loop, run
from abhinaya.stream.cluster.state import State, fault_of_change
from abhinaya.stream.errors import ConfigError, NetworkError, ProcessError
from abhinaya.stream.run.placement.base import Machine, Placed, Process

A = "[[cells]]\nname = 'a'\nport = 23600\n"
B = "[[cells]]\nname = 'b'\nport = 23602\n"


def cluster(folder: Path, cells: str = A, more: str = "keys = 'keys'\n") -> Cluster:
    return parse(tomllib.loads(f"name = 't'\n{more}{cells}"), folder / "cluster.toml")


class Engine:
    """A placement on which everything runs at once, but that may be away."""

    def __init__(self) -> None:
        self.placed: dict[str, Placed] = {}
        self.away = self.broken = False
        self.closed: list[bool] = []

    def machines(self) -> Sequence[Machine]:
        return (Machine("m", "127.0.0.1", 4.0, 0.0),)

    def start(self, process: Process) -> None:
        if self.broken:
            raise ProcessError(process.name, "cannot be started: no room on the disk")
        self.placed[process.name] = Placed(process.name, "running", "m", "127.0.0.1", "1")

    def move(self, name: str, hub: str) -> None:
        self.placed[name] = replace(self.placed[name], hub=hub)

    def stop(self, name: str, patience_s: float) -> None:
        self.placed.pop(name, None)

    def look(self, now: float) -> Mapping[str, Placed]:
        if self.away:
            raise NetworkError("the engine", "does not answer")
        return dict(self.placed)

    def close(self, kill: bool) -> None:
        self.closed.append(kill)


class Desk:
    """A loop that is turned by hand."""

    def __init__(self, folder: Path) -> None:
        self.cluster = cluster(folder)
        keys.make(self.cluster)
        self.state, self.engine, self.said = State(self.cluster.state), Engine(), list[str]()
        self.loop = Loop(self.cluster, self.engine, self.state, self.said.append)
        self.now = 0.0

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 1.0
            self.loop.turn(self.now, 1_000_000 + self.now)

    def status(self) -> Any:
        status = self.state.read_status()
        assert status is not None
        return status


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    made = Desk(tmp_path)
    yield made
    made.loop.close()


def test_commands_are_obeyed_and_what_happens_is_written_and_said_once(desk: Desk) -> None:
    desk.turn(3)
    assert set(desk.engine.placed) == {"a.hub", "a.asr.0"}
    (cell,) = desk.status().cells
    assert (cell.name, cell.state, cell.wanted) == ("a", "starting", {"asr": 1})
    desk.state.write_wishes(Wishes(scale={"asr": 2}))
    desk.turn(2)
    assert set(desk.engine.placed) == {"a.hub", "a.asr.0", "a.asr.1"}
    desk.engine.away = True
    desk.turn(5)
    assert desk.status().faults == ("the engine: does not answer",)
    desk.engine.away = False
    desk.turn(2)
    assert desk.status().faults == ()
    assert [t for t in desk.said if "engine" in t] == [
        "the engine: does not answer", "over: the engine: does not answer",
    ]  # fmt: skip
    desk.engine.broken = True
    desk.state.write_wishes(Wishes(scale={"asr": 3}))
    desk.turn(2)
    assert desk.status().faults == ("a.asr.2: cannot be started: no room on the disk",)
    desk.engine.broken = False
    desk.turn(2)
    assert "a.asr.2" in desk.engine.placed
    text = "\n".join(show.lines(desk.status(), desk.status().time + 60, False))
    assert "no controller runs; its last status is 60 s old" in text
    assert "machine m: 127.0.0.1, 4 CPU, 0 GPU" in text
    desk.state.write_wishes(Wishes(down="drain"))
    desk.turn(3)
    assert desk.loop.over
    assert desk.engine.placed == {}
    desk.loop.close()
    assert desk.engine.closed == [True]


def test_a_status_that_cannot_be_written_is_said_once_and_when_it_is_over(desk: Desk) -> None:
    desk.turn()
    in_the_way = desk.state.folder / "status.json.part"
    in_the_way.mkdir()
    desk.turn(4)
    in_the_way.rmdir()
    desk.turn(3)
    fault, over = [t for t in desk.said if "status.json" in t]
    assert "cannot be written" in fault
    assert over == f"over: {fault}"
    assert desk.status().faults == ()


def test_a_hub_that_dies_is_said_once(desk: Desk) -> None:
    desk.turn(2)
    error = "a.hub: was killed by SIGKILL"
    again = replace(desk.engine.placed["a.hub"], restarts=1, error=error)
    desk.engine.placed["a.hub"] = again
    desk.turn(2)
    assert [text for text in desk.said if "a.hub" in text] == [
        "a.hub has died: was killed by SIGKILL; it is started again"
    ]


def test_another_version_of_the_file_is_taken_over_unless_it_cannot_be_used(desk: Desk) -> None:
    desk.turn(2)
    both = cluster(desk.cluster.state.parent, A + B)
    assert fault_of_change(desk.cluster, both) == ""
    desk.state.write_cluster(both)  # without keys for b
    desk.turn(2)
    (fault,) = desk.status().faults
    assert "cells/b/hub.key" in fault
    assert set(desk.engine.placed) == {"a.hub", "a.asr.0"}
    keys.make(both)
    desk.state.write_cluster(both)
    desk.turn(2)
    assert set(desk.engine.placed) == {"a.hub", "a.asr.0", "b.hub", "b.asr.0"}
    (desk.state.folder / "wishes.json").write_text("{")
    desk.turn(2)
    (fault,) = desk.status().faults
    assert "wishes.json: cannot be read" in fault
    assert len(desk.engine.placed) == 4


@pytest.mark.parametrize(
    ("cells", "more", "fault"),
    [
        (A.replace("23600", "23700"), "keys = 'keys'\n", "cells.a cannot change while it runs"),
        (A, "", "keys cannot change"),
        (A, "keys = 'keys'\nsettings.vad.pad_s = 0.3\n", "profile or settings cannot change"),
        (A, "keys = 'keys'\n[scaling]\nup_s = 9\n", ""),
    ],
)
def test_what_cannot_change_while_a_cluster_runs(
    tmp_path: Path, cells: str, more: str, fault: str
) -> None:
    assert fault in fault_of_change(cluster(tmp_path), cluster(tmp_path, cells, more))
    assert bool(fault) == bool(fault_of_change(cluster(tmp_path), cluster(tmp_path, cells, more)))


def test_there_is_one_controller_and_a_damaged_map_is_not_overwritten(tmp_path: Path) -> None:
    of, engine = cluster(tmp_path, more=""), Engine()
    state = State(of.state)
    with state.locked():
        assert state.runs()
        with pytest.raises(ConfigError, match="has a controller that runs"):
            run(of, engine)
    assert not state.runs()
    state.map_file.write_text("{}")
    with pytest.raises(NetworkError, match=r"cells\.json: cannot be used"):
        run(of, engine)
    state.map_file.unlink()
    run(of, engine, stopped=lambda: True)
    assert engine.closed[-1] is False, "what runs on other machines goes on"
