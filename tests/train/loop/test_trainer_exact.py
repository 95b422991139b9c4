"""A run that is killed and resumed is the run that was not: the same losses, the same weights."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from trainer_fakes import logged, tones, wavlm

from abhinaya.models.checkpoint import Tensors, read
from abhinaya.train.loop.run_folder import RunFolder

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
LIMIT_S = 240.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("exact")
    return tones(folder / "tones", takes=4), wavlm(folder / "wavlm")


def command(files: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    manifest, encoder = files
    settings = [*SETTINGS, f"model.options.encoder={encoder}"]
    changed = [word for s in settings for word in ("--set", s)]
    return ["s1", "--data", str(manifest), "--out", str(out), *changed, *more]


def start(arguments: Sequence[str], *launch: str) -> subprocess.Popen[bytes]:
    log = open(f"{arguments[4]}.txt", "ab")  # noqa: SIM115 - the child's for its life
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(
        [sys.executable, *launch, "-m", "abhinaya.train", *arguments],
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,
    )


def finish(arguments: Sequence[str], *launch: str) -> None:
    code = start(arguments, *launch).wait(LIMIT_S)
    assert code == 0, Path(f"{arguments[4]}.txt").read_text("utf-8")[-2_000:]


def kill_at(arguments: Sequence[str], steps: int, number: int = signal.SIGKILL) -> int:
    """Start a run and signal its whole group once it has made `steps`; its exit code.

    SIGKILL is what a machine does that loses power, SIGTERM a scheduler whose time is up.
    """
    process = start(arguments)
    log, until = Path(arguments[4]) / "log.jsonl", time.monotonic() + LIMIT_S
    while not log.exists() or log.read_bytes().count(b'"step"') < steps:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.002)
    os.killpg(process.pid, number)
    return process.wait(LIMIT_S)


def weights(out: Path) -> Tensors:
    return read(RunFolder(out).states()[-1] / "learning.safetensors").tensors


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(one[k].equal(other[k]) for k in one)


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
    assert "its state is saved; go on with the same command and --resume" in said
    assert "Traceback" not in said
    finish(command(files, out, "--resume"))
    assert len(logged(out)) == 24
    assert logged(out) == logged(unbroken)
    assert logged(out, "validation") == logged(unbroken, "validation")
    assert same(weights(out), weights(unbroken))
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
    finish(command(files, out, "--resume"), *launch)
    said = Path(f"{out}.txt").read_text("utf-8")
    assert "on 2 x cpu" in said
    assert said.count(f"continuing after step {alone}") == 1  # one of them talks
    one, two = ([line["loss"] for line in logged(run)] for run in (unbroken, out))
    assert len(two) == 24
    assert two == pytest.approx(one, rel=1e-3)  # sums in another order
    assert two[: alone + 1] == pytest.approx(one[: alone + 1], rel=1e-5)
