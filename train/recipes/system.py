"""A system of the challenge: its members, how they are combined, and what was published about it.

A system is a folder with `system.toml` and the recipes of its members; `systems/` has those of the
package. `abhinaya reproduce` trains and measures them.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, get_args

from abhinaya.models.errors import near_miss
from abhinaya.models.fields import Faults, build, near, setting
from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.models.toml import inline
from abhinaya.models.vote.combiner import Method
from abhinaya.models.vote.ensemble import TiePolicy
from abhinaya.train.command import toml_value
from abhinaya.train.errors import RecipeError
from abhinaya.train.recipes.recipe import Recipe, load_recipe

FILE: Final = "system.toml"
SYSTEMS: Final = Path(__file__).parent / "systems"
SPLITS: Final = ("validation", "dev", "test1", "test2", "test3")
"""Sets of clips that a published figure is about; `validation` is the system's list."""
FIGURES: Final = (
    *("macro-F1", "weighted-F1", "accuracy", "UAR", "mean CCC"),
    *(f"F1 {label}" for label in LABELS),
    *(f"CCC {name}" for name in ATTRIBUTES),
)
CORPUS: Final = "corpus"
"""Value of `asr`: the transcripts of the corpus are used."""
VOTE: Final = "vote"
FUSED: Final = "attributes"
REFINED: Final = "refined"
"""Rows of the whole system: its vote on the labels, its fused attributes."""
_NAME: Final = re.compile(r"[\w.+-]+(/[\w.+-]+)?")
_GROUPS: Final = ("members", "variants", "attributes.members")


@dataclass(frozen=True, slots=True)
class Published:
    """A published figure."""

    what: str = setting(doc="SPLIT FIGURE, such as `test3 macro-F1` or `validation F1 fear`")
    value: float = setting(doc="the figure, not in per cent", least=-1, most=1)
    table: int = setting(0, doc="table of the paper; 0: in the text", least=0)
    row: str = setting("", doc="member, variant or A+B; without: the vote, or fused attributes")

    @property
    def split(self) -> str:
        """Return the set of clips."""
        return self.what.partition(" ")[0]

    @property
    def figure(self) -> str:
        """Return the name of the figure."""
        return self.what.partition(" ")[2]

    @property
    def of(self) -> str:
        """Return the row that has the figure in the lab's report."""
        return self.row or (FUSED if "CCC" in self.what else VOTE)


@dataclass(frozen=True, slots=True)
class Member:
    """A model: trained by `recipe`, or `model` as it is."""

    name: str = setting(doc="name in tables; MODEL/LOSS for table 2")
    recipe: str = setting("", doc="FILE.toml of the system's folder, or a recipe of the package")
    set: tuple[str, ...] = setting((), doc="changes of the recipe, SECTION.KEY=VALUE")
    model: str = setting("", doc="a model of abhinaya models list, which is not trained")
    options: Mapping[str, Any] = field(default_factory=dict)
    alias: str = setting("", doc="second name, such as S1/WFL for table 2")
    group: str = setting("", doc="of a variant: heading of the table and chart that show it")


@dataclass(frozen=True, slots=True)
class Ensemble:
    """How the members decide together."""

    method: str = setting("majority", doc="rule of the vote", choices=get_args(Method))
    priority: tuple[str, ...] = setting((), doc="who breaks a tie, first to last")
    tie_policy: str = setting("tiebreaker_label", doc="of a tie", choices=get_args(TiePolicy))
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attributes:
    """The models of arousal, valence and dominance, and how their answers are fused."""

    method: str = setting("mean", doc="how the members are fused", choices=("mean", "ridge"))
    members: tuple[Member, ...] = setting((), doc="models that give attributes")
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refiner:
    """A language model that revises the vote."""

    model: str = setting("", doc="its name on the server; empty: the vote is not revised")
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SystemData:
    """The clips and their transcripts."""

    balanced: int = setting(326, doc="validation clips of each class; 0: all of dev", least=0)
    seed: int = setting(0, doc="seed of the balanced list", least=0)
    asr: str = setting("large-v3", doc="Whisper of the transcripts; `corpus`: those of the corpus")


@dataclass(frozen=True, slots=True)
class System:
    """A whole system."""

    about: str = setting(doc="description in one line")
    source: str = setting(doc="paper and code")
    published: tuple[Published, ...] = setting((), doc="published figures, the first the headline")
    members: tuple[Member, ...] = setting((), doc="models that vote")
    variants: tuple[Member, ...] = setting((), doc="models that are only measured")
    ensemble: Ensemble = field(default_factory=Ensemble)
    attributes: Attributes = field(default_factory=Attributes)
    refiner: Refiner = field(default_factory=Refiner)
    data: SystemData = field(default_factory=SystemData)
    known: tuple[str, ...] = setting((), doc="facts of the paper or its code")
    assumed: tuple[str, ...] = setting((), doc="choices that were not published")
    folder: Path = Path()
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """Name of a member -> its recipe, with all changes."""

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return self.folder.name

    @property
    def models(self) -> tuple[Member, ...]:
        """Return all models: members, those of attributes, variants."""
        return (*self.members, *self.attributes.members, *self.variants)


def systems() -> dict[str, Path]:
    """Return name -> folder of the systems in the package."""
    return {path.parent.name: path.parent for path in sorted(SYSTEMS.glob(f"*/{FILE}"))}


