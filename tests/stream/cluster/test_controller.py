"""What a cluster becomes, decided without processes: machines, hubs and the clock are played."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from abhinaya.stream.cells.map import CellMap
from abhinaya.stream.cluster.actions import Move, Report, Seen, Start, Stop, View, Wishes
from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.controller import IDLE_S, RETRY_S, Controller
from abhinaya.stream.cluster.load import parse
from abhinaya.stream.run.placement.base import Machine, Placed, Process
from abhinaya.stream.wire.messages import NodeLoad, Status

STEP_S = 0.5
STARTS_S = 1.0
NAMES = ("a", "b", "c")
SERVICES = "[services.asr]\nmaximum = 3\n"


def cluster(*cells: str, more: str = SERVICES) -> Cluster:
    tables = [f"[[cells]]\nname = '{c}'\nport = {7100 + 2 * NAMES.index(c)}\n" for c in cells]
    return parse(tomllib.loads("name = 't'\n" + "".join(tables) + more), Path("/srv/c.toml"))


@dataclass
class Played:
    """A process that the world runs."""

    process: Process
    placed: Placed
    ready_at: float = 0.0
    ends_at: float | None = None


class World:
    """Machines m1, m2, ... of four CPUs, hubs that answer when they run, and a controller."""

    def __init__(self, of: Cluster, machines: int = 2, before: CellMap | None = None) -> None:
        self.now, self.pids = 1000.0, 0
        self.machines = [Machine(f"m{n}", f"10.0.0.{n}", 4.0, 0.0) for n in range(1, machines + 1)]
        self.played: dict[str, Played] = {}
        self.oldest_s: dict[str, float] = {}
        self.fronts: set[str] = set()
        self.maps: list[CellMap] = []
        self.reports: list[Report] = []
        self.moves: list[Move] = []
        self.of = of
        self.controller = self.make(before)

    def make(self, before: CellMap | None = None) -> Controller:
        """A controller, as it begins with what the one before has published."""
        return Controller(self.of, dict.fromkeys(NAMES, ""), before)

    def change(self, of: Cluster) -> None:
        self.of = of
        self.controller.change(of, dict.fromkeys(NAMES, ""))

    # what runs

    def place(self, process: Process) -> Placed:
        """Start a process where there is room."""
        for machine in self.machines:
            here = [
                p.process.cpus for p in self.played.values() if p.placed.machine == machine.label
            ]
            fits = process.cpus + sum(here) <= machine.cpus
            if machine.alive and fits and process.machines in ((), (machine.label,)):
                self.pids += 1
                pid, at = str(self.pids), (machine.label, machine.address)
                return Placed(process.name, "starting", *at, pid, process.hub)
        return Placed(process.name, "waiting for room")

    def begin(self, process: Process) -> None:
        self.played[process.name] = Played(process, self.place(process), self.now + STARTS_S)

    def kill(self, name: str) -> None:
        """The placement starts it again, perhaps on another machine."""
        one = self.played[name]
        one.placed = Placed(name, "waiting for room")
        one.placed = replace(self.place(one.process), restarts=1, error="was killed by SIGKILL")
        one.ready_at = self.now + STARTS_S

    def give_up(self, name: str, error: str = "cannot work") -> None:
        one = self.played[name]
        one.placed = replace(one.placed, stage="given up", incarnation="", error=error)

    def lose(self, label: str) -> None:
        self.machines = [replace(m, alive=m.alive and m.label != label) for m in self.machines]
        for name, one in self.played.items():
            if one.placed.machine == label:
                self.kill(name)

    def answers(self, cell: str) -> bool:
        hub = self.played.get(f"{cell}.hub")
        return hub is not None and hub.placed.stage == "running"

    def view(self, cell: str) -> View:
        if not self.answers(cell):
            return View()
        address = self.played[f"{cell}.hub"].placed.address
        up = [
            one
            for name, one in self.played.items()
            if name.startswith(f"{cell}.asr") and one.placed.stage == "running"
            if one.placed.hub.startswith(f"tcp://{address}:")
        ]
        loads = tuple(
            NodeLoad(node=one.placed.name, service=service, held=1, done=0)
            for one in up
            for service in one.process.services
        )
        status = Status(
            hub="h",
            waiting=0,
            open_segments=0,
            nodes=loads,
            fronts=("f",) if cell in self.fronts else (),
            refused={},
            doubles=0,
            oldest_s={"asr": self.oldest_s.get(cell, 0.0)},
        )
        return View(self.now, status)

    # time

    def step(self) -> None:
        self.now += STEP_S
        for name, one in list(self.played.items()):
            if one.ends_at is not None and self.now >= one.ends_at:
                del self.played[name]
            elif one.placed.stage == "waiting for room" and not one.placed.stopping:
                one.placed, one.ready_at = self.place(one.process), self.now + STARTS_S
            elif one.placed.stage == "starting" and self.now >= one.ready_at:
                one.placed = replace(one.placed, stage="running")
        placed = {name: one.placed for name, one in self.played.items()}
        views = {cell: self.view(cell) for cell in NAMES}
        seen = Seen(self.now, 5000.0 + self.now, self.machines, placed, views)
        for action in self.controller.step(seen):
            match action:
                case Start(process=process):
                    known = self.played.get(process.name)
                    assert known is None or known.placed.stage == "given up", process.name
                    self.begin(process)
                case Stop(name=name):
                    one = self.played[name]
                    one.placed = replace(one.placed, stopping=True)
                    one.ends_at = one.ends_at or self.now + 2.0
                case Move(name=name, hub=hub):
                    self.moves.append(action)
                    self.played[name].placed = replace(self.played[name].placed, hub=hub)
                case Report():
                    self.reports.append(action)
        cells = self.controller.cells
        if cells is not None and (not self.maps or cells is not self.maps[-1]):
            self.maps.append(cells)

    def pass_time(self, seconds: float) -> World:
        for _ in range(round(seconds / STEP_S)):
            self.step()
        return self

    # what came of it

    def states(self) -> dict[str, str]:
        return {c.name: c.state for c in self.maps[-1].cells} if self.maps else {}

    def nodes(self, cell: str) -> int:
        return sum(name.startswith(f"{cell}.asr") for name in self.played)


# --- cells ----------------------------------------------------------------------------------------


def test_a_cell_opens_when_its_hub_answers_and_each_service_has_a_node() -> None:
    world = World(cluster("a", "b"))
    world.step()
    assert set(world.played) == {"a.hub", "b.hub"}, "a node needs to know where its hub is"
    assert world.maps == []
    world.pass_time(3)
    assert world.states() == {"a": "open", "b": "open"}
    assert world.maps[-1].epoch >= 6000, "epochs follow the clock, if the folder is lost"
    assert [c.endpoint for c in world.maps[-1].cells] == [
        "tcp://10.0.0.1:7100",
        "tcp://10.0.0.1:7102",
    ]


def test_a_cell_that_is_removed_drains_and_one_that_is_added_opens() -> None:
    world = World(cluster("a", "b")).pass_time(6)
    world.fronts = {"a"}
    world.change(cluster("b", "c"))
    world.pass_time(60)
    assert world.states() == {"a": "draining", "b": "open", "c": "open"}
    assert world.nodes("a") == 1
    world.fronts = set()
    world.pass_time(IDLE_S - 1)
    assert world.states()["a"] == "draining"
    world.pass_time(10)
    assert world.states() == {"a": "gone", "b": "open", "c": "open"}
    assert not {name for name in world.played if name.startswith("a.")}
    world.change(cluster("a", "b", "c"))
    world.pass_time(6)
    assert world.states() == dict.fromkeys("abc", "open")
    assert [m.epoch for m in world.maps] == sorted({m.epoch for m in world.maps})


def test_the_map_says_gone_before_anything_stops_and_the_hub_stops_last() -> None:
    world = World(cluster("a")).pass_time(6)
    world.controller.wishes = Wishes(down="drain")
    order = []
    for _ in range(60):
        world.step()
        order.append((world.states()["a"], len(world.played)))
    assert sorted(set(order), key=order.index) == [
        ("draining", 2), ("gone", 2), ("gone", 1), ("gone", 0),
    ]  # fmt: skip
    assert world.controller.over


def test_the_gateway_lives_as_long_as_a_cell_has_calls() -> None:
    world = World(cluster("a", more="[gateway]\ncpus = 0.5\n"))
    world.pass_time(1)
    assert "gateway" not in world.played, "it needs a map"
    world.pass_time(6)
    assert world.played["gateway"].placed.stage == "running"
    world.fronts = {"a"}
    world.controller.wishes = Wishes(down="drain")
    world.pass_time(30)
    assert "gateway" in world.played
    world.fronts = set()
    world.pass_time(30)
    assert world.controller.over
    assert world.played == {}


def test_down_now_waits_for_nobody() -> None:
    world = World(cluster("a")).pass_time(6)
    world.fronts = {"a"}
    world.controller.wishes = Wishes(down="now")
    world.pass_time(3)
    assert world.controller.over
    assert world.played == {}


def test_a_node_that_stops_at_once_was_stopped_and_has_not_died() -> None:
    world = World(cluster("a")).pass_time(6)
    world.controller.wishes = Wishes(down="now")
    world.step()
    node = world.played["a.asr.0"]
    node.placed = replace(node.placed, stage="ended", incarnation="")
    world.step()
    (report,) = world.reports
    assert report.stopped


def test_a_hub_on_another_machine_has_a_new_endpoint_and_its_nodes_follow_without_a_restart() -> (
    None
):
    labels = "[[machines]]\nlabel = 'm1'\n[[machines]]\nlabel = 'm2'\n"
    world = World(cluster("a", more=f"[services.asr]\nmachines = ['m2']\n{labels}")).pass_time(6)
    before, (node,) = world.maps[-1], [n for n in world.played if n != "a.hub"]
    pid = world.played[node].placed.incarnation
    world.lose("m1")
    world.pass_time(6)
    after = world.maps[-1]
    assert [c.endpoint for c in after.cells] == ["tcp://10.0.0.2:7100"]
    assert after.epoch > before.epoch
    assert [move.hub for move in world.moves] == ["tcp://10.0.0.2:7100"]
    assert world.played[node].placed.incarnation == pid
    assert world.view("a").status.nodes  # type: ignore[union-attr]
    assert world.controller.faults["machine m1"] == "machine m1 is lost"


# --- controllers ----------------------------------------------------------------------------------


def test_a_new_controller_goes_on_where_another_one_died() -> None:
    world = World(cluster("a", "b")).pass_time(6)
    before, played = world.maps[-1], dict(world.played)
    world.controller = world.make(before)
    world.pass_time(10)
    assert world.maps == [before]
    assert world.played == played
    world.of = cluster("b")  # meanwhile, the file has changed
    world.controller = world.make(before)
    world.pass_time(30)
    assert world.states() == {"a": "gone", "b": "open"}
    world.of, world.played = cluster("b", "c"), {}  # and now all processes are gone too
    world.controller = world.make(world.maps[-1])
    world.step()
    assert world.states()["b"] == "open", "its clients wait for it"
    world.pass_time(6)
    assert {n: s for n, s in world.states().items() if s == "open"} == {"b": "open", "c": "open"}


# --- nodes ----------------------------------------------------------------------------------------


def test_a_service_that_is_late_gets_nodes_as_long_as_there_is_room_and_the_rest_is_named() -> None:
    """Four CPUs: a hub takes a half of one, a node a whole one."""
    world = World(cluster("a", more="[services.asr]\nmaximum = 9\n"), machines=1).pass_time(6)
    world.oldest_s = {"a": 9.0}
    world.pass_time(120)
    running = [p for p in world.played.values() if p.placed.stage == "running"]
    assert len(running) == 1 + 3
    assert world.nodes("a") == 4, "no more are asked for than one that waits"
    fault = world.controller.faults["a.asr room"]
    assert fault == (
        "cell a: a node of asr waits for room, 1 CPU on one machine; free: m1 0.5 CPU; "
        "add a machine, or lower services.asr.cpus"
    )
    world.machines.append(Machine("m2", "10.0.0.2", 4.0, 0.0))
    world.pass_time(120)
    assert sum(p.placed.stage == "running" for p in world.played.values()) == 1 + 7
    world.oldest_s = {}
    world.change(cluster("a"))
    world.pass_time(10)
    assert world.nodes("a") == 3
    assert world.controller.faults == {}


def test_a_node_that_waits_takes_what_the_changed_file_says_it_needs() -> None:
    world = World(cluster("a", more="[services.asr]\ncpus = 5\n")).pass_time(6)
    assert world.maps == [], "no machine has five CPUs"
    world.change(cluster("a", more="[services.asr]\ncpus = 1\n"))
    world.pass_time(6)
    assert world.states() == {"a": "open"}
    assert world.nodes("a") == 1


def test_a_fixed_number_of_nodes_is_kept_until_it_is_automatic_again() -> None:
    world = World(cluster("a", "b")).pass_time(6)
    world.controller.wishes = Wishes(scale={"asr": 2})
    world.oldest_s = {"a": 9.0}
    world.pass_time(30)
    assert (world.nodes("a"), world.nodes("b")) == (2, 2)
    world.controller.wishes = Wishes()
    world.pass_time(10)
    assert (world.nodes("a"), world.nodes("b")) == (3, 2)
    world.controller.wishes = Wishes(scale={"asr": 1})
    world.pass_time(5)
    assert (world.nodes("a"), world.nodes("b")) == (1, 1)
    assert set(world.played) == {"a.hub", "b.hub", "a.asr.0", "b.asr.0"}


def test_a_death_is_reported_at_once_and_a_service_without_nodes_is_given_up() -> None:
    world = World(cluster("a")).pass_time(6)
    world.kill("a.asr.0")
    world.step()
    (report,) = world.reports
    assert (report.cell, report.died.name, report.died.final) == ("a", "a.asr.0", False)
    assert "SIGKILL" in report.died.reason
    world.pass_time(5)
    world.give_up("a.asr.0")
    world.pass_time(5)
    (_, killed, report) = world.reports
    assert not killed.died.final
    assert report.died.services == ("asr", "S1", "T2", "ST1")
    assert "a.asr.0 was given up: cannot work" in world.controller.faults["a.asr.0"]
    assert world.states() == {"a": "open"}, "running calls go on without its answers"
    world.pass_time(RETRY_S)
    assert world.played["a.asr.0"].placed.stage == "running"
    assert world.controller.faults == {}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_after_any_misfortune_all_wanted_cells_are_open_with_their_nodes(
    data: st.DataObject,
) -> None:
    world = World(cluster("a", "b"), machines=3)
    for _ in range(data.draw(st.integers(1, 12))):
        match data.draw(
            st.sampled_from(("kill", "give up", "lose", "cells", "scale", "late", "new"))
        ):
            case "kill" if world.played:
                world.kill(data.draw(st.sampled_from(sorted(world.played))))
            case "give up" if world.played:
                world.give_up(data.draw(st.sampled_from(sorted(world.played))))
            case "lose" if sum(m.alive for m in world.machines) > 1:
                world.lose(data.draw(st.sampled_from([m.label for m in world.machines])))
                world.machines.append(
                    Machine(
                        f"m{len(world.machines) + 1}", f"10.0.1.{len(world.machines)}", 4.0, 0.0
                    )
                )
            case "cells":
                chosen = data.draw(st.sets(st.sampled_from(NAMES), min_size=1))
                world.change(cluster(*sorted(chosen)))
            case "scale":
                world.controller.wishes = Wishes(scale={"asr": data.draw(st.integers(1, 3))})
            case "late":
                world.oldest_s = dict.fromkeys(NAMES, data.draw(st.sampled_from((0.0, 9.0))))
            case "new":
                wishes = world.controller.wishes
                world.controller = world.make(world.controller.cells)
                world.controller.wishes = wishes
            case _:
                pass
        world.pass_time(data.draw(st.sampled_from((0.5, 3.0, 20.0))))
    world.pass_time(RETRY_S + 60)
    wanted = {cell.name for cell in world.of.config.cells}
    assert {name for name, state in world.states().items() if state == "open"} == wanted
    assert {name.partition(".")[0] for name in world.played} == wanted
    fixed = world.controller.wishes.scale.get("asr")
    for cell in wanted:
        assert world.nodes(cell) == fixed if fixed else 1 <= world.nodes(cell) <= 3
        ports = {c.name: c.endpoint for c in world.maps[-1].cells}
        assert all(
            p.placed.hub in ("", ports[cell]) for n, p in world.played.items() if n.startswith(cell)
        )
    epochs = [m.epoch for m in world.maps]
    assert epochs == sorted(set(epochs))
