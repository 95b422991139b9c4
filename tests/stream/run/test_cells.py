"""A run over two cells, with real hubs: cells are lost, come back, drain, move, or are impostors.

Each segment comes out once, whatever happens, and the run ends by itself.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from proxy import Mode, Proxy
from pushed_run import LINEAR, until
from standing_hub import HUB, Collector, wait_for

from abhinaya.bench.null_nodes import NEEDS, null_config, null_node
from abhinaya.stream.cells.map import Cell, CellMap, State, encode
from abhinaya.stream.cells.source import open_source
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.run.monitor import Run
from abhinaya.stream.run.plan import Input, Plan
from abhinaya.stream.serve.calls import Call, CallError, Calls
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.config import SuperviseConfig, VadConfig
from abhinaya.stream.sources import open_source as sound_of
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.child import Stop
from abhinaya.stream.wire.keys import Keys, make_keys, read_public
from abhinaya.stream.wire.messages import Gap, Status, StreamEnded, Verdict

pytestmark = pytest.mark.processes

TAKE_OVER_S = 3.0
CONFIG = replace(
    null_config(),
    vad=VadConfig(max_segment_s=1.0, cut_search_s=0.5),
    supervise=SuperviseConfig(
        silent_s=1.0, beat_s=0.2, canary_s=0, hub_wait_s=2, take_over_s=TAKE_OVER_S
    ),
)
NAMES = ("live-2", "live-0", "file-0", "file-1", "file-2", "file-3")
"""Inputs; the first two are live, one in each cell."""


class Standing:
    """The hub of a cell, which can be killed, and its nodes. Nobody supervises them."""

    def __init__(self, folder: Path, name: str, keys: Path | None = None) -> None:
        self.folder, self.name, self.keys = folder, name, keys
        with Proxy("tcp://127.0.0.1:1") as unused:
            self.endpoint = unused.endpoint
        (folder / "config.json").write_bytes(configuration.encode(CONFIG))
        self.stop = Stop()
        own = Keys(keys, "node") if keys else None
        for service in NEEDS:
            work = (self.endpoint, service, self.stop, 0.0, own)
            threading.Thread(target=null_node, args=work, daemon=True).start()
        self.start()

    def start(self) -> None:
        script = HUB if self.keys is None else HUB.replace("Stop()", "Stop(), KEYS").replace(
            "serve(decode", f"from abhinaya.stream.wire.keys import Keys\nKEYS = Keys("
            f"pathlib.Path({str(self.keys)!r}), 'hub')\nserve(decode",
        )  # fmt: skip
        command = [sys.executable, "-c", script, str(self.folder / "config.json"), self.endpoint]
        self.hub = subprocess.Popen(command)

    def kill(self) -> None:
        self.hub.kill()
        self.hub.wait()

    def close(self) -> None:
        self.stop.asked = True
        self.kill()


class Cells:
    """Two cells and their map."""

    def __init__(self, folder: Path, keys: bool = False) -> None:
        self.folder, self.epoch = folder, 0
        self.keys: dict[str, Path] = {}
        for name in ("a", "b") if keys else ():
            self.keys[name] = folder / name
            make_keys(folder / name, "hub")
            for client in ("node", "input"):
                make_keys(folder / "clients", client, client) if name == "a" else None
                for ending in ("key", "key_secret"):
                    shutil.copy(folder / "clients" / f"{client}.{ending}", folder / name)
        self.all = {name: Standing(folder, name, self.keys.get(name)) for name in ("a", "b")}
        self.proxy = Proxy(self.all["a"].endpoint)
        self.at = {"a": self.proxy.endpoint, "b": self.all["b"].endpoint}
        self.publish()

    @property
    def path(self) -> Path:
        return self.folder / "cells.json"

    def publish(self, epoch: int = 0, **states: State) -> None:
        self.epoch = epoch or self.epoch + 1
        cells = tuple(
            Cell(name=name, endpoint=at, key=self.key(name), state=states.get(name, "open"))
            for name, at in self.at.items()
        )
        (self.folder / "part").write_bytes(encode(CellMap(epoch=self.epoch, cells=cells)))
        (self.folder / "part").rename(self.path)

    def key(self, name: str) -> str:
        return read_public(self.keys[name] / "hub.key").public if self.keys else ""

    def close(self) -> None:
        for cell in self.all.values():
            cell.close()


@pytest.fixture
def cells(tmp_path: Path) -> Iterator[Cells]:
    cells = Cells(tmp_path)
    for cell in cells.all.values():
        wait_for(cell.endpoint)
    with cells.proxy:
        yield cells
    cells.close()


class Watch(Collector):
    """Keeps what comes out, and which cells are lost; acts after some verdicts."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        super().__init__(after, lambda: threading.Thread(target=act, daemon=True).start())
        self.lost: list[str] = []

    def cell_status(self, cell: str, status: Status | None, now_unix_s: float) -> None:
        if status is None:
            self.lost.append(cell)

    def ended(self, stream: str) -> bool:
        return any(isinstance(e, StreamEnded) and e.stream == stream for e in self.events)


