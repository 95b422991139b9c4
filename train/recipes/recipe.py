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
from typing import Any, Final

from abhinaya.models.errors import near_miss
from abhinaya.models.fields import Faults, build, near, setting
from abhinaya.models.labels import LABELS
from abhinaya.models.published.specs import HEADS, NetworkSpec
from abhinaya.train.command import toml_value
from abhinaya.train.data.clips import VOTABLE
from abhinaya.train.errors import RecipeError
from abhinaya.train.recipes.learner_options import OPTIONS, Options
from abhinaya.train.recipes.tables import (
    LOSSES,
    AugmentRecipe,
    DataRecipe,
    LossTerm,
    ModelRecipe,
    RunRecipe,
    TrainRecipe,
)

LEAST_CCC_BATCH: Final = 8
"""In a smaller batch the variance is too poor an estimate of the corpus's."""


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
        """Return the stages to run: `stages`, or `train` alone without stages."""
        return self.stages or (self.train,)

    @property
    def options(self) -> Options:
        """Options of the model; `load_recipe` has checked them."""
        return build(OPTIONS[self.model.learner], self.model.options, "", Faults({}))

    @property
    def heads(self) -> tuple[str, ...]:
        """Return the heads of the model, those that a term of the loss is about."""
        found = {term.on for stage in self.all_stages for term in stage.losses}
        return tuple(head for head in HEADS if head in found)

    @property
    def gives_labels(self) -> bool:
        """Whether the model predicts labels."""
        return "primary" in self.heads

    @property
    def judged_by(self) -> str:
        """The head that validation chooses the checkpoint by: that of the last stage's losses."""
        last = {term.on for term in self.all_stages[-1].losses}
        return "primary" if "primary" in last or "attributes" not in last else "attributes"

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


def _set(table: Any, pair: str, origins: dict[str, str], faults: Faults) -> None:
    key, equals, raw = pair.partition("=")
    if not equals:
        faults.add(f"--set {pair}: give it as SECTION.KEY=VALUE")
        return
    origins[key] = f"--set {pair}"
    *sections, last = key.split(".")
    for section in sections:
        if isinstance(table, list):  # members.0.name
            inner = table[int(section)] if section in map(str, range(len(table))) else None
        else:
            inner = table.setdefault(section, {})
        if not isinstance(inner, dict | list):
            faults.add(f"{key} cannot be set: {section} is {inner!r}, not a table", key)
            return
        table = inner
    if isinstance(table, list):
        faults.add(f"{key} cannot be set: it is a whole table of an array", key)
        return
    table[last] = toml_value(raw)


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    return {**base, **{k: _merged(base.get(k, {}), v) for k, v in over.items()}}


def _conflicts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield settings that contradict each other: the message, and the key."""
    classes = recipe.data.classes
    for name in classes:
        if name not in VOTABLE:
            yield f"data.classes: {name!r} is not a label{near(name, VOTABLE)}", "data.classes"
    if len(set(classes)) != len(classes) or len(classes) < 2:
        yield "data.classes must be two or more labels, each once", "data.classes"
    for i, stage in enumerate(recipe.all_stages):
        path = f"stages[{i}]" if recipe.stages else "train"
        for text, where in _stage_conflicts(recipe, stage):
            yield f"{path}.{text}", f"{path}.{where}"
    if not {"primary", "attributes"} & set(recipe.heads):
        yield "train.losses: none is on labels or attributes", "train.losses"
    if isinstance(recipe.options, NetworkSpec):
        for text, key in recipe.options.faults():
            yield f"model.options.{text}", f"model.options.{key}"


def _stage_conflicts(recipe: Recipe, stage: TrainRecipe) -> Iterator[tuple[str, str]]:
    if not stage.losses:
        yield "losses is empty: give at least one term", "losses"
    for k, term in enumerate(stage.losses):
        for text in _term_conflicts(recipe, term):
            yield f"losses[{k}]: {text}", f"losses[{k}]"
        if term.kind == "ccc" and stage.batch < LEAST_CCC_BATCH:
            yield f"batch = {stage.batch} is too few for ccc: {LEAST_CCC_BATCH} or more", "batch"
    if stage.sampler == "half_neutral" and "neutral" not in recipe.data.classes:
        yield "sampler: half_neutral needs the class neutral", "sampler"
    if stage.mixup and not isinstance(recipe.options, NetworkSpec):
        yield f"mixup: the learner {recipe.model.learner} has none", "mixup"
    target = stage.target
    if target.kind == "plurality" and (target.drop_votes or target.reweight):
        yield "target: drop_votes and reweight need kind = 'distribution'", "target"


def _term_conflicts(recipe: Recipe, term: LossTerm) -> Iterator[str]:
    if term.head and term.head not in LOSSES[term.kind]:
        known = " or ".join(LOSSES[term.kind]) or "no head"
        yield f"{term.kind} is for {known}, not for {term.head}"
    if term.on in HEADS[2:] and not isinstance(recipe.options, NetworkSpec):
        yield f"the learner {recipe.model.learner} has no head {term.on}"
    if term.on == "neutral" and "neutral" not in recipe.data.classes:
        yield f"{term.kind} needs the class neutral"
    if (term.kind == "l2") != bool(term.part):
        yield "l2 needs a part, and only l2 has one"
    if term.class_weights == "published":
        if term.kind == "kld":
            yield "published weights are not for kld"
        if recipe.data.classes != LABELS:
            yield "published weights are for all eight labels in order"
