"""A recipe, read from TOML: all settings of a training run except the data.

`[train]` has the common settings. Each table of `[[stages]]`, run in order, may override some of
them. `losses` in either chooses the losses; `train/loop/losses.py` has the formulas.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

from abhinaya.models.errors import near_miss
from abhinaya.models.fields import Faults, build, near, setting
from abhinaya.models.labels import LABELS
from abhinaya.train.command import toml_value
from abhinaya.train.errors import RecipeError
from abhinaya.train.recipes.learner_options import OPTIONS, Options

LABEL_LOSSES: Final = ("ce", "focal", "vs", "kld")
ATTRIBUTE_LOSSES: Final = ("ccc",)
LEAST_CCC_BATCH: Final = 8
"""In a smaller batch the variance is too poor an estimate of the corpus's."""


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """The table [model]: which model is trained."""

    learner: str = setting(doc="kind of model", choices=tuple(OPTIONS))
    start: str = setting("", doc="checkpoint to start from: best/ of an earlier run")
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """The table [data]: the clips of training and validation, and how each is cut."""

    train_split: str = setting("train", doc="split of the manifest to train on")
    validation_split: str = setting("dev", doc="split to choose the best checkpoint by")
    balanced: int = setting(
        0, doc="validation clips of each class, drawn at random; 0: all (the paper: 326)", least=0
    )
    validation_list: str = setting("", doc="file that names the validation clips")
    classes: tuple[str, ...] = setting(LABELS, doc="labels of the model, in order")
    kinds: tuple[str, ...] = setting(("speech",), doc="kinds of clips to use")
    max_s: float = setting(10.0, doc="seconds; longer clips are cut", least=0.5)
    crop: str = setting(
        "random",
        doc="which part of a long clip to train on: another in each epoch, one at random, the "
        "first; validation: the first",
        choices=("random", "once", "first"),
    )
    max_words: int = setting(0, doc="leave out clips with more words; 0: no limit", least=0)
    max_missing: float = setting(
        0.0, doc="share of clips that may be missing or corrupt", least=0, most=1
    )
    shared_speakers: bool = setting(
        False, doc="allow speakers in both splits; figures then do not hold for new speakers"
    )


@dataclass(frozen=True, slots=True)
class AugmentRecipe:
    """The table [augment]: how often each augmentation is applied to training clips."""

    channel: float = setting(0.0, doc="share with a random recording channel", least=0, most=1)
    codec: float = setting(0.0, doc="share with a low-rate codec", least=0, most=1)
    pair: float = setting(0.0, doc="share joined with another clip", least=0, most=1)
    pair_from_s: float = setting(-1.0, doc="smallest gap, in seconds; below 0 the two overlap")
    pair_to_s: float = setting(2.0, doc="largest gap, in seconds")
    surroundings: str = setting("", doc="folder with rir/*.flac and noise/*.opus for channels")