def listen(cells: Cells, watch: Watch, speech: Path, keys: Keys | None = None) -> int:
    """Process the speech as each of the inputs; return the exit code."""
    inputs = tuple(
        Input(name, InputConfig(what=str(speech), realtime=name.startswith("live")))
        for name in NAMES
    )
    plan = Plan(CONFIG, inputs, open_source(str(cells.path), {}), keys=keys)
    with run_directory() as directory:
        return Run(plan, directory, [watch], watch).run()


def play(cells: Cells, watch: Watch, speech: Path, keys: Keys | None = None) -> None:
    """Process the speech as each of the inputs; every segment comes out once."""
    assert listen(cells, watch, speech, keys) == 0
    spans = set()
    for name in NAMES:
        *verdicts, end = watch.of(name)
        assert isinstance(end, StreamEnded)
        assert not end.reason
        assert not [item for item in verdicts if isinstance(item, Gap)]
        spans.add(tuple((v.start, v.end) for v in verdicts if isinstance(v, Verdict)))
        assert not [v.missing for v in verdicts if isinstance(v, Verdict) and v.missing]
    (segments,) = spans
    assert len(segments) >= 3


Act = Callable[[Cells], object]


def then(*steps: Act | float) -> Act:
    """Do one thing after the other; a number is a pause in seconds."""

    def act(cells: Cells) -> None:
        for step in steps:
            time.sleep(step) if isinstance(step, float) else step(cells)

    return act


def kill(name: str) -> Act:
    return lambda cells: cells.all[name].kill()


def start(name: str) -> Act:
    return lambda cells: cells.all[name].start()


def say(epoch: int = 0, **states: State) -> Act:
    return lambda cells: cells.publish(epoch, **states)


def cut(mode: Mode) -> Act:
    """Let the network to cell a pass, or not; its hub remembers what it had."""
    return lambda cells: setattr(cells.proxy, "mode", mode)


def move(cells: Cells) -> None:
    """Start the hub of cell a elsewhere, with its nodes."""
    cells.all["a"].close()
    cells.all["a"] = Standing(cells.folder, "a")
    cells.at["a"] = cells.all["a"].endpoint
    cells.publish()


def damage(cells: Cells) -> None:
    (cells.folder / "cells.json").write_text("{")


LONG = 2.0 + TAKE_OVER_S
ONE, BOTH = ["a>b"], ["a>b", "b>a"]


