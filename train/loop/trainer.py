"""The training loop of every recipe, on Hugging Face Accelerate: a CPU, one device or several.

The result depends only on recipe, data and seed. The generators of dropout and masking are seeded
by (seed, epoch, step, batch), so a resumed run, or one on another number of devices, draws the
same numbers. A saved state therefore has only weights, optimiser and position.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from abhinaya.models.checkpoint import Tensors
from abhinaya.models.errors import ModelError
from abhinaya.models.interrupts import Signalled, install
from abhinaya.models.published.feature_cache import FeatureCache
from abhinaya.models.published.fusion import Mix, mixed
from abhinaya.train.errors import Interrupted, TrainingError
from abhinaya.train.learners.base import Learner
from abhinaya.train.loop import saved_state
from abhinaya.train.loop.batches import (
    Batch,
    Step,
    epoch_steps,
    rate_factor,
    read_batches,
    validation_batches,
)
from abhinaya.train.loop.devices import batch_advice, prepared
from abhinaya.train.loop.examples import Examples
from abhinaya.train.loop.objective import Figures, Objective, judge, weights_of
from abhinaya.train.loop.run_folder import Position, RunFolder
from abhinaya.train.loop.run_log import RunLog
from abhinaya.train.metrics import Numbers
from abhinaya.train.recipes.recipe import Recipe
from abhinaya.train.recipes.tables import TrainRecipe

NAMED: Final = 8
"""Most files that an error message about a batch names."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that the trainer needs for a run."""

    recipe: Recipe
    learner: Learner
    train: Examples
    validation: Examples
    lengths: tuple[Numbers, Numbers]
    """[N] lengths of the training clips, and of the validation clips; see `Corpus.lengths`."""
    counts: tuple[int, ...]
    """[C] training clips of each class; empty if no loss is on labels."""
    folder: RunFolder
    save_best: Callable[[Path, Tensors, Figures], None]
    missed: tuple[str, ...] = ()
    """Labels of validation clips without an answer."""
    cache: FeatureCache | None = None
    """Features of frozen encoders; the log counts its hits and misses."""


