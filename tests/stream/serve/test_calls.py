"""Calls whose audio is pushed, through the real processes."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal

import pytest
from pushed_run import LINEAR, PARTIES, PushedRun, demo, feed, until

from abhinaya.bench.null_nodes import null_config
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.front.listener import Listener
from abhinaya.stream.serve.calls import Call, CallError
from abhinaya.stream.settings.config import SuperviseConfig, VadConfig
from abhinaya.stream.sources.pcm import to_float
from abhinaya.stream.wire.messages import Gap, StreamEnded, Verdict

pytestmark = pytest.mark.processes
QUICK = dataclasses.replace(
    null_config(4.0), supervise=SuperviseConfig(silent_s=1.5, beat_s=0.2, backoff_s=0.1)
)


def spoken(track: bytes) -> list[tuple[int, int]]:
    """Where the segments of a recording are."""
    listener = Listener(VadConfig(), 1)
    found = listener.feed(to_float(track, "s16le").reshape(-1, 1)) + listener.finish()
    return [(piece.start, piece.end) for _, piece in found]


def check_whole(run: PushedRun, call: Call, seconds: float, gaps: int) -> None:
    """Check that a call is told from its beginning to its end, in order, with so many gaps."""
    for stream in call.streams:
        events = run.of(stream)
        assert [event.sequence for event in events] == list(range(len(events)))
        assert isinstance(events[-1], StreamEnded)
        assert events[-1].position == pytest.approx(seconds * SAMPLE_RATE, abs=2)
        assert sum(isinstance(event, Gap) for event in events) == gaps
        spans = [(e.start, e.end) for e in events if isinstance(e, Verdict | Gap)]
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans)), spans


@pytest.mark.parametrize(
    ("how", "victims", "gaps"),
    [
        (signal.SIGKILL, ("push",), 1),
        pytest.param(signal.SIGSTOP, ("push",), 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, ("hub",), 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, ("hub", "push"), 1, marks=pytest.mark.slow),
    ],
)
def test_calls_come_and_go_and_a_death_costs_at_most_a_gap(
    how: signal.Signals, victims: tuple[str, ...], gaps: int
) -> None:
    tracks, calls = demo(20), list[Call]()

    def body(run: PushedRun) -> None:
        def open_call(name: str) -> Call:
            calls.append(run.calls.open(name, PARTIES, LINEAR, source="a test"))
            return calls[-1]

        first = open_call("line:1")
        feed(first, tracks, 0, 10)
        with pytest.raises(CallError, match="a call of this name is open"):
            open_call("line:1")
        first.close()
        first.close()
        second, third = open_call("line:1"), open_call("line:2")  # while the first one ends
        assert second.streams == ("line:1~2/agent", "line:1~2/customer")
        feed(second, tracks, 0, 8)
        feed(third, tracks, 0, 8)
        until(lambda: run.started(third), "the third call")
        processes = run.run.supervisor
        before = {name: processes.pid(name) for name in victims}
        for pid in before.values():
            os.kill(pid or 0, how)
        feed(second, tracks, 8, 10)
        second.close("the line was cut")  # while nobody is there
        feed(third, tracks, 8, 12)
        until(lambda: all(processes.pid(n) not in (None, before[n]) for n in victims), "others")
        until(lambda: run.ended(second), "the end of the second call")
        feed(third, tracks, 12, 20)
        third.close()
        until(lambda: run.ended(*calls), "the ends")

    run = PushedRun(body, QUICK)
    first, second, third = calls
    assert run.code == 0
    assert {trouble.partition(":")[0] for trouble in run.troubles} == set(victims)
    check_whole(run, first, 10, 0)
    for stream, track in zip(first.streams, tracks, strict=True):
        verdicts = [(e.start, e.end) for e in run.of(stream) if isinstance(e, Verdict)]
        assert verdicts == spoken(track[:320_000])
    check_whole(run, third, 20, gaps)
    check_whole(run, second, 10, gaps)
    for stream in second.streams:
        assert run.of(stream)[-1].reason == "the line was cut"  # type: ignore[union-attr]
    assert "push" in victims or not any(call.dropped for call in calls)
