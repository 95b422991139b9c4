"""Everything that goes wrong with a run says what, where, and what to do; nothing is lost."""

from __future__ import annotations

import json
import resource
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from trainer_fakes import logged, shrunk, tones

from abhinaya.models.checkpoint import read
from abhinaya.train.cli import main
from abhinaya.train.errors import TrainingError
from abhinaya.train.loop.run_folder import Position, RunFolder
from abhinaya.train.loop.trainer import Trainer
from abhinaya.train.recipes.recipe import load_recipe


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tones(tmp_path / "tones")


class Run:
    """`abhinaya train s1`, tiny, and what it said."""

    def __init__(self, models: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings, self.out, self._capsys = shrunk("s1", models), out, capsys

    def __call__(self, manifest: Path, *more: str) -> tuple[int, str]:
        AcceleratorState._reset_state(True)
        changed = [word for s in self.settings for word in ("--set", s)]
        code = main(["s1", "--data", str(manifest), "--out", str(self.out), *changed, *more])
        return code, self._capsys.readouterr().err


@pytest.fixture
def run(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(models, tmp_path / "run", capsys)


def change(manifest: Path, i: int, **values: Any) -> None:
    """Change clip i of a manifest."""
    lines = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    lines[1 + i] |= values
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


# --- data -----------------------------------------------------------------------------------------


def test_a_file_that_breaks_off_is_named_and_the_run_can_go_on(run: Run, manifest: Path) -> None:
    """A header that promises audio, and none behind it: found only when it is read."""
    victim = manifest.parent / "b-fear-1.wav"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:44])
    run.settings += ["train.batch=4", "run.workers=1"]
    code, said = run(manifest)
    assert code == 1
    assert f"{victim}: " in said
    assert "Traceback" not in said
    assert "--resume" in said
    victim.write_bytes(whole)
    assert run(manifest, "--resume") == (0, "")


def test_a_class_without_a_clip_is_named(run: Run, tmp_path: Path) -> None:
    few = tones(tmp_path / "few", takes=8, labels=("angry", "happy", "sad"))
    code, said = run(few)
    assert code == 1
    assert "classes without a clip to train on: contempt, disgust, fear, neutral, surprise" in said
    run.settings.append('data.classes=["angry", "happy", "sad"]')
    run.out = tmp_path / "three"
    assert run(few)[0] == 0
    assert read(run.out / "best").extra["labels"] == ["angry", "happy", "sad"]


def write_float_wav(path: Path, samples: np.ndarray) -> None:
    data = samples.astype("<f4").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH",
        b"RIFF",
        36 + len(data),
        b"WAVE",
        b"fmt ",
        16,
        3,
        1,
        16_000,
        64_000,
        4,
        32,
    )
    path.write_bytes(head + struct.pack("<4sI", b"data", len(data)) + data)


def test_a_wave_that_is_not_a_number_is_named_alone_before_a_step_is_spoilt(
    run: Run, manifest: Path
) -> None:
    write_float_wav(manifest.parent / "a-happy-1.wav", np.full(9_000, np.nan))
    run.settings += ["train.batch=4", "train.accumulate=1", "train.epochs=2"]
    code, said = run(manifest)
    assert code == 1
    assert "a-happy-1.wav" in said
    assert said.count(".wav") == 1
    assert "abhinaya data check" in said
    for state in RunFolder(run.out).states():
        assert all(
            t.isfinite().all() for t in read(state / "learning.safetensors").tensors.values()
        )


def test_a_loss_that_grows_out_of_bounds_stops(run: Run, manifest: Path) -> None:
    run.settings += ["train.rate=1e30", "train.epochs=4", "train.clip_norm=0"]
    code, said = run(manifest)
    assert code == 1
    assert "is nan at step" in said or "is inf at step" in said
    assert "(learning rate 1e+30)" in said


# --- going on -------------------------------------------------------------------------------------


def test_what_a_folder_with_a_run_may_be_asked(run: Run, manifest: Path) -> None:
    code, said = run(manifest, "--resume")
    assert code == 1
    assert "holds no run; leave out --resume" in said
    assert run(manifest)[0] == 0
    log = (run.out / "log.jsonl").read_bytes()
    code, said = run(manifest)
    assert code == 1
    assert "holds a run already; continue it with --resume, or give another folder" in said
    assert run(manifest, "--resume", "--set", "run.workers=1") == (0, "")  # it is finished
    assert (run.out / "log.jsonl").read_bytes() == log
    for state in RunFolder(run.out).states():  # as if killed before the first was saved
        shutil.rmtree(state)
    assert run(manifest, "--resume")[0] == 0
    assert (run.out / "log.jsonl").read_bytes() == log