@pytest.mark.parametrize(
    ("act", "moves", "said"),
    [
        pytest.param(say(a="gone"), ONE, "", id="a cell leaves", marks=pytest.mark.slow),
        pytest.param(move, ["a>a"], "", id="a hub moves", marks=pytest.mark.slow),
        pytest.param(kill("a"), ONE, "does not answer", id="a hub dies", marks=pytest.mark.slow),
        pytest.param(
            then(kill("a"), LONG, start("a")),
            ONE,
            "is back",
            id="and comes back",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            then(kill("a"), start("a")), [], "", id="and is started again", marks=pytest.mark.slow
        ),
        pytest.param(
            then(cut("reset"), LONG, cut("pass"), 0.5, kill("b")),
            BOTH,
            "is back",
            id="a cut, then the other dies",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            then(cut("black hole"), LONG, cut("pass")),
            ONE,
            "is back",
            id="silence",
            marks=pytest.mark.slow,
        ),
        pytest.param(say(a="draining"), [], "", id="a cell drains", marks=pytest.mark.slow),
        pytest.param(
            then(say(a="draining"), 1.0, kill("a")),
            ONE,
            "does not answer",
            id="and dies",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            then(say(9), 1.0, say(8, a="gone"), 1.0, damage, 1.0, say(10, a="gone")),
            ONE,
            "needs a higher epoch",
            id="an old and a damaged map",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_segment_comes_out_once(
    cells: Cells, speech: Path, act: Act, moves: list[str], said: str
) -> None:
    watch = Watch(4, lambda: act(cells))
    play(cells, watch, speech)
    found = [re.search(r"calls of cell (\w) go on in cell (\w)", t) for t in watch.troubles]
    assert [f"{m[1]}>{m[2]}" for m in found if m] == moves, watch.troubles
    assert len([t for t in watch.troubles if said in t]) == 1 or not said, watch.troubles
    assert len(watch.troubles) <= 6, watch.troubles


def test_a_new_map_moves_the_calls_of_a_cell_that_is_gone(
    cells: Cells, speech: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    brief_wav = tmp_path / "brief.wav"
    with wave.open(str(speech)) as whole, wave.open(str(brief_wav), "wb") as brief:
        brief.setparams(whole.getparams())
        brief.writeframes(whole.readframes(3 * whole.getframerate()))
    current = open_source(str(cells.path), {}).current
    chosen = [cell.name for name in NAMES if (cell := current.choose(name))]
    assert (chosen[:2], set(chosen[2:])) == (["a", "b"], {"a", "b"})
    watch = Watch(2, lambda: cells.publish(a="gone"))
    play(cells, watch, brief_wav)
    assert watch.lost == ["a"]
    assert len([t for t in watch.troubles if "go on in cell b" in t]) == 1


def another_key(cells: Cells) -> None:
    """The map has another key of cell a than its hub has."""
    make_keys(cells.folder / "c", "hub")
    shutil.copy(cells.folder / "c" / "hub.key", cells.folder / "a")


def another_role(cells: Cells) -> None:
    """The hub of cell a lets us in, but not record."""
    make_keys(cells.folder / "a", "input", "reader")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (another_key, "does not answer: its key is not the one in the map of cells"),
        (another_role, "refused the recorder: "),
    ],
)
def test_a_cell_that_does_not_let_us_in_is_named_and_its_calls_go_to_another(
    tmp_path: Path, speech: Path, harm: Callable[[Cells], None], why: str
) -> None:
    cells = Cells(tmp_path, keys=True)
    harm(cells)
    cells.publish()
    for cell in cells.all.values():
        wait_for(cell.endpoint)
    watch = Watch(0, lambda: None)
    with cells.proxy:
        play(cells, watch, speech, Keys(cells.folder / "clients", "input"))
    cells.close()
    named = [t for t in watch.troubles if t.startswith("cell a (") and why in t]
    assert len(named) == 1, watch.troubles
    assert len(watch.troubles) <= 4, watch.troubles


@pytest.mark.slow
def test_without_any_cell_the_run_waits_and_then_ends_in_order(cells: Cells, speech: Path) -> None:
    def strike() -> None:
        for cell in cells.all.values():
            cell.kill()

    watch = Watch(4, strike)
    with pytest.raises(NetworkError, match=r"^cells: none answers: cell . .*; cell . ") as caught:
        listen(cells, watch, speech)
    assert caught.value.exit_code == 7
    for name in NAMES[:2]:
        *_, gap, end = watch.of(name)
        assert isinstance(gap, Gap)
        assert isinstance(end, StreamEnded)
        assert "none answers" in end.reason


@pytest.mark.slow
def test_pushed_calls_leave_a_lost_cell_and_return_to_it(cells: Cells, speech: Path) -> None:
    names = NAMES[:4]
    watch = Watch(6, lambda: then(cut("reset"), LONG, cut("pass"))(cells))
    failed: list[BaseException] = []

    def push() -> None:
        until(lambda: set(run.cells.answering) == {"a", "b"}, "both hubs")
        heard = np.concatenate([c.samples for c in sound_of(InputConfig(str(speech))).chunks()])
        sound, lines = (32767 * heard).astype("<i2").tobytes(), []
        for name in names:
            until(lambda name=name: opened(name, lines), "a push front")  # type: ignore[misc]
        begun = time.monotonic()
        for start in range(0, len(sound), 640):
            for line in lines:
                line.feed(0, sound[start : start + 640])
            time.sleep(max(0.0, begun + start / 32_000 - time.monotonic()))
        for line in lines:
            line.close()
        until(lambda: all(watch.ended(name) for name in names), "the ends")

    def opened(name: str, lines: list[Call]) -> bool:
        with contextlib.suppress(CallError):
            lines.append(calls.open(name, ("",), LINEAR, source="test"))
        return bool(lines) and lines[-1].name == name

    def body() -> None:
        try:
            push()
        except BaseException as error:
            failed.append(error)
        signal.raise_signal(signal.SIGTERM)

    with run_directory() as directory:
        calls = Calls(directory)
        plan = Plan(CONFIG, (), open_source(str(cells.path), {}), calls=calls)
        run = Run(plan, directory, [watch], watch)
        calls.divide(run.cells)
        threading.Thread(target=body, daemon=True).start()
        assert run.run() == 0
        calls.close()
    assert not failed, failed
    items = [[(i.start, i.end) for i in watch.of(name)[:-1]] for name in names]  # type: ignore[union-attr]
    assert all(len(found) >= 8 and found == items[0] for found in items), items
    assert not [e for e in watch.events if isinstance(e, Gap)]
    moves = [t.split(" (")[0] for t in watch.troubles if "go on in" in t]
    assert moves[:2] == [f"the calls of cell {x} go on in cell {y}" for x, y in ("ab", "ba")]
