"""Which front reads which input, and that one that kills its process takes no other with it."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import fakes
import msgspec
import pytest
from msgspec.structs import replace

from abhinaya.bench.demo import CALL
from abhinaya.stream.cells.follow import Follow
from abhinaya.stream.cells.map import Cell, CellMap
from abhinaya.stream.cells.source import FixedCells
from abhinaya.stream.errors import SourceError
from abhinaya.stream.front.assignment import Assignment
from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.run.inputs import AT_ONCE, TOGETHER, Inputs
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.run.monitor import Run
from abhinaya.stream.run.plan import Input, Plan
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.child import Stage, hub_of, leave_fault
from abhinaya.stream.wire.messages import Event, StreamEnded, StreamStarted, Verdict


class Play:
    """The inputs of a run whose processes the test plays."""

    def __init__(self, folder: Path, follow: Follow | None = None) -> None:
        self.folder, self.ledger = folder, Ledger()
        follow = follow or Follow(FixedCells("ipc://x").current)
        self.inputs = Inputs(folder, self.ledger, follow, None, "", None, "run")
        (folder / "a.wav").touch()

    def add(self, *names: str, what: str = "", **config: object) -> list[str]:
        what = what or str(self.folder / "a.wav")
        items = [Input(name, InputConfig(what, **config)) for name in names]  # type: ignore[arg-type]
        return [spec.name for spec in self.inputs.add(items)]

    def read_by(self, front: str) -> list[str]:
        data = (self.folder / f"{front}.json").read_bytes()
        return [each.name for each in msgspec.json.decode(data, type=Assignment).inputs]

    def write(self, name: str, end: bool = True) -> None:
        self.ledger.admit(StreamStarted(info=fakes.info(name)))
        if end:
            ended = StreamEnded(stream=name, sequence=0, position=0)
            self.ledger.admit(ended)
            self.inputs.ended(ended)


def test_files_share_fronts_and_what_may_wait_has_its_own(tmp_path: Path) -> None:
    play = Play(tmp_path)
    names = [f"file{i}" for i in range(40)]
    first, second = play.add(*names)
    assert play.read_by(first) + play.read_by(second) == names
    assert len(play.read_by(first)) == TOGETHER
    for what, more in (
        ("mic", {}),
        ("-", {}),
        ("https://a.example/b", {}),
        ("", {"realtime": True}),
    ):
        name = f"alone {what}"
        (front,) = play.add(name, what=what, **more)
        assert play.read_by(front) == [name]
    assert play.inputs.fronts[:2] == [first, second]


def test_many_files_wait_until_a_front_has_finished(tmp_path: Path) -> None:
    play = Play(tmp_path)
    names = [f"file{i}" for i in range(10 * TOGETHER + 3)]
    fronts, read = play.add(*names), []
    assert len(fronts) == AT_ONCE
    while fronts:
        assert len(fronts) <= AT_ONCE
        front = fronts.pop(0)
        for name in play.read_by(front):
            play.write(name)
            read.append(name)
        fronts += [spec.name for spec in play.inputs.next()]
        assert play.inputs.waiting == (len(read) + sum(map(len, map(play.read_by, fronts))) < 323)
    assert sorted(read) == sorted(names)


@pytest.mark.parametrize("poison", range(6))
@pytest.mark.parametrize("restarts", [0, 1, 5])
def test_a_file_that_kills_its_front_is_alone_in_the_end(
    tmp_path: Path, poison: int, restarts: int
) -> None:
    play = Play(tmp_path)
    alive = dict.fromkeys(play.add(*[f"file{i}" for i in range(6)]), 0)
    done: set[str] = set()
    lost: list[str] = []
    while alive:
        front, deaths = next(iter(alive.items()))
        read = play.read_by(front)
        if f"file{poison}" not in read:
            for name in read:
                play.write(name)
            done |= set(read)
            del alive[front]
            assert play.inputs.is_over(front)
            continue
        for name in read:
            play.write(name, end=False)
        final = deaths == restarts
        if play.inputs.is_lost(front, final):
            lost += read
        alive |= {spec.name: 0 for spec in play.inputs.died(front, final)}
        alive[front] = deaths + 1
        if final:
            del alive[front]
    assert lost == [f"file{poison}"]
    assert done == {f"file{i}" for i in range(6)} - set(lost)


def test_what_was_written_is_not_read_again(tmp_path: Path) -> None:
    play = Play(tmp_path)
    (front,) = play.add("a", "b", "c", "d")
    play.write("a")
    leave_fault(tmp_path, front, "b", SourceError("b.wav", "is text"))
    assert [str(error) for error in play.inputs.faults()] == ["b.wav: is text"]
    (other,) = play.inputs.died(front, final=False)
    assert (play.read_by(front), play.read_by(other.name)) == (["c"], ["d"])


POISON = '''
"""Makes one file end the process that decodes it, as a damaged one may that FFmpeg dislikes."""
import os
import signal
from abhinaya.stream.sources import opening

open_file = opening.open_file


def open_poisoned(config, warn):
    if "poison" in config.what:
        os.kill(os.getpid(), signal.SIGSEGV)
    return open_file(config, warn)


opening.open_file = open_poisoned
'''


class Collector:
    """A sink that keeps what it is told, and an observer that keeps what goes wrong."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.troubles: list[str] = []

    def write(self, event: Event, now_unix_s: float) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass

    def loading(self, stages: dict[str, Stage]) -> None:
        pass

    def trouble(self, message: str) -> None:
        self.troubles.append(message)


