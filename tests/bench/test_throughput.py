"""Processes are found and named; the command's own figures are plausible."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from abhinaya.bench.clips import duration_s
from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import resident_mib
from abhinaya.bench.throughput import children, measure, process_name
from abhinaya.stream.errors import ProcessError


def test_children_are_found_and_named_as_the_supervisor_named_them():
    command = [sys.executable, "-c", "print(flush=True); input()", "--name", "S1-0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        try:
            assert child.stdout.readline()  # it runs its own program by now
            assert child.pid in children(os.getpid())
            assert process_name(child.pid) == "S1-0"
            assert resident_mib(child.pid) > 1
        finally:
            child.kill()
    assert child.pid not in children(os.getpid())
    assert process_name(child.pid) == ""


@pytest.mark.slow
@pytest.mark.processes
def test_the_command_is_timed_and_weighed():
    done = measure([CALL], [])
    assert done["audio_s"] == pytest.approx(duration_s(CALL), abs=0.1)
    assert done["segments"] >= 5
    assert done["gaps"] == 0
    assert 0 < done["first_label_s"] < done["whole_s"]
    assert 0 < done["cpu"] < 1
    assert done["times_real_time"] == pytest.approx(done["audio_s"] / done["stream_s"])
    assert {"main", "hub", "front-0", "asr-0"} <= set(done["peak_mib"])
    assert max(done["peak_mib"].values()) < done["peak_sum_mib"] <= sum(done["peak_mib"].values())


@pytest.mark.processes
def test_a_failing_command_is_an_error_with_its_reason(tmp_path):
    with pytest.raises(ProcessError, match=r"nothing\.wav"):
        measure([tmp_path / "nothing.wav"], [])
