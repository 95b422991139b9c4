"""Runs a recipe: checks the data, builds the model, trains it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from abhinaya.models.inference import place
from abhinaya.models.labels import ATTRIBUTES
from abhinaya.models.published.feature_cache import FeatureCache
from abhinaya.models.published.specs import NetworkSpec
from abhinaya.models.published.wavlm import WaveNorm
from abhinaya.train.command import Say
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.errors import DataError, TrainingError
from abhinaya.train.learners.base import Learner, Outputs
from abhinaya.train.learners.llama import llama_learner
from abhinaya.train.learners.network import network_learner
from abhinaya.train.learners.salmonn import salmonn_learner
from abhinaya.train.learners.wavlm import wavlm_learner
from abhinaya.train.loop.checkpoint_card import PROFILE, CheckpointCard
from abhinaya.train.loop.corpus import Corpus, choose, without_short
from abhinaya.train.loop.devices import accelerator_for, is_sharded
from abhinaya.train.loop.examples import GENDERS, Examples, class_counts, secondary_names
from abhinaya.train.loop.run_folder import Position, RunFolder
from abhinaya.train.loop.run_log import RunLog
from abhinaya.train.loop.trainer import Parts, Trainer
from abhinaya.train.metrics import Numbers
from abhinaya.train.recipes.learner_options import (
    LlamaOptions,
    Options,
    SalmonnOptions,
    WavlmOptions,
    needs,
)
from abhinaya.train.recipes.recipe import Recipe

NORM_CLIPS: Final = 500
"""Training clips, drawn at random, to measure mean and deviation of the samples."""


@dataclass(frozen=True, slots=True)
class Job:
    """Arguments of one run."""

    recipe: Recipe
    manifest: Manifest
    out: Path
    resume: bool = False
    despite_changes: bool = False
    listed: Sequence[str] = ()
    """Names of the validation clips, if the recipe has a list."""
    made_by: str = ""
    """The command line, written to run.json and the checkpoint."""


def train(job: Job, say: Say = print) -> Position:
    """Train, and write the best checkpoint to `job.out`/best.

    Raises DataError: the data is missing, broken, or not divided by speaker; ModelError: a
    pre-trained model of the recipe cannot be loaded; TrainingError: the run cannot start or
    continue; `Interrupted`: the user stopped it.
    """
    accelerator = accelerator_for(job.recipe)
    main = accelerator.is_main_process
    recipe, cache = _with_cache(job.recipe, say if main else lambda line: None)
    job = dataclasses.replace(job, recipe=recipe)
    reads = needs(recipe.options)
    corpus = choose(job.manifest, recipe, reads, job.listed)
    norm = _norm(recipe, corpus)
    set_seed(recipe.seed)
    outputs = outputs_of(recipe, corpus)
    bf16 = accelerator.mixed_precision == "bf16"
    start = recipe.model.start
    learner = build_learner(recipe.options, outputs, accelerator.device, bf16, norm, start, cache)
    if learner.shortest:
        corpus = without_short(corpus, learner.shortest)
    folder = _open(job, corpus, accelerator)
    _require_room(learner, job.out)
    learnt, judged = (
        Examples(corpus.root, clips, recipe, reads, outputs)
        for clips in (corpus.train, corpus.validation)
    )
    counts = class_counts(learnt.labels, recipe.data.classes) if recipe.gives_labels else ()
    card = CheckpointCard(
        labels=outputs.names,
        recipe=recipe.settled(),
        data=corpus.digest,
        made_by=job.made_by,
        place=folder.best.resolve(),
    )
    parts = Parts(
        recipe=recipe,
        learner=learner,
        train=learnt,
        validation=judged,
        lengths=(_lengths(corpus, learnt), _lengths(corpus, judged)),
        counts=counts,
        folder=folder,
        save_best=lambda path, state, figures: card.save(learner, path, state, figures),
        missed=corpus.missed or (),
        cache=cache,
    )
    found = folder.position() if job.resume else None
    taken = found[1].taken if found else 0
    with closing(RunLog(folder.log, main, say)) as log:
        for line in _summary(recipe, corpus, learner, counts, accelerator):
            log.say(line)
        trainer = Trainer(accelerator, parts, log)
        if job.resume:
            log.say(f"continuing after step {taken}" if trainer.resume() else "from the start")
        position = trainer.run()
        log.write("end", taken=position.taken, best=position.best, best_at=position.best_at)
        best = f"best validation {position.best:.4f} after step {position.best_at}"
        log.say(f"{best}: {folder.best}")
        log.say(f"for a profile: {folder.best / PROFILE}")
        log.say(f"measure it: abhinaya eval MANIFEST --checkpoint NAME={folder.best}")
    # End all processes together: one that ends while the group's threads run is sometimes aborted,
    # and the run fails.
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return position


def outputs_of(recipe: Recipe, corpus: Corpus) -> Outputs:
    """Return the outputs of a recipe's model. Raises DataError: no clip has what a head learns."""
    names: dict[str, tuple[str, ...]] = {
        "primary": recipe.data.classes,
        "attributes": ATTRIBUTES,
        "secondary": recipe.data.secondary or secondary_names(corpus.train),
        "gender": GENDERS,
        "neutral": ("against the rest",),
    }
    if "secondary" in recipe.heads and not names["secondary"]:
        raise DataError(f"{corpus.root}: no training clip has secondary votes; leave out that loss")
    return Outputs({head: names[head] for head in recipe.heads})