def test_another_recipe_or_other_data_is_refused_unless_asked_for(run: Run, manifest: Path) -> None:
    assert run(manifest)[0] == 0
    change(manifest, 3, votes={"sad": 5.0})
    more = ("--set", "train.epochs=2", "--set", "train.rate=1e-4", "--resume")
    code, said = run(manifest, *more)
    assert code == 1
    assert "train.epochs was 1, is 2; train.rate was 1e-05, is 0.0001; the data (its hash" in said
    assert run(manifest, *more, "--despite-changes")[0] == 0
    assert [line["rate"] for line in logged(run.out)] == [1e-5, 1e-5, 1e-4, 1e-4]


def test_what_is_damaged_is_named(run: Run, manifest: Path) -> None:
    assert run(manifest)[0] == 0
    for file in (RunFolder(run.out).states()[-1] / "learning.safetensors", run.out / "run.json"):
        file.write_bytes(file.read_bytes()[:100])
        code, said = run(manifest, "--resume")
        assert code == 1
        assert str(file.parent) in said
        assert "damaged" in said


# --- no room --------------------------------------------------------------------------------------


def test_a_full_disk_costs_nothing_that_was_saved(run: Run, manifest: Path) -> None:
    """The kernel refuses larger files, as a full disk or a quota would."""
    run.settings += ["train.epochs=2", "run.save_every=1", "train.rate=1e-3"]
    unbroken = run.out.with_name("unbroken")
    run.out, kept = unbroken, run.out
    assert run(manifest)[0] == 0
    run.out = kept
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        code, said = run(manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    assert "cannot be written" in said
    assert "make room and continue with --resume" in said
    assert not list(run.out.glob("*.part"))
    assert run(manifest, "--resume")[0] == 0
    assert logged(run.out) == logged(unbroken)


def test_too_little_room_is_said_before_hours_are_spent(
    run: Run, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    code, said = run(manifest)
    assert code == 1
    assert "has 0.0 GB free, and saving takes up to 0.0 GB" in said


def test_a_kill_between_two_renames_loses_no_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.put_best(lambda path: (path / "one").touch())
    folder.best.rename(tmp_path / "best.old")  # killed here
    (tmp_path / "best.part").mkdir()
    folder.mend()
    assert (folder.best / "one").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best"]


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.put_state(Position(taken=3), lambda path: None, main=True)

    def full(path: Path) -> None:
        (path / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match="No space left on device"):
        folder.put_state(Position(taken=4), full, main=True)
    found = folder.position()
    assert found is not None
    assert found[1].taken == 3
    assert [p.name for p in tmp_path.iterdir()] == ["state-1"]


# --- the machine ----------------------------------------------------------------------------------


def test_processes_that_cannot_share_a_step_are_refused() -> None:
    recipe = load_recipe("attributes")  # one batch a step
    parts: Any = SimpleNamespace(recipe=recipe)
    two: Any = SimpleNamespace(num_processes=2)
    log: Any = None
    with pytest.raises(TrainingError, match=r"2 processes cannot share the 1 batches of a step"):
        Trainer(two, parts, log)


@pytest.mark.parametrize(
    ("error", "said", "unsaid"),
    [
        (
            RuntimeError("[/pytorch/third_party/gloo/pair.cc:538] Read error: reset by peer"),
            "another process of this run has ended",
            "make room",
        ),
        (RuntimeError("[enforce fail] file write failed"), "make room", "another process"),
        (OSError("No space left on device"), "make room", "another process"),
    ],
)
def test_a_state_that_another_process_left_unfinished_is_not_blamed_on_the_disk(
    error: Exception, said: str, unsaid: str, tmp_path: Path
) -> None:
    def fill(path: Path) -> None:
        raise error

    with pytest.raises(TrainingError) as caught:
        RunFolder(tmp_path).put_state(Position(), fill, main=True)
    assert said in str(caught.value)
    assert unsaid not in str(caught.value)
    assert "--resume" in str(caught.value)
    assert not list(tmp_path.iterdir())
