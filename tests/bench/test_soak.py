"""The soak's bookkeeping finds every planted loss; a soak in small loses nothing."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import fakes
import numpy as np
import pytest

from abhinaya.bench import soak
from abhinaya.bench.demo import CALL
from abhinaya.bench.soak import Account, Fault, Outcome, slope_per_hour
from abhinaya.stream.wire.messages import Event, StreamEnded

EXPECTED = {"call": [(n * fakes.SECOND, n * fakes.SECOND + 16) for n in range(3)]}


def ended(sequence: int) -> StreamEnded:
    return StreamEnded(stream="call", sequence=sequence, position=9 * fakes.SECOND)


def losses(*events: Event) -> str:
    account = Account(EXPECTED)
    for event in events:
        account.event(event, 0.0)
    return "; ".join(account.losses())


def test_verdicts_gaps_and_revisions_that_cover_everything_are_no_fault():
    told = (fakes.verdict(0), fakes.gap(1), fakes.verdict(0, revision=1), fakes.verdict(2))
    assert losses(*told, ended(3)) == ""


@pytest.mark.parametrize(
    ("events", "loss"),
    [
        ([fakes.verdict(0), fakes.verdict(2), ended(3)], "holes"),
        ([fakes.verdict(0), fakes.verdict(1), fakes.verdict(1), ended(3)], "twice"),
        ([fakes.verdict(0), fakes.verdict(1), ended(2)], "1 of 3 segments lost"),
        ([fakes.verdict(0), fakes.verdict(1), fakes.verdict(2)], "never reported"),
        ([fakes.verdict(0), fakes.verdict(1), fakes.verdict(2), ended(4)], "ended after 4"),
        ([*map(fakes.verdict, range(4)), ended(4)], "4 segments were reported of 3"),
        ([fakes.verdict(0), fakes.verdict(1, end=99_999), fakes.verdict(2), ended(3)], "lost"),
    ],
)
def test_every_kind_of_loss_is_found(events, loss):
    assert loss in losses(*events)


def test_a_slope_is_found_across_restarts_that_change_the_level():
    # 36 MiB an hour in two lives, 100 MiB apart; the first 10 s of each are a steep start
    lives = [
        [(t, level + 0.01 * t + max(0, 10 - (t - begin))) for t in range(begin, begin + 60)]
        for begin, level in ((0, 50.0), (60, 150.0))
    ]
    slope = slope_per_hour(lives, settle_s=10)
    assert (slope.low, slope.value, slope.high) == pytest.approx((36.0, 36.0, 36.0), abs=1e-3)
    assert slope_per_hour(lives, settle_s=59) is None


def test_the_interval_of_a_slope_covers_it_also_when_neighbours_are_alike():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        steady = 0.8 * np.convolve(rng.standard_normal(240), np.ones(4) / 4, "same")
        slope = slope_per_hour([[(10.0 * i, 50 + x) for i, x in enumerate(steady)]], 0)
        covered += slope.low <= 0 <= slope.high
    assert covered >= 180


def test_a_service_that_never_came_back_is_a_loss():
    fault = Fault(1.0, "kill", "S1-0", ready_s=0.5)
    outcome = Outcome(1.0, 3, 3, 0, 0, (), (fault,), {}, {}, 0.0)
    assert not outcome.lost
    fault.ready_s = None
    assert outcome.lost


def test_each_error_of_a_process_is_printed_once():
    code = (
        "import logging; from abhinaya.bench.monitored import _Observer;"
        "_Observer().trouble('odd'); logging.getLogger('abhinaya.run').error('odd')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "odd\n"


def test_without_files_there_is_still_something_to_play(monkeypatch, tmp_path):
    seen: list[argparse.Namespace] = []

    def stop(options: argparse.Namespace) -> Outcome:
        seen.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(soak, "soak", stop)
    with pytest.raises(KeyboardInterrupt):
        soak.main([])
    assert (seen[0].minutes, seen[0].streams) == (30.0, 2)
    assert (seen[0].kill_every, seen[0].hang_every) == (120.0, 300.0)
    monkeypatch.setattr(soak, "E2E", tmp_path)
    assert soak._sources([]) == [CALL]


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(300)
def test_some_seconds_of_kills_and_a_hang_loses_nothing(tmp_path, capsys):
    path = tmp_path / "soak.json"
    flags = ["--minutes", "0.8", "--kill-every", "8", "--hang-every", "17", "--cut-every", "12"]
    flags += ["--short", "4", "--json", str(path)]
    code = soak.main([str(CALL), *flags])
    printed = capsys.readouterr().out
    assert "LOST" not in printed
    assert code == 0
    figures = json.loads(path.read_text())["figures"]
    assert figures["segments"] == figures["verdicts"] + figures["gaps"] >= 8
    kinds = [fault["kind"] for fault in figures["faults"]]
    assert {"kill", "hang", "cut"} <= set(kinds)
    assert all(fault["ready_s"] < 20 for fault in figures["faults"])