def build_learner(
    options: Options,
    outputs: Outputs,
    device: torch.device,
    bf16: bool,
    norm: WaveNorm,
    start: str = "",
    cache: FeatureCache | None = None,
) -> Learner:
    """Build a model; new weights are drawn from torch's generator.

    `bf16` applies to frozen weights; trainable ones are float32. `norm` is only for waves.
    Raises ModelError: a file of the model is missing, damaged or of another model.
    """
    where = place(str(device), "bfloat16" if bf16 else "float32")
    frozen = isinstance(options, NetworkSpec) and any(m.frozen for m in options.members)
    if cache is not None and not (frozen or isinstance(options, SalmonnOptions)):
        raise TrainingError("run.cache: this model has no frozen encoder to store; leave it out")
    match options:
        case WavlmOptions():
            return wavlm_learner(options, outputs, norm, start)
        case NetworkSpec():
            return network_learner(options, outputs, where, norm, start, cache)
        case LlamaOptions():
            return llama_learner(options, outputs, where, start)
        case SalmonnOptions():
            return salmonn_learner(options, outputs, where, start, cache)


def _with_cache(recipe: Recipe, say: Say) -> tuple[Recipe, FeatureCache | None]:
    """Return the recipe, with one crop of a clip if features are stored, and their cache."""
    if not recipe.run.cache:
        return recipe, None
    crop = "once" if recipe.data.crop == "random" else recipe.data.crop
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, crop=crop))
    return recipe, FeatureCache(Path(recipe.run.cache), recipe.run.cache_gb, say)


def _norm(recipe: Recipe, corpus: Corpus) -> WaveNorm:
    """Return how samples are scaled; global: by mean and deviation of the training samples."""
    options, kinds = recipe.options, set[str]()
    if isinstance(options, NetworkSpec):
        kinds = {member.normalise for member in options.members}
    elif isinstance(options, WavlmOptions):
        kinds = {options.norm}
    if "global" not in kinds:
        return WaveNorm("utterance" if kinds == {"utterance"} else "none")
    rng = np.random.default_rng(recipe.seed)
    few = rng.permutation(len(corpus.train))[:NORM_CLIPS]
    examples = Examples(corpus.root, corpus.train, recipe, needs(options), Outputs({}))
    sums = np.zeros(3)
    for i in few:
        wave = examples.judged(int(i)).samples.astype(np.float64)
        sums += (len(wave), wave.sum(), np.square(wave).sum())
    mean = sums[1] / sums[0]
    return WaveNorm("global", float(mean), float(np.sqrt(sums[2] / sums[0] - mean**2)))


def _open(job: Job, corpus: Corpus, accelerator: Accelerator) -> RunFolder:
    folder = RunFolder(job.out)
    settled = job.recipe.settled()
    if accelerator.is_main_process:
        if job.resume:
            folder.check(settled, corpus.digest, job.despite_changes)
            folder.mend()
        else:
            folder.begin(settled, corpus.digest, job.made_by)
    accelerator.wait_for_everyone()
    return folder


def _require_room(learner: Learner, out: Path) -> None:
    """Raise TrainingError if the disk has no room for a state and a checkpoint."""
    weights = sum(p.numel() for p in learner.module.parameters() if p.requires_grad)
    needed = 4 * weights * (2 * 3 + 2)  # two states (weights, two moments), two checkpoints
    free = shutil.disk_usage(out).free
    if free < needed:
        room = f"has {free / 1e9:.1f} GB free, and saving takes up to {needed / 1e9:.1f} GB"
        raise TrainingError(f"{out}: {room}; make room, or give another folder with --out")


def _lengths(corpus: Corpus, examples: Examples) -> Numbers:
    return np.array([corpus.lengths[clip.id] for clip in examples.clips], np.float64)


def _summary(
    recipe: Recipe,
    corpus: Corpus,
    learner: Learner,
    counts: Sequence[int],
    accelerator: Accelerator,
) -> list[str]:
    weights = [p.numel() for p in learner.module.parameters()]
    learning = sum(p.numel() for p in learner.module.parameters() if p.requires_grad)
    device = f"{accelerator.num_processes} x {accelerator.device.type}"
    device += ", sharded" if is_sharded(accelerator) else ""
    numbers = "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
    lines = [
        f"{len(corpus.train)} clips to train on, {len(corpus.validation)} to validate on",
        *(f"left out: {reason}: {n}" for reason, n in sorted(corpus.left_out.items())),
        f"{learning:,} of {sum(weights):,} weights are trained, on {device}, {numbers}",
    ]
    if counts:
        named = zip(recipe.data.classes, counts, strict=True)
        lines.insert(1, ", ".join(f"{name} {n}" for name, n in named))
    return lines
