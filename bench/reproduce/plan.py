"""Plans the road of a system: its steps, each a command of `abhinaya`, in the folder WORK.

manifest.jsonl, heard.jsonl    the corpus; with transcripts of one Whisper
sets/NAME.jsonl                the clips of `validation` (one list for all models), `test3`
runs/MODEL/best                trained models
predictions/SET/MODEL.csv      answers; vote.csv and attributes.csv are those of the system
combiner.json                  the fitted vote
submission/                    labels.csv and attributes.csv for the challenge
tables/SET.json                tables of a set with labels
report.html, report.json       the lab's figures beside the published ones
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from abhinaya.models.toml import inline
from abhinaya.train.eval.models import SERVED
from abhinaya.train.eval.rules import RULES
from abhinaya.train.recipes.system import CORPUS, FUSED, REFINED, VOTE, Member, System

VALIDATION: Final = "validation"
HIDDEN: Final = "test3"


@dataclass(frozen=True, slots=True)
class Road:
    """What a lab gives."""

    corpus: Path
    work: Path
    sets: tuple[str, ...] = (VALIDATION, HIDDEN)
    base_url: str = ""
    """Server of the models that are served."""
    max_missing: float = 0.0
    batch: int = 8
    wait_s: float = 7_200.0

    def best(self, member: Member) -> Path:
        """Return the folder of a trained model."""
        return self.work / "runs" / slug(member.name) / "best"

    def clips(self, of: str) -> Path:
        """Return the manifest of a set."""
        return self.work / "sets" / f"{of}.jsonl"

    def answers(self, name: str, of: str) -> Path:
        """Return the file of predictions about a set."""
        return self.work / "predictions" / of / f"{slug(name)}.csv"


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the road, done once its files are written."""

    name: str
    command: tuple[str, ...]
    writes: tuple[Path, ...] = ()
    member: Member | None = None
    settings: str = ""
    """What its result depends on besides the command and the files that it reads."""
    reads: tuple[Path, ...] = ()

    @property
    def heavy(self) -> bool:
        """Whether it runs a network: in a process of its own, so that its memory is freed."""
        return self.member is not None or "transcribe" in self.command


def slug(name: str) -> str:
    """Return the name of a model as a file name."""
    return name.replace("/", "-")


def plan(system: System, road: Road) -> list[Step]:
    """Return the steps in order: the members before the variants, which are only measured."""
    voters = (*system.members, *system.attributes.members)
    steps = _data(system, road)
    for members, sets in ((voters, road.sets), (system.variants, (VALIDATION,))):
        steps += [step for member in members for step in _model(member, system, road, sets)]
        if members is voters:
            steps += [*_vote(system, road), *_refine(system, road), *_fuse(system, road)]
    steps += [_tables(system, road, of) for of in road.sets if of != HIDDEN]
    # a step reads what an earlier one has written, if its command names it
    written = [path for step in steps for path in step.writes]
    return [
        replace(step, reads=(*step.reads, *(p for p in written if _reads(step, p))))
        for step in steps
    ]


def _reads(step: Step, path: Path) -> bool:
    return path not in step.writes and any(str(path) in word for word in step.command)


def _data(system: System, road: Road) -> list[Step]:
    manifest, heard = road.work / "manifest.jsonl", heard_of(system, road)
    labels = [road.corpus / name for name in ("Labels", "Transcripts", "Partitions.txt")]
    prepare = ("data", "prepare", "msp-podcast", str(road.corpus), "--out", str(manifest))
    missing = ("--max-missing", f"{road.max_missing:g}")
    model = ("--set", f"asr.options.model={system.data.asr}")
    hear = ("data", "transcribe", str(manifest), "--out", str(heard), "--replace", *missing, *model)
    drawn, splits = road.work / "validation.txt", [of for of in road.sets if of != VALIDATION]
    draw = ["data", "validation", str(heard), "--per-class", f"{system.data.balanced}"]
    draw += ["--seed", f"{system.data.seed}", "--out", str(drawn)]
    draw += ["--sets", str(road.work / "sets"), *(["--with", ",".join(splits)] if splits else [])]
    return [
        Step("prepare", prepare, (manifest,), reads=tuple(p for p in labels if p.exists())),
        Step("check", ("data", "check", str(manifest), *missing)),
        *([Step("transcripts", hear, (heard,))] if heard != manifest else ()),
        Step("lists", (*draw,), (drawn, *map(road.clips, (VALIDATION, *splits)))),
    ]


def heard_of(system: System, road: Road) -> Path:
    """Return the manifest with the transcripts of the system."""
    own = system.data.asr == CORPUS
    return road.work / ("manifest.jsonl" if own else "heard.jsonl")


