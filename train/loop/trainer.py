"""One loop for every recipe, on Hugging Face Accelerate: one device, several, or a CPU.

A run is a function of recipe, data and seed. Whatever is random in a batch (dropout, masking) is
drawn from a generator that is seeded anew by (seed, epoch, step, batch), so a resumed run, or one
on another number of devices, draws the same; what a state must hold is weights, optimiser and
position.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor

from abhinaya.models.checkpoint import Tensors
from abhinaya.models.errors import ModelError
from abhinaya.train.errors import Interrupted, TrainingError
from abhinaya.train.learners.base import Learner
from abhinaya.train.loop import saved_state
from abhinaya.train.loop.batch_order import Step, epoch_steps, rate_at, validation_batches
from abhinaya.train.loop.batches import Batch, read_batches
from abhinaya.train.loop.devices import prepared
from abhinaya.train.loop.examples import Examples
from abhinaya.train.loop.objective import Objective
from abhinaya.train.loop.progress import Journal
from abhinaya.train.loop.run_folder import Position, RunFolder
from abhinaya.train.loop.sharded import is_spread, spread_again, whole
from abhinaya.train.loop.stop import StopWish
from abhinaya.train.loop.validation import Figures, judge
from abhinaya.train.metrics import Numbers
from abhinaya.train.recipes.recipe import Recipe, TrainRecipe

NAMED: Final = 8
"""Files that a message about a batch names at most."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is put together from."""

    recipe: Recipe
    learner: Learner
    train: Examples
    validation: Examples
    lengths: tuple[Numbers, Numbers]
    """Of the training and of the validation clips, [N] each."""
    counts: tuple[int, ...]
    """Training clips of each class [C]; none if no label is learnt."""
    folder: RunFolder
    save_best: Callable[[Path, Tensors, Figures], None]