@dataclass(frozen=True, slots=True)
class TargetRecipe:
    """The table [train.target]: how the votes of a clip become its target."""

    kind: str = setting(
        "plurality",
        doc="only the consensus, or the distribution of the votes",
        choices=("plurality", "distribution"),
    )
    smoothing: float = setting(0.0, doc="share spread evenly over all classes", least=0, most=0.9)
    drop_votes: float = setting(
        0.0, doc="chance to drop a vote for the leading label", least=0, most=0.95
    )
    reweight: bool = setting(
        False, doc="divide by how often each class is voted for, then scale to sum 1"
    )


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One entry of `losses`: a term of the loss. Formulas: `train/loop/losses.py`."""

    kind: str = setting(doc="which loss", choices=(*LABEL_LOSSES, *ATTRIBUTE_LOSSES))
    weight: float = setting(1.0, doc="weight of this term in the sum", least=0)
    gamma: float | None = setting(
        None, doc="exponent of focal or vs; the paper's if it is missing: 2 and 0.3", least=0
    )
    tau: float = setting(1.0, doc="scale of the bias of vs", least=0)
    reduction: str = setting(
        "paper",
        doc="how class weights act on the mean; broadcast: as the published code",
        choices=("paper", "weighted_mean", "broadcast"),
    )
    class_weights: str = setting(
        "training",
        doc="from the training clips, none, or those of the published code for MSP-Podcast",
        choices=("training", "none", "published"),
    )


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """The table [train], or one stage with its overrides."""

    epochs: int = setting(20, doc="passes over the training clips", least=1)
    rate: float = setting(1e-5, doc="highest learning rate", least=0)
    batch: int = setting(8, doc="clips in a batch", least=1)
    accumulate: int = setting(4, doc="batches in a step, over all processes", least=1)
    schedule: str = setting(
        "constant", doc="learning rate after warm-up", choices=("constant", "linear", "cosine")
    )
    warmup: float = setting(0.0, doc="share of the steps that are warm-up", least=0, most=1)
    weight_decay: float = setting(0.01, doc="weight decay of AdamW", least=0)
    beta1: float = setting(0.9, doc="of AdamW", least=0, most=1)
    beta2: float = setting(0.999, doc="of AdamW", least=0, most=1)
    eps: float = setting(1e-8, doc="of AdamW", least=0)
    clip_norm: float = setting(1.0, doc="largest norm of the gradient; 0: no limit", least=0)
    patience: int = setting(
        0, doc="stop after this many validations without a better one; 0: never", least=0
    )
    sampler: str = setting(
        "shuffle",
        doc="clips of an epoch: all; at most `cap` of a class; drawn with equal class probability",
        choices=("shuffle", "undersample", "balanced"),
    )
    cap: int = setting(0, doc="for undersample: most clips of a class in an epoch", least=0)
    target: TargetRecipe = field(default_factory=TargetRecipe)
    losses: tuple[LossTerm, ...] = setting((), doc="terms of the loss")


@dataclass(frozen=True, slots=True)
class RunRecipe:
    """The table [run]: settings that do not change the trained model."""

    save_every: int = setting(200, doc="steps between saved states; 0: only each epoch", least=0)
    workers: int = setting(2, doc="processes that read audio; 0: the trainer reads", least=0)
    cache: str = setting(
        "",
        doc="folder for features of frozen encoders; data.crop random becomes once",
    )
    cache_gb: float = setting(100.0, doc="most GB in that folder", least=0.001)
    tensorboard: bool = setting(False, doc="write TensorBoard curves (extra `tensorboard`)")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole recipe."""

    about: str = setting(doc="description in one line")
    model: ModelRecipe = setting(doc="kind of model and its options")
    seed: int = setting(0, doc="seed of all random choices", least=0)
    precision: str = setting(
        "auto",
        doc="bf16 (trained weights stay float32), fp32, or auto: bf16 if the device has it",
        choices=("auto", "bf16", "fp32"),
    )
    data: DataRecipe = field(default_factory=DataRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    stages: tuple[TrainRecipe, ...] = setting((), doc="overrides of [train], in order")
    run: RunRecipe = field(default_factory=RunRecipe)

    @property
    def all_stages(self) -> tuple[TrainRecipe, ...]:
        """Return the stages to run: `stages`, or `train` alone if there are none."""
        return self.stages or (self.train,)

    @property
    def options(self) -> Options:
        """Options of the model; `load_recipe` has checked them."""
        return build(OPTIONS[self.model.learner], self.model.options, "", Faults({}))

    @property
    def gives_labels(self) -> bool:
        """Whether the model predicts labels: a term of the loss is about them."""
        return any(t.kind in LABEL_LOSSES for s in self.all_stages for t in s.losses)

    @property
    def gives_attributes(self) -> bool:
        """Whether the model predicts arousal, valence and dominance."""
        return any(t.kind in ATTRIBUTE_LOSSES for s in self.all_stages for t in s.losses)

    def settled(self) -> dict[str, Any]:
        """Return all values that affect the trained model, with defaults, as plain data."""
        values = dataclasses.asdict(self)
        del values["run"], values["about"]
        values["model"]["options"] = dataclasses.asdict(self.options)
        found: dict[str, Any] = json.loads(json.dumps(values))
        return found


OWN_LOOP: Final[Mapping[str, str]] = {
    name: f"Embedded {voter} voter; has its own options: abhinaya train {name} --help"
    for name, voter in (("tiny-speech", "speech"), ("tiny-text", "text"), ("tiny-joint", "joint"))
}
"""Names that are listed with the recipes, but that have their own loop in `train/tiny/`."""


def recipes() -> dict[str, str]:
    """Return name -> description of the recipes in the package."""
    folder = importlib.resources.files("abhinaya.train.recipes")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {
        file.name.removesuffix(".toml"): str(tomllib.loads(file.read_text("utf-8"))["about"])
        for file in files
    }


def recipe_text(name: str) -> str:
    """Return the TOML text of a recipe, by its name in the package or its path.

    Raises RecipeError: the recipe is unknown or cannot be read.
    """
    known = recipes()
    try:
        if name in known:
            folder = importlib.resources.files("abhinaya.train.recipes")
            return (folder / f"{name}.toml").read_text("utf-8")
        return Path(name).read_text("utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise RecipeError(
            f"recipe {name!r}: is neither a recipe of the package nor a file; "
            f"{near_miss(name, {*known, *OWN_LOOP})}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {name!r}: cannot be read: {error}") from error


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path, then apply the `settings`, each `section.key=value`.

    Raises RecipeError: the message names every fault in the file and the settings.
    """
    try:
        table = tomllib.loads(recipe_text(name))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {name!r}: is not TOML: {error}") from error
    origins: dict[str, str] = {}
    faults = Faults(origins)
    for pair in settings:
        _set(table, pair, origins, faults)
    base = table.get("train", {})
    own = table.pop("stages", [])
    recipe = build(Recipe, table, "", faults)
    if not isinstance(own, list):
        faults.add("stages must be an array of tables, [[stages]]", "stages")
    elif not faults.texts:
        merged = [_merged(base, stage) for stage in own]
        stages = tuple(build(TrainRecipe, t, f"stages[{i}].", faults) for i, t in enumerate(merged))
        recipe = dataclasses.replace(recipe, stages=stages)
    if recipe.model and recipe.model.learner in OPTIONS:
        build(OPTIONS[recipe.model.learner], recipe.model.options, "model.options.", faults)
    if not faults.texts:
        for text, path in _conflicts(recipe):
            faults.add(text, path)
    if faults.texts:
        raise RecipeError(
            f"recipe {name!r}: {'; '.join(faults.texts)}. "
            "`abhinaya train settings` lists every setting"
        )
    return recipe


def _set(table: dict[str, Any], pair: str, origins: dict[str, str], faults: Faults) -> None:
    key, equals, raw = pair.partition("=")
    if not equals:
        faults.add(f"--set {pair}: give it as SECTION.KEY=VALUE")
        return
    origins[key] = f"--set {pair}"
    *sections, last = key.split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            faults.add(f"{key} cannot be set: {section} is {inner!r}, not a table", key)
            return
        table = inner
    table[last] = toml_value(raw)


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    return {**base, **{k: _merged(base.get(k, {}), v) for k, v in over.items()}}


def _conflicts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield settings that contradict each other: the message, and the key."""
    classes = recipe.data.classes
    for name in classes:
        if name not in LABELS:
            yield f"data.classes: {name!r} is not a label{near(name, LABELS)}", "data.classes"
    if len(set(classes)) != len(classes) or len(classes) < 2:
        yield "data.classes must be two or more labels, each once", "data.classes"
    for i, stage in enumerate(recipe.all_stages):
        path = f"stages[{i}]" if recipe.stages else "train"
        for text, where in _stage_conflicts(recipe, stage):
            yield f"{path}.{text}", f"{path}.{where}"
    if recipe.augment.pair_from_s > recipe.augment.pair_to_s:
        yield "augment.pair_from_s is above augment.pair_to_s", "augment.pair_from_s"


def _stage_conflicts(recipe: Recipe, stage: TrainRecipe) -> Iterator[tuple[str, str]]:
    if not stage.losses:
        yield "losses is empty: give at least one term", "losses"
    for k, term in enumerate(stage.losses):
        here = f"losses[{k}]"
        if term.kind == "ccc" and stage.batch < LEAST_CCC_BATCH:
            yield f"batch = {stage.batch} is too few for ccc: {LEAST_CCC_BATCH} or more", "batch"
        if term.kind == "kld" and term.class_weights == "published":
            yield f"{here}: published weights are not for kld", here
        if term.class_weights == "published" and recipe.data.classes != LABELS:
            yield f"{here}: published weights are for all eight labels in order", here
    if stage.sampler == "undersample" and not stage.cap:
        yield "cap is missing: clips of a class in an epoch", "cap"
    target = stage.target
    if target.kind == "plurality" and (target.drop_votes or target.reweight):
        yield "target: drop_votes and reweight need kind = 'distribution'", "target"


# --- every setting with its default and meaning ---------------------------------------------------


def described() -> Iterator[tuple[str, str, str]]:
    """Yield (key, default in TOML, meaning and choices) of each setting."""
    for key, default, meaning in _of(Recipe, ""):
        if key == "model.options":
            for learner, kind in OPTIONS.items():
                for name, value, doc in _of(kind, "model.options."):
                    yield name, value, f"{learner}: {doc}"
        elif key == "stages":
            yield "stages", "[]", "[[stages]]: tables with what differs from [train]"
        else:
            yield key, default, meaning


def _of(kind: Any, path: str) -> Iterator[tuple[str, str, str]]:
    hints = get_type_hints(kind)
    for spec in dataclasses.fields(kind):
        key, hint = f"{path}{spec.name}", hints[spec.name]
        inner = hint if get_origin(hint) is None else next(iter(get_args(hint)), None)
        if dataclasses.is_dataclass(inner) and key != "stages":
            mark = "" if inner is hint else "[]"
            yield from _of(inner, f"{key}{mark}.")
            continue
        default = "(must be given)" if spec.default_factory is dataclasses.MISSING else ""
        if spec.default is not dataclasses.MISSING:
            default = "(none)" if spec.default is None else json.dumps(spec.default)
        choices, doc = spec.metadata.get("choices") or (), str(spec.metadata.get("doc", ""))
        yield key, default, f"{doc} ({', '.join(choices)})" if choices else doc