def _model(member: Member, system: System, road: Road, sets: Sequence[str]) -> list[Step]:
    steps, best = [], road.best(member)
    named = ["--model", f"{member.name}={member.model}"]
    if member.recipe:
        named = ["--checkpoint", f"{member.name}={best}"]
        recipe = str(system.folder / member.recipe)
        own = recipe if member.recipe.endswith(".toml") else member.recipe
        listed = inline(str(road.work / "validation.txt"))
        changes = [*member.set, f"data.validation_list={listed}"]
        changes += [f"data.max_missing={road.max_missing:g}"] if road.max_missing else []
        command = ["train", own, "--data", str(heard_of(system, road)), "--out", str(best.parent)]
        command += [word for pair in changes for word in ("--set", pair)]
        settled = repr(system.recipes[member.name].settled())
        steps.append(Step(f"train {member.name}", (*command,), (best,), member, settled))
    options = dict(member.options)
    if member.model == SERVED and road.base_url:
        options.setdefault("base_url", road.base_url)
    for key, value in options.items():
        named += ["--option", f"{member.name}.{key}={inline(value)}"]
    named += ["--batch", f"{road.batch}", "--wait-s", f"{road.wait_s:g}"]
    named += ["--max-missing", f"{road.max_missing:g}"]
    for of in sets:
        out = road.answers(member.name, of)
        command = ["predict", str(road.clips(of)), *named, "--write", str(out.parent)]
        steps.append(Step(f"predict {member.name} {of}", (*command,), (out,), member))
    return steps


def _vote(system: System, road: Road) -> list[Step]:
    """Return the steps that fit and cast the vote."""
    ensemble, members = system.ensemble, system.members
    order = ["--priority", ",".join(ensemble.priority)] if ensemble.priority else []
    rule, steps = ["--rule", ensemble.method], []
    if members and ensemble.method not in RULES:
        combiner = road.work / "combiner.json"
        command = ["train", "ensemble", str(road.clips(VALIDATION))]
        command += [*_files(members, road, VALIDATION), "--method", ensemble.method, *order]
        options = [w for key, value in ensemble.options.items() for w in (f"--{key}", str(value))]
        command += ["--out", str(combiner), *options]
        steps = [Step("ensemble", (*command,), (combiner,))]
        rule = ["--combiner", str(combiner)]
    rule += ["--tie-policy", ensemble.tie_policy, *order]
    return [*steps, *_joint(VOTE, "--labels", members, rule, road)]


def _fuse(system: System, road: Road) -> list[Step]:
    members, steps, rule = system.attributes.members, [], []
    if members and system.attributes.method == "ridge":
        fusion = road.work / "fusion.json"
        command = ("train", "ensemble", str(road.clips(VALIDATION)), "--attributes")
        files = _files(members, road, VALIDATION)
        steps = [Step("fusion", (*command, *files, "--out", str(fusion)), (fusion,))]
        rule = ["--combiner", str(fusion)]
    return [*steps, *_joint(FUSED, "--attributes", members, rule, road)]


def _refine(system: System, road: Road) -> list[Step]:
    """Return the steps that let a language model revise the vote."""
    options, steps = {"wait_s": road.wait_s, **system.refiner.options}, []
    url = str(options.pop("base_url", road.base_url))
    for of in road.sets if system.refiner.model else ():
        out = road.answers(REFINED, of)
        command = ["refine", str(road.clips(of)), f"{VOTE}={road.answers(VOTE, of)}"]
        command += ["--base-url", url, "--model", system.refiner.model, "--out", str(out)]
        command += [w for k, v in options.items() for w in ("--option", f"{k}={inline(v)}")]
        steps.append(Step(f"refine {of}", (*command,), (out,)))
        if of == HIDDEN:
            labels = road.work / "submission" / "labels-refined.csv"
            revised = ("predict", str(road.clips(of)), f"{REFINED}={out}", "--labels", str(labels))
            steps.append(Step("refined labels", revised, (labels,)))
    return steps


def _joint(
    name: str, form: str, members: Sequence[Member], rule: Sequence[str], road: Road
) -> list[Step]:
    steps = []
    for of in road.sets if members else ():
        command = ["predict", str(road.clips(of)), *_files(members, road, of), *rule]
        writes = [road.answers(name, of)]
        command += ["--vote", str(writes[0])]
        if of == HIDDEN:
            writes.append(road.work / "submission" / f"{form[2:]}.csv")
            command += [form, str(writes[-1])]
        steps.append(Step(f"{name} {of}", (*command,), (*writes,)))
    return steps


def _files(members: Sequence[Member], road: Road, of: str) -> list[str]:
    return [f"{member.name}={road.answers(member.name, of)}" for member in members]


def _tables(system: System, road: Road, of: str) -> Step:
    variants = system.variants if of == VALIDATION else ()
    files = _files((*system.members, *system.attributes.members, *variants), road, of)
    files += [
        f"{m.alias}={road.answers(m.name, of)}" for m in system.members if m.alias and variants
    ]
    for name, members in ((VOTE, system.members), (FUSED, system.attributes.members)):
        files += [f"{name}={road.answers(name, of)}"] if members else []
    files += [f"{REFINED}={road.answers(REFINED, of)}"] if system.refiner.model else []
    command = ["eval", str(road.clips(of)), *files]
    command += ["--voters", ",".join(m.name for m in system.members)] if system.members else []
    order = system.ensemble.priority
    command += ["--priority", ",".join(order)] if order else []
    out = road.work / "tables" / f"{of}.json"
    return Step(f"tables {of}", (*command, "--json", str(out)), (out,))
