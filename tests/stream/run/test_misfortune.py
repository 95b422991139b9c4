"""Real processes under load: kill and freeze each kind, then count what comes out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.run.monitor import Run
from abhinaya.stream.run.plan import Input, Plan
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import Event, Gap, Status, StreamEnded, Verdict

pytestmark = pytest.mark.processes

PATIENCE = {
    "supervise.silent_s": 1.5,
    "supervise.beat_s": 0.2,
    "supervise.backoff_s": 0.1,
    "deadlines.file_s": 30,
    "flow.file_window": 2,  # so that the front has work left when it is struck
}


class Collector:
    """A sink that keeps what it is told, and calls `on_verdict` after the first verdict."""

    def __init__(self, on_verdict: Callable[[], None]) -> None:
        self.events: list[Event] = []
        self._on_verdict = on_verdict

    def write(self, event: Event, now_unix_s: float) -> None:
        if not isinstance(event, Status):
            self.events.append(event)
        if isinstance(event, Verdict):
            self._on_verdict()

    def close(self) -> None:
        pass


class Silent:
    """An observer that only remembers."""

    def __init__(self) -> None:
        self.troubles: list[str] = []

    def loading(self, stages: dict[str, Stage]) -> None:
        pass

    def trouble(self, message: str) -> None:
        self.troubles.append(message)


def suffer(
    call: Path, victim: str, number: signal.Signals, after: int = 2
) -> tuple[Collector, Silent, int]:
    """Label a call; send `number` to `victim` after some verdicts."""
    count = 0

    def strike() -> None:
        nonlocal count
        count += 1
        if count == after:
            pid = run.supervisor.pid(victim)
            assert pid is not None
            os.kill(pid, number)

    # S1 shares the process of the transcriber, unless it is to be struck alone
    apart = {"voters.S1.host": ""} if victim == "S1-0" else {}
    config = profile_files.load("embedded", {**PATIENCE, **apart})
    what = InputConfig(what=str(call), channels="split")
    collector, observer = Collector(strike), Silent()
    with run_directory() as directory:
        run = Run(Plan(config, (Input("call", what),)), directory, [collector], observer)
        code = run.run()
    return collector, observer, code


def account(collector: Collector) -> dict[str, list[Event]]:
    """Give each stream's first tellings, having checked that none is missing or there twice."""
    streams: dict[str, list[Event]] = {}
    for event in collector.events:
        if isinstance(event, Gap | StreamEnded) or (
            isinstance(event, Verdict) and event.revision == 0
        ):
            streams.setdefault(event.stream, []).append(event)
    for events in streams.values():
        assert [e.sequence for e in events] == list(range(len(events)))  # type: ignore[union-attr]
        assert isinstance(events[-1], StreamEnded)
    return streams


@pytest.fixture(scope="module")
def undisturbed(short_call: Path) -> dict[str, list[tuple[int, int]]]:
    """Where the segments of the call are, without any misfortune."""
    collector, _, code = suffer(short_call, "hub", signal.SIGCONT, after=10_000)
    assert code == 0
    return {s: [(e.start, e.end) for e in events[:-1]] for s, events in account(collector).items()}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("victim", "number"),
    [
        ("hub", signal.SIGKILL),
        ("front-0", signal.SIGKILL),
        ("asr-0", signal.SIGKILL),
        ("S1-0", signal.SIGSTOP),
        pytest.param("hub", signal.SIGSTOP, marks=pytest.mark.slow),
        pytest.param("front-0", signal.SIGSTOP, marks=pytest.mark.slow),
        pytest.param("asr-0", signal.SIGSTOP, marks=pytest.mark.slow),
        pytest.param("S1-0", signal.SIGKILL, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_segment_comes_out_once_though_a_process_dies(
    victim: str,
    number: signal.Signals,
    undisturbed: dict[str, list[tuple[int, int]]],
    short_call: Path,
) -> None:
    collector, observer, code = suffer(short_call, victim, number)
    streams = account(collector)
    assert code == 0
    assert any(victim in trouble for trouble in observer.troubles)
    for stream, events in streams.items():
        verdicts = [e for e in events if isinstance(e, Verdict)]
        # a file loses nothing: it is read again
        assert [(v.start, v.end) for v in verdicts] == undisturbed[stream]
        for verdict in verdicts:
            assert {v.voter for v in verdict.votes} | {m.voter for m in verdict.missing} == {
                "S1",
                "T2",
                "ST1",
            }
    # the service came back: the last verdicts have every vote
    last = [e for e in collector.events if isinstance(e, Verdict)][-1]
    assert not last.missing


@pytest.mark.slow
def test_threads_do_not_outlive_a_run(short_call: Path) -> None:
    before = threading.active_count()
    suffer(short_call, "hub", signal.SIGCONT, after=10_000)
    assert threading.active_count() <= before