@pytest.mark.processes
def test_a_file_that_crashes_the_decoder_and_one_that_is_none_harm_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(POISON)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    profile = tmp_path / "quick.toml"
    profile.write_text(textwrap.dedent('[voters.S1]\nmodel = "tiny-speech"\n'))
    changes = {"supervise.backoff_s": 0.05, "supervise.restarts": 1}
    config = profile_files.load(str(profile), changes)
    (tmp_path / "none.wav").write_text("no audio at all")
    inputs = [Input("none", InputConfig(str(tmp_path / "none.wav")))]
    for name in ("a", "poison", "b"):
        shutil.copy(CALL, tmp_path / f"{name}.opus")
        inputs.append(Input(name, InputConfig(str(tmp_path / f"{name}.opus"))))
    collector = Collector()
    with run_directory() as directory:
        plan = Plan(config, tuple(inputs), accept_noncommercial=True)
        run = Run(plan, directory, [collector], collector)
        code = run.run()
    ends = {e.stream: e.reason for e in collector.events if isinstance(e, StreamEnded)}
    assert ends == {"a": "", "b": ""}
    of = {
        name: [
            (e.sequence, e.label)
            for e in collector.events
            if isinstance(e, Verdict) and e.stream == name and not e.revision
        ]
        for name in "ab"
    }
    assert of["a"] == of["b"]
    assert len(of["a"]) > 3
    assert any("none.wav: is text, not audio" in trouble for trouble in collector.troubles)
    assert any("SIGSEGV" in trouble for trouble in collector.troubles)
    assert code == SourceError.exit_code


def test_files_of_one_front_have_one_cell_and_without_an_open_cell_all_wait(
    tmp_path: Path,
) -> None:
    places = [Cell(name=n, endpoint=f"ipc://{n}") for n in ("a", "b", "c")]
    shut = CellMap(epoch=1, cells=(replace(places[0], state="draining"),))
    play = Play(tmp_path, follow := Follow(shut))
    names = [f"file{i}" for i in range(90)]
    assert play.add(*names) == []
    assert play.add("mic", what="mic") == []
    first = next(play.inputs.push_fronts(["a", "b"]))
    assert first.name == "push-a"  # its calls are from before
    assert play.inputs.waiting
    assert len(play.inputs.never_begun()) == 91
    follow.review(CellMap(epoch=2, cells=tuple(places)), ())
    fronts = [spec.name for spec in play.inputs.next()]
    assert play.read_by(fronts[0]) == ["mic"]
    assert len(fronts) == 1 + AT_ONCE
    for front in fronts:
        cell = follow.cell_of(front)
        assert {follow.expect(name) for name in play.read_by(front)} == {cell}
        assert hub_of(tmp_path, front) == (cell.endpoint, "")
    assert len({follow.cell_of(front).name for front in fronts[1:]}) == 3
    assert play.inputs.waiting


def test_a_push_front_stays_while_its_cell_is_needed_and_goes_home(tmp_path: Path) -> None:
    cells = CellMap(epoch=1, cells=(Cell(name="a", endpoint="1"), Cell(name="b", endpoint="2")))
    play = Play(tmp_path, follow := Follow(cells))
    assert [spec.name for spec in play.inputs.push_fronts(["a", "b"])] == ["push-a", "push-b"]
    assert not [*play.inputs.push_fronts(["a", "b"])]
    assert follow.review(cells, {"a"}) == ["push-a"]
    play.inputs.move("push-a")
    assert hub_of(tmp_path, "push-a") == ("2", "")
    info = replace(fakes.info("call"), front="push-a", input="call")
    play.ledger.admit(StreamStarted(info=info))
    play.inputs.started(info)
    assert not [*play.inputs.push_fronts(["b"])]
    assert not play.inputs.is_over("push-a")  # a call is left
    play.write("call")
    assert play.inputs.is_over("push-a")
    assert not play.inputs.is_over("push-b")
    assert not [*play.inputs.push_fronts(["a", "b"])]  # until the old process has ended
    play.inputs.forget("push-a")
    assert [spec.name for spec in play.inputs.push_fronts(["a", "b"])] == ["push-a"]
    assert follow.review(cells, ()) == ["push-a"]
    assert follow.cell_of("push-a").name == "a"