class Trainer:
    """A run, from any position to its end."""

    def __init__(self, accelerator: Accelerator, parts: Parts, journal: Journal) -> None:
        self._a, self._p, self._journal = accelerator, parts, journal
        self._stages = parts.recipe.all_stages
        for stage in self._stages:
            if stage.accumulate % accelerator.num_processes:
                raise TrainingError(
                    f"{accelerator.num_processes} processes cannot share the {stage.accumulate} "
                    "batches of a step evenly; set train.accumulate to a multiple, or start "
                    "another number of processes"
                )
        learning = [p for p in parts.learner.module.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(learning, **_settings(self._stages[0]))
        self._module, self._optimiser = prepared(accelerator, parts.learner.module, optimiser)
        self._position = Position()

    def resume(self) -> bool:
        """Go to the latest saved state; False if nothing was saved yet."""
        found = self._p.folder.position()
        if found is None:
            self._journal.go_on_from(0)
            return False
        path, self._position = found
        try:
            saved_state.get(path, self._learning(), self._optimiser)
        except (OSError, RuntimeError, ValueError, KeyError, ModelError) as error:
            raise TrainingError(
                f"{path}: cannot be loaded ({str(error).splitlines()[0]}); it is damaged, or of "
                "another kind of machine: continue where it was saved, or begin again elsewhere"
            ) from error
        self._journal.go_on_from(self._position.log_bytes)
        return True

    def run(self) -> Position:
        """Train to the end of the last stage.

        Raises:
            Interrupted: it was told to stop, and has saved its state.
            TrainingError: the loss is no number, or nothing can be written.
            DataError: audio cannot be read.

        """
        with StopWish() as stop:
            while self._more():
                self._run_epoch(stop)
        return self._position

    def _more(self) -> bool:
        """Go on to the next stage after the last epoch of one; False after the last of all.

        A finished run stays at the end of its last stage: with more epochs it goes on there.
        """
        position = self._position
        if position.epoch < self._stages[position.stage].epochs:
            return True
        if position.stage + 1 == len(self._stages):
            return False
        self._position = replace(position, stage=position.stage + 1, epoch=0, stale=0)
        return True

    # --- an epoch ---------------------------------------------------------------------------------

    def _run_epoch(self, stop: StopWish) -> None:
        position, parts = self._position, self._p
        stage = self._stages[position.stage]
        if position.epoch == 0 and position.step == 0 and position.stage:
            self._begin_stage(stage)
        number = self._epoch_number(position)
        seed = (parts.recipe.seed, number)
        steps = epoch_steps(parts.train.labels, parts.lengths[0], stage, seed)
        objective = Objective(stage.losses, parts.counts)
        batches = self._batches(steps[position.step :], stage, number)
        title = f"epoch {number + 1}/{sum(s.epochs for s in self._stages)}"
        started, losses = time.monotonic(), []
        parts.learner.learn()
        with self._journal.bar(title, len(steps), position.step) as told:
            for k in range(position.step, len(steps)):
                rate = rate_at(stage, position.epoch * len(steps) + k, stage.epochs * len(steps))
                loss, stopping = self._step(objective, batches, stage, (number, k), rate, stop)
                losses.append(loss)
                told(f"loss {loss:.4f}")
                self._position = replace(self._position, step=k + 1, taken=self._position.taken + 1)
                every = parts.recipe.run.save_every
                if stopping or (every and self._position.taken % every == 0):
                    self._save()
                if stopping:
                    raise Interrupted(
                        f"{parts.folder.path}: stopped after step {self._position.taken}, its "
                        "state is saved; go on with the same command and --resume"
                    )
        mean = float(np.mean(losses)) if losses else None
        self._end_epoch(objective, stage, title, mean, time.monotonic() - started)

    def _epoch_number(self, position: Position) -> int:
        """Count epochs through all stages, as if none had stopped early."""
        return sum(s.epochs for s in self._stages[: position.stage]) + position.epoch

    def _begin_stage(self, stage: TrainRecipe) -> None:
        """Start the optimiser afresh: what it remembers is of other losses and clips."""
        self._optimiser.state.clear()
        for group in self._optimiser.param_groups:
            group.update(_settings(stage))

    def _batches(self, steps: Sequence[Step], stage: TrainRecipe, number: int) -> Iterator[Batch]:
        """Read this process's batches of these steps ahead, in order."""
        rank, world = self._a.process_index, self._a.num_processes
        rows = [batch for step in steps for batch in step[rank::world]]
        parts = self._p
        return read_batches(
            rows,
            lambda i: parts.train.learnt(i, stage.target, number),
            parts.learner,
            parts.recipe.run.workers,
        )

    # --- a step -----------------------------------------------------------------------------------

    def _step(
        self,
        objective: Objective,
        batches: Iterator[Batch],
        stage: TrainRecipe,
        at: tuple[int, int],
        rate: float,
        stop: StopWish,
    ) -> tuple[float, bool]:
        """Make one step; its mean loss, and whether any process was told to stop."""
        own = stage.accumulate // self._a.num_processes
        total, names, bad = 0.0, list[str](), list[str]()
        for m in range(own):
            batch = next(batches)
            self._seed(*at, m * self._a.num_processes + self._a.process_index)
            with nullcontext() if m == own - 1 else self._a.no_sync(self._module):
                scores = self._p.learner.scores(self._module, self._here(batch))
                loss = objective(
                    scores, batch.shares.to(scores.device), batch.attributes.to(scores.device)
                )
                self._a.backward(loss / own)
            value = float(loss.detach())
            total += value / own
            names += batch.names
            bad += [] if np.isfinite(value) else batch.names
        told = torch.tensor([[total, float(bool(bad)), float(stop.wished)]], dtype=torch.float64)
        losses, faults, stops = self._a.gather(told.float().to(self._a.device)).cpu().unbind(1)
        if faults.any():
            raise self._not_finite("the loss", float(losses.mean()), bad, rate)
        limit = stage.clip_norm or float("inf")
        norm = float(self._a.clip_grad_norm_(self._module.parameters(), limit))
        if not np.isfinite(norm):
            raise self._not_finite("the gradient", norm, names, rate)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad()
        loss_mean = total if self._a.num_processes == 1 else float(losses.mean())
        self._journal.write(
            "step",
            taken=self._position.taken + 1,
            epoch=at[0],
            step=at[1],
            loss=loss_mean,
            norm=norm,
            rate=rate,
        )
        return loss_mean, bool(stops.any())

    def _seed(self, epoch: int, step: int, batch: int) -> None:
        """Make whatever is drawn next a function of where the run is."""
        sequence = np.random.SeedSequence((self._p.recipe.seed, epoch, step, batch))
        set_seed(int(sequence.generate_state(1)[0]))

    def _here(self, batch: Batch) -> dict[str, Any]:
        return {
            k: v.to(self._a.device) if isinstance(v, Tensor) else v for k, v in batch.inputs.items()
        }

    def _not_finite(
        self, what: str, value: float, names: Sequence[str], rate: float
    ) -> TrainingError:
        """Name the files of the batch, of whichever process had it."""
        found = list(dict.fromkeys(gather_object(list(names))))
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        saved = self._p.folder.states()
        last = f"the last state, {saved[-1]}, is from before" if saved else "nothing was saved yet"
        return TrainingError(
            f"{what} is {value} at step {self._position.taken + 1} (learning rate {rate:g}), in "
            f"the batch of {', '.join(found[:NAMED])}{more}; {last}. Look at these files, lower "
            "train.rate, or set precision = 'fp32'"
        )

    # --- between epochs ---------------------------------------------------------------------------

    def _end_epoch(
        self, objective: Objective, stage: TrainRecipe, title: str, loss: float | None, took: float
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
        self._journal.write("validation", taken=position.taken, better=better, **figures.values)
        trained = f"loss {loss:.4f}, " if loss is not None else ""
        self._journal.say(
            f"{title}: {trained}validation {figures}{', the best so far' if better else ''}, "
            f"{took:.0f} s"
        )
        if enough:
            self._journal.say(f"no better one in {position.stale} validations: the stage ends")
        epoch = stage.epochs if enough else position.epoch + 1
        self._position = replace(position, epoch=epoch, step=0)
        self._save()

    def _validate(self, objective: Objective, stage: TrainRecipe) -> Figures:
        parts, rank, world = self._p, self._a.process_index, self._a.num_processes
        every = validation_batches(parts.lengths[1], stage.batch)
        rows = every[rank::world]
        # Devices that share weights or buffers must all run as often: who has no batch left runs
        # one again, and what comes of it is dropped.
        again = every[: -(-len(every) // world) - len(rows)]
        batches = read_batches(
            [*rows, *again], parts.validation.judged, parts.learner, parts.recipe.run.workers
        )
        self._module.eval()
        found: list[tuple[int, list[float], list[float], list[float]]] = []
        with torch.no_grad():
            for k, batch in enumerate(batches):
                scores = parts.learner.scores(self._module, self._here(batch)).float().cpu()
                if k < len(rows):
                    found += zip(
                        rows[k],
                        scores.tolist(),
                        batch.shares.tolist(),
                        batch.attributes.tolist(),
                        strict=True,
                    )
        ordered = sorted(gather_object(found))
        scores, shares, known = (torch.tensor([row[i] for row in ordered]) for i in (1, 2, 3))
        return judge(scores, shares, known, objective, len(parts.counts))

    # --- what is kept -----------------------------------------------------------------------------

    def _save_best(self, figures: Figures) -> None:
        state = self._weights()  # every process has its part in it
        if self._a.is_main_process:
            self._p.folder.put_best(lambda folder: self._p.save_best(folder, state, figures))
        self._a.wait_for_everyone()

    def _weights(self) -> Tensors:
        """Give all weights; of those that are spread over devices only what learns.

        What is spread is a language model, and of one no checkpoint keeps the rest.
        """
        module = self._a.unwrap_model(self._module)
        learning = {name for name, _ in self._learning()}
        return {
            name: whole(tensor)
            for name, tensor in module.state_dict().items()
            if name in learning or not is_spread(tensor)
        }

    def _save(self) -> None:
        position = replace(self._position, log_bytes=self._journal.size)
        main = self._a.is_main_process
        self._a.wait_for_everyone()

        def fill(part: Path) -> None:
            saved_state.put(part, self._learning(), self._optimiser, main)
            self._a.wait_for_everyone()

        self._p.folder.put_state(position, fill, main)
        self._a.wait_for_everyone()

    def _learning(self) -> Iterator[tuple[str, Tensor]]:
        """Give the weights that learn, by names that other numbers of devices know."""
        module = self._a.unwrap_model(self._module)
        spread_again(module)
        return ((k, p) for k, p in module.named_parameters() if p.requires_grad)


def _settings(stage: TrainRecipe) -> dict[str, Any]:
    return {
        "lr": stage.rate,
        "betas": (stage.beta1, stage.beta2),
        "eps": stage.eps,
        "weight_decay": stage.weight_decay,
    }
