"""Language models over two processes, each holding a part of every layer: FSDP over gloo, on CPUs.

The settings of accelerate are those of recipes/fsdp.yaml, read as `accelerate launch` reads them.
"""

from __future__ import annotations

import importlib.resources
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from trainer_fakes import LIMIT_S, finish, kept, logged, same, shrunk, start, wait_for

from abhinaya.models.base import Ballot, Utterance
from abhinaya.models.checkpoint import read
from abhinaya.models.registry import load
from abhinaya.train.cli import main
from abhinaya.train.errors import TrainingError
from abhinaya.train.loop import devices
from abhinaya.train.loop.checkpoint_card import described
from abhinaya.train.recipes.recipe import load_recipe

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
MORE = (
    "train.batch=6",
    "train.accumulate=2",
    "train.epochs=3",
    "train.rate=1e-3",
    "run.save_every=1",
)
"""Two steps an epoch; three validation batches, which two processes cannot share evenly."""


@pytest.fixture(scope="module")
def sharding() -> dict[str, str]:
    """What `accelerate launch --config_file fsdp.yaml` sets for its processes."""
    file = importlib.resources.files("abhinaya.train.recipes") / "fsdp.yaml"
    said = ["--config_file", str(file), "--num_processes", "2", "-m", "abhinaya.train"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(said))
    made: dict[str, str] = prepare_multi_gpu_env(args)
    found = {k: v for k, v in made.items() if k.startswith(("ACCELERATE_USE", "FSDP_"))}
    assert found["FSDP_TRANSFORMER_CLS_TO_WRAP"] == "LlamaDecoderLayer"
    return found


def command(recipe: str, manifest: Path, models: Path, out: Path, *more: str) -> list[str]:
    changed = [word for s in [*shrunk(recipe, models), *MORE] for word in ("--set", s)]
    return [recipe, "--data", str(manifest), "--out", str(out), *changed, *more]


def kill_one_at(arguments: Sequence[str], sharding: dict[str, str], steps: int) -> None:
    """Kill one of the two without warning once `steps` are made: the launcher ends the other."""
    launcher = start(arguments, TWO, sharding)
    wait_for(launcher, Path(arguments[4]), steps)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert launcher.wait(LIMIT_S) != 0


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_sharded_run_that_is_killed_ends_where_the_unbroken_one_did(
    manifest: Path, sharding: dict[str, str], tmp_path: Path
) -> None:
    whole, cut, alone = (tmp_path / name for name in ("whole", "cut", "alone"))
    said = finish(command("t2", manifest, tmp_path, whole), TWO, sharding)
    assert "on 2 x cpu, sharded" in said
    assert said.count("best validation") == 1  # one of them talks
    kill_one_at(command("t2", manifest, tmp_path, cut), sharding, 3)
    assert 3 <= len(logged(cut)) < 6
    assert "continuing after step" in finish(
        command("t2", manifest, tmp_path, cut, "--resume"), TWO, sharding
    )
    assert len(logged(cut)) == 6
    assert logged(cut) == logged(whole)
    assert logged(cut, "validation") == logged(whole, "validation")
    for file in ("learning", "optimiser"):
        assert same(kept(cut, file), kept(whole, file))
    assert same(read(cut / "best").tensors, read(whole / "best").tensors)
    learning = kept(whole, "learning")
    moments = {f"{key}/{name}" for name in learning for key in ("step", "exp_avg", "exp_avg_sq")}
    assert kept(whole, "optimiser").keys() == moments  # of all that learns, the head too

    assert main(command("t2", manifest, tmp_path, alone)) == 0
    for kind in ("step", "validation"):
        one, two = ([line["loss"] for line in logged(run, kind)] for run in (alone, whole))
        assert two == pytest.approx(one, rel=1e-5)  # sums in another order
    assert read(whole / "best").tensors.keys() == read(alone / "best").tensors.keys()


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_sharded_run_goes_on_with_one_process_and_is_what_the_monitor_loads(
    manifest: Path, sharding: dict[str, str], tmp_path: Path
) -> None:
    """Speech and transcript, less memory, bf16: all that the larger recipes do."""
    more = ["--set", "precision=bf16", "--set", "train.epochs=1"]
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    finish(command("st1", manifest, tmp_path, shared, *more), TWO, sharding)
    assert main(command("st1", manifest, tmp_path, alone, *more)) == 0
    AcceleratorState._reset_state(True)
    losses = [[line["loss"] for line in logged(run)] for run in (shared, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    state = kept(shared, "learning")
    assert {t.dtype for t in state.values()} == {t.dtype for t in kept(alone, "learning").values()}
    frozen = [k for k in read(shared / "best").tensors if "llama_model" in k and "lora" not in k]
    assert not frozen
    best = described(shared / "best")
    noise = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    (said,) = load(best.model, best.options).vote([Utterance(0.1 * noise, transcript="it is")])
    assert isinstance(said, Ballot)
    more[-1] = "train.epochs=2"
    on = command("st1", manifest, tmp_path, shared, *more, "--resume", "--despite-changes")
    assert main(on) == 0
    assert [line["taken"] for line in logged(shared)] == [1, 2, 3, 4]


# --- what cannot be -------------------------------------------------------------------------------


def told(monkeypatch: pytest.MonkeyPatch, recipe: str, kind: DistributedType, plugin: Any) -> str:
    """What a recipe says to being started for `kind`."""
    state = SimpleNamespace(fsdp_plugin=plugin)
    fake = SimpleNamespace(distributed_type=kind, state=state, device=SimpleNamespace(type="cpu"))
    monkeypatch.setattr(devices, "Accelerator", lambda **_: fake)
    with pytest.raises(TrainingError) as caught:
        devices.accelerator_for(load_recipe(recipe))
    return str(caught.value)


def test_all_that_is_wrong_with_a_sharded_start_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugin = SimpleNamespace(
        fsdp_version=1, cpu_ram_efficient_loading=True, activation_checkpointing=True
    )
    said = told(monkeypatch, "s1", DistributedType.FSDP, plugin)
    for part in (
        "it is for language models, and wavlm fits on one device: use accelerate launch",
        "fsdp_version must be 2",
        "fsdp_cpu_ram_efficient_loading must be false",
        "--set model.options.checkpointing=true does the same",
        "recipes/fsdp.yaml is a file that works",
    ):
        assert part in said


def test_other_ways_to_share_a_model_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    said = told(monkeypatch, "s2", DistributedType.DEEPSPEED, None)
    assert "started for DEEPSPEED: the trainer runs on one device, by DDP" in said


def test_layers_that_the_model_does_not_have_are_named() -> None:
    def prepare(*_: object) -> None:
        raise ValueError("Could not find the transformer layer class X in the model.")

    fake: Any = SimpleNamespace(distributed_type=DistributedType.FSDP, prepare=prepare)
    module: Any = SimpleNamespace(forward=lambda: None)
    optimiser: Any = None
    with pytest.raises(TrainingError, match=r"class X in the model.*layer_cls_to_wrap"):
        devices.prepared(fake, module, optimiser)