class Trainer:
    """Trains from any position to the end of a run."""

    def __init__(self, accelerator: Accelerator, parts: Parts, log: RunLog) -> None:
        self._a, self._p, self._log = accelerator, parts, log
        self._stages = parts.recipe.all_stages
        for stage in self._stages:
            if stage.accumulate % accelerator.num_processes:
                raise TrainingError(
                    f"{accelerator.num_processes} processes cannot share the {stage.accumulate} "
                    "batches of a step evenly; set train.accumulate to a multiple, or start "
                    "another number of processes"
                )
        parted = _parted(parts.learner.module, {k for s in self._stages for k in s.rates})
        self._parts = tuple(parted)
        groups = [{"params": weights} for weights in parted.values()]
        optimiser = torch.optim.AdamW(groups, **_settings(self._stages[0]))
        self._module, self._optimiser = prepared(accelerator, parts.learner.module, optimiser)
        self._bare: Any = accelerator.unwrap_model(self._module)
        self._position = Position()

    def resume(self) -> bool:
        """Load the latest saved state; return False if there is none."""
        found = self._p.folder.position()
        if found is None:
            self._log.go_on_from(0)
            return False
        path, self._position = found
        try:
            saved_state.get(path, self._bare, self._optimiser.optimizer)
        except (OSError, RuntimeError, ValueError, KeyError, ModelError) as error:
            raise TrainingError(
                f"{path}: cannot be loaded ({str(error).splitlines()[0]}); it is damaged, or of "
                "another kind of machine: continue there, or start again in another folder"
            ) from error
        self._log.go_on_from(self._position.log_bytes)
        return True

    def run(self) -> Position:
        """Train to the end of the last stage.

        Raises Interrupted: the user stopped it, and its state is saved; TrainingError: the loss is
        not finite, or a file cannot be written; DataError: audio cannot be read.
        """
        with _stop_requests() as stop_requested:
            while self._more():
                self._run_epoch(stop_requested)
        return self._position

    def _more(self) -> bool:
        """Move to the next stage after the last epoch of one; return False at the end of the run.

        A finished run stays at the end of its last stage, so that it can be resumed with more
        epochs.
        """
        position = self._position
        if position.epoch < self._stages[position.stage].epochs:
            return True
        if position.stage + 1 == len(self._stages):
            return False
        self._position = replace(position, stage=position.stage + 1, epoch=0, stale=0)
        return True

    # --- an epoch ---------------------------------------------------------------------------------

    def _run_epoch(self, stop_requested: Callable[[], bool]) -> None:
        position, parts, run = self._position, self._p, self._p.recipe.run
        stage = self._stages[position.stage]
        if position.stage and (position.epoch, position.step) == (0, 0):
            self._optimiser.state.clear()  # moments of the previous stage's losses
            for group in self._optimiser.param_groups:
                group.update(_settings(stage))
        # epochs are numbered through all stages, as if none had stopped early
        number = sum(s.epochs for s in self._stages[: position.stage]) + position.epoch
        seed = (parts.recipe.seed, number)
        classes = parts.recipe.data.classes
        neutral = classes.index("neutral") if "neutral" in classes else 0
        steps = epoch_steps(parts.train.labels, parts.lengths[0], stage, seed, neutral)
        objective = Objective(stage.losses, parts.counts, parts.learner.outputs)
        batches = self._batches(steps[position.step :], stage, number)
        title = f"epoch {number + 1}/{sum(s.epochs for s in self._stages)}"
        started, losses = time.monotonic(), []
        self._module.train()
        with self._log.bar(title, len(steps), position.step) as shown:
            for k in range(position.step, len(steps)):
                done, of = position.epoch * len(steps) + k, stage.epochs * len(steps)
                factor = rate_factor(stage, done, of)
                loss, stop = self._step(
                    objective, batches, stage, (number, k), factor, stop_requested
                )
                losses.append(loss)
                shown(f"loss {loss:.4f}")
                self._position = replace(self._position, step=k + 1, taken=self._position.taken + 1)
                if stop or (run.save_every and self._position.taken % run.save_every == 0):
                    self._save()
                if stop:
                    raise Interrupted(
                        f"{parts.folder.path}: stopped after step {self._position.taken}; its "
                        "state is saved; continue with the same command and --resume"
                    )
        trained = f"loss {np.mean(losses):.4f}, " if losses else ""
        if not number:
            trained += batch_advice(self._a.device, stage.batch)
        self._end_epoch(objective, stage, title, trained, time.monotonic() - started)

    def _batches(self, steps: Sequence[Step], stage: TrainRecipe, number: int) -> Iterator[Batch]:
        """Return this process's batches of `steps`, in order, read ahead."""
        rank, world = self._a.process_index, self._a.num_processes
        rows = [batch for step in steps for batch in step[rank::world]]
        parts = self._p
        return read_batches(
            rows,
            lambda i: parts.train.learnt(i, stage.target, number),
            parts.learner,
            parts.recipe.run.workers,
        )

    def _step(
        self,
        objective: Objective,
        batches: Iterator[Batch],
        stage: TrainRecipe,
        at: tuple[int, int],
        factor: float,
        stop_requested: Callable[[], bool],
    ) -> tuple[float, bool]:
        """Make one step; return its mean loss, and whether any process should stop."""
        own, rate = stage.accumulate // self._a.num_processes, factor * stage.rate
        total, names, bad = 0.0, list[str](), list[str]()
        for m in range(own):
            batch = next(batches)
            self._seed(*at, m * self._a.num_processes + self._a.process_index)
            mix = _drawn_mix(stage, len(batch.names))
            targets = mixed(batch.targets, mix) if mix else batch.targets
            with nullcontext() if m == own - 1 else self._a.no_sync(self._module):
                loss = objective(self._scores(batch, mix), targets) + objective.penalty(self._bare)
                self._a.backward(loss / own)
            value = float(loss.detach())
            total += value / own
            names += batch.names
            bad += [] if np.isfinite(value) else batch.names
        own_row = torch.tensor([[total, float(bool(bad)), float(stop_requested())]])
        losses, faults, stops = self._a.gather(own_row.to(self._a.device)).cpu().unbind(1)
        if faults.any():
            raise self._not_finite("the loss", float(losses.mean()), bad, rate)
        limit = stage.clip_norm or float("inf")
        norm = float(self._a.clip_grad_norm_(self._module.parameters(), limit))
        if not np.isfinite(norm):
            raise self._not_finite("the gradient", norm, names, rate)
        for group, part in zip(self._optimiser.param_groups, self._parts, strict=True):
            group["lr"] = factor * stage.rates.get(part, stage.rate)
        self._optimiser.step()
        self._optimiser.zero_grad()
        mean = total if self._a.num_processes == 1 else float(losses.mean())
        values = {"epoch": at[0], "step": at[1], "loss": mean, "norm": norm, "rate": rate}
        self._log.write("step", taken=self._position.taken + 1, **values)
        return mean, bool(stops.any())

    def _seed(self, epoch: int, step: int, batch: int) -> None:
        """Seed all generators from the position of the run."""
        sequence = np.random.SeedSequence((self._p.recipe.seed, epoch, step, batch))
        set_seed(int(sequence.generate_state(1)[0]))

    def _scores(self, batch: Batch, mix: Mix | None = None) -> Tensor:
        here = {
            k: v.to(self._a.device) if isinstance(v, Tensor) else v for k, v in batch.inputs.items()
        }
        if mix:
            here["mix"] = mix
        return self._p.learner.scores(self._module, here)

    def _not_finite(
        self, what: str, value: float, names: Sequence[str], rate: float
    ) -> TrainingError:
        """Return an error that names the files of the batch, in all processes."""
        found = list(dict.fromkeys(gather_object(list(names))))
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        saved = self._p.folder.states()
        last = (
            f"the last saved state, {saved[-1]}, is from before this step"
            if saved
            else "nothing was saved yet"
        )
        return TrainingError(
            f"{what} is {value} at step {self._position.taken + 1} (learning rate {rate:g}), in "
            f"the batch of {', '.join(found[:NAMED])}{more}; {last}. Check these files, lower "
            "train.rate, or set precision = 'fp32'"
        )

    # --- between epochs ---------------------------------------------------------------------------

    def _end_epoch(
        self, objective: Objective, stage: TrainRecipe, title: str, trained: str, took_s: float
    ) -> None:
        figures = self._validate(objective, stage)
        position = self._position
        better = position.best is None or figures.score > position.best
        if better:
            position = replace(position, best=figures.score, best_at=position.taken, stale=0)
            self._save_best(figures)
        else:
            position = replace(position, stale=position.stale + 1)
        enough = bool(stage.patience) and position.stale >= stage.patience
        self._log.write("validation", taken=position.taken, better=better, **figures.values)
        self._log.say(
            f"{title}: {trained}validation {figures}{', the best so far' if better else ''}, "
            f"{took_s:.0f} s"
        )
        if self._p.cache is not None:
            counts = self._p.cache.counts()
            self._log.write("cache", taken=position.taken, **counts)
            self._log.say(f"features: {counts['hits']} from the cache, {counts['misses']} computed")
        if enough:
            self._log.say(f"no better result in {position.stale} validations: the stage ends")
        epoch = stage.epochs if enough else position.epoch + 1
        self._position = replace(position, epoch=epoch, step=0)
        self._save()

    def _validate(self, objective: Objective, stage: TrainRecipe) -> Figures:
        parts, rank, world = self._p, self._a.process_index, self._a.num_processes
        every = validation_batches(parts.lengths[1], stage.batch)
        rows = every[rank::world]
        # Devices that share weights must all run equally often. A process without a batch left
        # repeats one and drops the result.
        again = every[: -(-len(every) // world) - len(rows)]
        batches = read_batches(
            [*rows, *again], parts.validation.judged, parts.learner, parts.recipe.run.workers
        )
        self._module.eval()
        found: list[tuple[int, list[float], list[float]]] = []
        with torch.no_grad():
            for k, batch in enumerate(batches):
                scores = self._scores(batch).float().cpu()
                if k < len(rows):
                    found += zip(rows[k], scores.tolist(), batch.targets.tolist(), strict=True)
        ordered = sorted(gather_object(found))
        scores, targets = (torch.tensor([row[i] for row in ordered]) for i in (1, 2))
        return judge(scores, targets, objective, parts.recipe.judged_by, parts.missed)

    # --- saving -----------------------------------------------------------------------------------

    def _save_best(self, figures: Figures) -> None:
        # Only language models are divided over devices; their checkpoints have no frozen weights.
        divided = isinstance(self._bare, FSDPModule)
        state = saved_state.learnt(self._bare) if divided else dict(self._bare.state_dict())
        if self._a.is_main_process:
            self._p.folder.put_best(lambda folder: self._p.save_best(folder, state, figures))
        self._a.wait_for_everyone()

    def _save(self) -> None:
        position = replace(self._position, log_bytes=self._log.size)
        main = self._a.is_main_process
        self._a.wait_for_everyone()

        def fill(part: Path) -> None:
            saved_state.put(part, self._bare, self._optimiser.optimizer, main)
            self._a.wait_for_everyone()

        self._p.folder.put_state(position, fill, main)
        self._a.wait_for_everyone()


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal came (Ctrl-C); a second one stops at once."""
    requested = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            raise Signalled(number)
        requested = True

    before = install(note)
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settings(stage: TrainRecipe) -> dict[str, Any]:
    return {
        "lr": stage.rate,
        "betas": (stage.beta1, stage.beta2),
        "eps": stage.eps,
        "weight_decay": stage.weight_decay,
    }


def _parted(module: nn.Module, parts: set[str]) -> dict[str, list[nn.Parameter]]:
    """Return the trained weights by the longest of `parts` that their names begin with, or ""."""
    of: dict[str, str] = {}
    for part in ("", *sorted(parts, key=len)):
        of |= dict.fromkeys(weights_of(module, part, "train.rates"), part)
    found: dict[str, list[nn.Parameter]] = {}
    for name, weight in weights_of(module, "", "train.rates").items():
        found.setdefault(of[name], []).append(weight)
    return found


def _drawn_mix(stage: TrainRecipe, size: int) -> Mix | None:
    """Draw for a batch whether and how it is mixed; torch's generator is seeded by its position."""
    if not stage.mixup or float(torch.rand(())) >= stage.mixup:
        return None
    beta = torch.full((size,), stage.mixup_beta)
    return torch.distributions.Beta(beta, beta).sample(), torch.randperm(size)
