"""Plans the road of a system: its steps, each as commands of `abhinaya`, with files in and out.

WORK/manifest.jsonl, heard.jsonl    the corpus; with transcripts of one Whisper
WORK/sets/NAME.jsonl                the clips of `validation` (one list for all models), `test3`
WORK/runs/MODEL/best                trained models
WORK/predictions/SET/MODEL.csv      answers, and vote.csv, attributes.csv of the whole system
WORK/combiner.json                  the fitted vote
WORK/submission/                    labels.csv and attributes.csv for the challenge
WORK/tables/SET.json                tables of a set with labels
WORK/report.html, report.json       the lab's figures beside the published ones
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from abhinaya.models.toml import inline
from abhinaya.train.data.manifest import balanced, read_manifest, write_manifest
from abhinaya.train.eval.models import SERVED
from abhinaya.train.eval.rules import RULES
from abhinaya.train.recipes.system import CORPUS, FUSED, VOTE, Member, System

VALIDATION: Final = "validation"
HIDDEN: Final = "test3"
Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Road:
    """What a lab gives."""

    corpus: Path
    work: Path
    sets: tuple[str, ...] = (VALIDATION, HIDDEN)
    base_url: str = ""
    """Server of the models that are served."""
    folder: Path = Path()
    """Folder of the system, with its members' recipes."""
    max_missing: float = 0.0
    batch: int = 8
    wait_s: float = 7_200.0

    def path(self, *parts: str) -> Path:
        """Return a place in the work folder."""
        return self.work.joinpath(*parts)

    def run(self, member: Member) -> Path:
        """Return the folder of a training."""
        return self.path("runs", slug(member.name))

    def answers(self, name: str, of: str) -> Path:
        """Return the file of predictions about a set."""
        return self.path("predictions", of, f"{slug(name)}.csv")


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the road, done once its files are written."""

    name: str
    commands: tuple[Command, ...] = ()
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    work: Callable[[], None] | None = None
    """Instead of commands."""
    heavy: bool = False
    """Whether it runs in a process of its own, so that its memory is freed."""
    member: Member | None = None
    settings: str = field(default="")
    """What its result depends on besides the commands and the files that it reads."""


def slug(name: str) -> str:
    """Return the name of a model as a file name."""
    return name.replace("/", "-")


def plan(system: System, road: Road) -> list[Step]:
    """Return the steps in order: the members before the variants, which are only measured."""
    heard, sets = _heard(system, road), [road.path("sets", f"{of}.jsonl") for of in road.sets]
    listed = road.path("validation.txt")
    chosen = system.data.balanced, system.data.seed
    steps = [
        *_data(system, road),
        Step(
            "lists", (), (heard,), (listed, *sets),
            lambda: make_sets(heard, listed, road.path("sets"), road.sets, *chosen),
            settings=repr((chosen, road.sets)),
        ),
    ]  # fmt: skip
    steps += _models((*system.members, *system.attributes.members), system, road, road.sets)
    steps += _joint(system, road)
    steps += _models(system.variants, system, road, [VALIDATION])
    return [*steps, *_tables(system, road)]


def make_sets(
    heard: Path, listed: Path, folder: Path, sets: Sequence[str], per_class: int, seed: int
) -> None:
    """Write the validation list and a manifest for each set.

    Raises DataError: a label has too few clips, or a split has none.
    """
    manifest = read_manifest(heard)
    dev = [clip for clip in manifest.only("dev").clips if clip.label]
    few = balanced(dev, per_class, seed) if per_class else dev
    folder.mkdir(parents=True, exist_ok=True)
    for of in sets:
        of_set = manifest.only(of).clips if of != VALIDATION else tuple(few)
        write_manifest(folder / f"{of}.jsonl", type(manifest)(manifest.root, of_set))
    half = listed.with_name(f"{listed.name}.half")
    half.write_text("".join(f"{clip.id}\n" for clip in few), "utf-8")
    half.replace(listed)


def _heard(system: System, road: Road) -> Path:
    return road.path("manifest.jsonl" if system.data.asr == CORPUS else "heard.jsonl")


def _data(system: System, road: Road) -> Iterator[Step]:
    manifest, heard = road.path("manifest.jsonl"), _heard(system, road)
    labels = [path for name in ("Labels", "Transcripts") if (path := road.corpus / name).exists()]
    prepare = ("data", "prepare", "msp-podcast", str(road.corpus), "--out", str(manifest))
    yield Step("prepare", (prepare,), (*labels, *road.corpus.glob("Partitions.txt")), (manifest,))
    missing = "--max-missing", f"{road.max_missing:g}"
    yield Step("check", (("data", "check", str(manifest), *missing),), (manifest,))
    if system.data.asr != CORPUS:
        options = "--replace", "--set", f"asr.options.model={system.data.asr}", *missing
        command = "data", "transcribe", str(manifest), "--out", str(heard), *options
        yield Step("transcripts", (command,), (manifest,), (heard,), heavy=True)


def _models(
    members: Sequence[Member], system: System, road: Road, sets: Sequence[str]
) -> Iterator[Step]:
    heard, listed = _heard(system, road), road.path("validation.txt")
    for member in members:
        out = road.run(member)
        if member.recipe:
            recipe = road.folder / member.recipe
            own = str(recipe) if member.recipe.endswith(".toml") else member.recipe
            changes = [*member.set, f"data.validation_list={inline(str(listed))}"]
            if road.max_missing:
                changes.append(f"data.max_missing={road.max_missing:g}")
            command = ["train", own, "--data", str(heard), "--out", str(out)]
            command += [word for pair in changes for word in ("--set", pair)]
            settled = repr(system.recipes[member.name].settled())
            yield Step(
                f"train {member.name}", ((*command,),), (heard, listed), (out / "best",),
                heavy=True, member=member, settings=settled,
            )  # fmt: skip
        for of in sets:
            place = road.path("sets", f"{of}.jsonl")
            command = ["predict", str(place), *_named(member, road), "--batch", f"{road.batch}"]
            command += ["--write", str(road.path("predictions", of))]
            command += ["--max-missing", f"{road.max_missing:g}", "--wait-s", f"{road.wait_s:g}"]
            reads = (place, out / "best") if member.recipe else (place,)
            yield Step(
                f"predict {member.name} {of}", ((*command,),), reads,
                (road.answers(member.name, of),), heavy=True, member=member,
            )  # fmt: skip


def _named(member: Member, road: Road) -> Iterator[str]:
    """Yield the flags that name a model for `abhinaya predict`."""
    options = dict(member.options)
    if member.model == SERVED and road.base_url:
        options.setdefault("base_url", road.base_url)
    if member.recipe:
        yield from ("--checkpoint", f"{member.name}={road.run(member) / 'best'}")
    else:
        yield from ("--model", f"{member.name}={member.model}")
    for key, value in options.items():
        yield from ("--option", f"{member.name}.{key}={inline(value)}")


def _joint(system: System, road: Road) -> Iterator[Step]:
    """Yield the steps that fit and cast the vote, and that fuse attributes."""
    combiner, fitted = road.path("combiner.json"), system.ensemble.method not in RULES
    for name, members in ((VOTE, system.members), (FUSED, system.attributes.members)):
        if not members:
            continue
        votes = {of: [road.answers(m.name, of) for m in members] for of in road.sets}
        named = {
            of: [f"{m.name}={path}" for m, path in zip(members, paths, strict=True)]
            for of, paths in votes.items()
        }
        ranked = [",".join(system.ensemble.priority)] if system.ensemble.priority else []
        order = [word for text in ranked for word in ("--priority", text)] if name == VOTE else []
        rule = ["--tie-policy", system.ensemble.tie_policy, *order]
        if name == VOTE and fitted:
            truth = road.path("sets", f"{VALIDATION}.jsonl")
            command = ["train", "ensemble", str(truth), *named[VALIDATION], "--out", str(combiner)]
            command += ["--method", system.ensemble.method, *order]
            options = system.ensemble.options.items()
            command += [word for key, value in options for word in (f"--{key}", str(value))]
            reads = (truth, *votes[VALIDATION])
            yield Step("ensemble", ((*command,),), reads, (combiner,))
            rule += ["--combiner", str(combiner)]
        elif name == VOTE:
            rule += ["--rule", system.ensemble.method]
        for of in road.sets:
            out, place = road.answers(name, of), road.path("sets", f"{of}.jsonl")
            command = ["predict", str(place), *named[of], *rule, "--vote", str(out)]
            writes = [out]
            if of == HIDDEN:
                form = "labels" if name == VOTE else "attributes"
                writes.append(road.path("submission", f"{form}.csv"))
                command += [f"--{form}", str(writes[-1])]
            needed = (combiner,) if name == VOTE and fitted else ()
            yield Step(f"{name} {of}", ((*command,),), (place, *votes[of], *needed), (*writes,))


def _tables(system: System, road: Road) -> Iterator[Step]:
    for of in road.sets:
        truth, out = road.path("sets", f"{of}.jsonl"), road.path("tables", f"{of}.json")
        variants = system.variants if of == VALIDATION else ()
        names = [m.name for m in (*system.members, *system.attributes.members, *variants)]
        names += [VOTE] if system.members else []
        names += [FUSED] if system.attributes.members else []
        paths = [road.answers(name, of) for name in names]
        command = ["eval", str(truth), *(f"{n}={p}" for n, p in zip(names, paths, strict=True))]
        command += ["--voters", ",".join(m.name for m in system.members)] if system.members else []
        if system.ensemble.priority:
            command += ["--priority", ",".join(system.ensemble.priority)]
        if of != HIDDEN:
            yield Step(f"tables {of}", ((*command, "--json", str(out)),), (truth, *paths), (out,))
