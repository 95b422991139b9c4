"""A run that is killed and resumed is the run that was not: the same losses, the same weights."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from trainer_fakes import LIMIT_S, finish, kept, logged, same, start, tones, wait_for, wavlm

from abhinaya.models.checkpoint import read

SETTINGS = (
    "data.balanced=0",
    "data.max_s=0.5",
    "augment.pair=0.3",
    "augment.channel=0.3",
    "train.epochs=3",
    "train.batch=4",
    "train.accumulate=2",
    "train.rate=1e-3",
    "train.schedule=cosine",
    "train.warmup=0.2",
    "run.save_every=3",
    "run.workers=1",
    "model.options.hidden=16",
)
"""24 steps, with everything in them that is drawn: order, crop, pairs, channels, dropout, masks."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("exact")
    return tones(folder / "tones", takes=4), wavlm(folder / "wavlm")


def command(files: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    manifest, encoder = files
    settings = [*SETTINGS, f"model.options.encoder={encoder}"]
    changed = [word for s in settings for word in ("--set", s)]
    return ["s1", "--data", str(manifest), "--out", str(out), *changed, *more]


def kill_at(arguments: Sequence[str], steps: int, number: int = signal.SIGKILL) -> int:
    """Start a run and signal its whole group once it has made `steps`; its exit code.

    SIGKILL is what a machine does that loses power, SIGTERM a scheduler whose time is up.
    """
    process = start(arguments)
    wait_for(process, Path(arguments[4]), steps)
    os.killpg(process.pid, number)
    return process.wait(LIMIT_S)


@pytest.fixture(scope="module")
def unbroken(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    finish(command(files, out))
    return out


@pytest.mark.processes
@pytest.mark.timeout(900)
def test_killed_at_random_steps_it_ends_where_the_unbroken_run_did(
    files: tuple[Path, Path], unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    drawn = random.Random(time.time_ns())
    first = drawn.randrange(1, 12)
    second = drawn.randrange(first + 4, 20)
    print(f"killed after step {first}, ended after step {second}")  # shown if it fails
    kill_at(command(files, out), first)
    assert kill_at(command(files, out, "--resume"), second, signal.SIGTERM) == 130
    said = Path(f"{out}.txt").read_text("utf-8")
    assert "its state is saved; continue with the same command and --resume" in said
    assert "Traceback" not in said
    finish(command(files, out, "--resume"))
    assert len(logged(out)) == 24
    assert logged(out) == logged(unbroken)
    assert logged(out, "validation") == logged(unbroken, "validation")
    assert same(kept(out), kept(unbroken))
    assert same(read(out / "best").tensors, read(unbroken / "best").tensors)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(900)
def test_two_processes_go_on_where_one_stopped(
    files: tuple[Path, Path], unbroken: Path, tmp_path: Path
) -> None:
    """A recipe means the same on any number of devices: DDP over gloo, on this CPU."""
    out = tmp_path / "run"
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    assert kill_at(command(files, out), 3, signal.SIGTERM) == 130
    alone = len(logged(out))
    assert alone < 20
    finish(command(files, out, "--resume"), launch)
    said = Path(f"{out}.txt").read_text("utf-8")
    assert "on 2 x cpu" in said
    assert said.count(f"continuing after step {alone}") == 1  # one of them talks
    one, two = ([line["loss"] for line in logged(run)] for run in (unbroken, out))
    assert len(two) == 24
    assert two == pytest.approx(one, rel=1e-3)  # sums in another order
    assert two[: alone + 1] == pytest.approx(one[: alone + 1], rel=1e-5)