def load_system(name: str, changes: Sequence[Mapping[str, Any]] = ()) -> System:
    """Read a system by its name in the package or its folder, then apply `changes` in order.

    A change is a table like system.toml's. Its members are arrays of further ones, or tables by
    name: for a trained one, what changes in its recipe; for another, fields such as `options`; `*`
    stands for every trained member. Raises RecipeError: the message names every fault.
    """
    folder = systems().get(name, Path(name))
    if not (folder / FILE).is_file():
        raise RecipeError(
            f"system {name!r}: is neither a system of the package nor a folder with {FILE}; "
            f"{near_miss(name, systems())}"
        )
    table, faults = read_table(f"system {name!r}", folder / FILE), Faults({})
    build(System, table, "", faults)
    for change in changes if not faults.texts else ():
        _apply(table, change, faults)
    recipes: dict[str, Recipe] = {}
    changed = len(faults.texts)
    system = build(System, table, "", faults)
    for key in {"folder", "recipes"} & table.keys():
        faults.add(f"{key} is not a setting")
    if len(faults.texts) == changed:  # else the system cannot be looked at
        for text in _conflicts(system):
            faults.add(text)
        for member in system.models:
            own = str(folder / member.recipe) if member.recipe.endswith(".toml") else ""
            try:
                if member.recipe:
                    recipes[member.name] = load_recipe(own or member.recipe, member.set)
            except RecipeError as error:
                faults.add(f"{member.name}: {error}")
    if faults.texts:
        raise RecipeError(f"system {name!r}: {'; '.join(dict.fromkeys(faults.texts))}")
    return replace(system, folder=folder.absolute(), recipes=recipes)


def read_table(subject: str, path: Path) -> dict[str, Any]:
    """Return a table of settings, or of changes. Raises RecipeError: it cannot be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{subject}: {path} cannot be read: {error}") from error


def _conflicts(system: System) -> Iterator[str]:
    names = [member.name for member in system.models]
    yield from (f"{n} models are called {m!r}" for m, n in Counter(names).items() if n > 1)
    if not (system.members or system.attributes.members):
        yield "members is empty, and so is attributes.members: a system needs a model"
    for member in system.models:
        if not _NAME.fullmatch(member.name) or member.name in (VOTE, FUSED, REFINED):
            yield f"the name {member.name!r}: use letters, digits, and . + - _ /"
        if bool(member.recipe) == bool(member.model):
            yield f"{member.name}: give either recipe or model"
    known = {*names, VOTE, FUSED, REFINED, *(m.alias for m in system.members if m.alias)}
    for i, of in enumerate(system.published):
        if of.split not in SPLITS or of.figure not in FIGURES:
            yield (
                f"published[{i}].what = {of.what!r}: give SPLIT FIGURE, {', '.join(SPLITS)} and "
                + (near(of.figure, FIGURES).lstrip(", "))
            )
        if absent := [part for part in of.of.split("+") if {of.of, part}.isdisjoint(known)]:
            yield f"published[{i}].row: {absent[0]!r} is not a model{near(absent[0], known)}"
    for voter in system.ensemble.priority:
        if voter not in {member.name for member in system.members}:
            yield f"ensemble.priority: {voter!r} is not a member{near(voter, names)}"


# --- changes --------------------------------------------------------------------------------------


def change_of(pair: str) -> dict[str, Any]:
    """Return the change that KEY.KEY=VALUE says; VALUE as in TOML."""
    keys, equals, raw = pair.partition("=")
    if not equals:
        raise RecipeError(f"--set {pair}: give it as KEY.KEY=VALUE")
    change: Any = toml_value(raw)
    for key in reversed(keys.split(".")):
        change = {key: change}
    found: dict[str, Any] = change
    return found


def _apply(table: dict[str, Any], change: Mapping[str, Any], faults: Faults) -> None:
    rest = dict(change)
    for group in _GROUPS:
        outer, _, inner = group.rpartition(".")
        source, target = rest, table
        if outer:
            source = rest[outer] = _table(outer, rest.get(outer, {}), faults)
            target = table.setdefault(outer, {})
        wanted, members = source.pop(inner, {}), target.get(inner, [])
        if isinstance(wanted, list):  # further ones
            target[inner] = [*members, *(_table(group, one, faults) for one in wanted)]
            continue
        known = {str(member.get("name")): member for member in members}
        for name, values in _table(group, wanted, faults).items():
            if name != "*" and name not in known:
                faults.add(f"{group}.{name} is not a model{near(name, known)}")
            values = _table(f"{group}.{name}", values, faults)
            for member in known.values() if name == "*" else [known.get(name, {})]:
                if "recipe" in member:
                    member["set"] = [*member.get("set", ()), *_flat(values)]
                elif name != "*":
                    _merge(member, values, f"{group}.{name}.", faults)
    _merge(table, rest, "", faults)


def _table(path: str, value: Any, faults: Faults) -> dict[str, Any]:
    """Return a copy of a table; it is empty after a fault."""
    if not isinstance(value, Mapping):
        faults.add(f"{path} must be a table, not {value!r}")
        return {}
    return dict(value)


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}={inline(value)}"


def _merge(table: dict[str, Any], change: Mapping[str, Any], path: str, faults: Faults) -> None:
    for key, value in change.items():
        if isinstance(value, Mapping) or isinstance(table.get(key), dict):
            below = table[key] = _table(path + key, table.get(key, {}), faults)
            _merge(below, _table(path + key, value, faults), f"{path}{key}.", faults)
        else:
            table[key] = value
