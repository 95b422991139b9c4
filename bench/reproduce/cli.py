"""`abhinaya reproduce SYSTEM`: the whole road from a corpus to the tables of a paper.

It prepares and checks MSP-Podcast, transcribes it, draws one validation list, trains the members of
a system (abhinaya train --list), labels validation list and hidden test, votes, and writes a report
that shows the lab's figures beside the published ones. Run again, it continues.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from abhinaya.bench.reproduce.cost import estimates, licences, missing, operations_a_second
from abhinaya.bench.reproduce.plan import HIDDEN, VALIDATION, Road, Step, plan
from abhinaya.bench.reproduce.report import write_report
from abhinaya.bench.reproduce.run import State, alone, run
from abhinaya.models.command_line import Parser
from abhinaya.models.text import say
from abhinaya.train.command import guarded
from abhinaya.train.data.manifest import read_manifest
from abhinaya.train.data.read import read_corpus
from abhinaya.train.errors import DataError
from abhinaya.train.recipes.system import change_of, load_system, read_table


def main(argv: Sequence[str] | None = None) -> int:
    """Reproduce. Return the exit code, see `guarded`."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    return guarded("abhinaya reproduce", lambda: _reproduce(args))


def _parser() -> argparse.ArgumentParser:
    parser = Parser("abhinaya reproduce", __doc__)
    add = parser.add_argument
    add("system", help="a system of abhinaya train --list, or the folder of one")
    add("--corpus", type=Path, required=True, metavar="DIR", help="MSP-Podcast, unpacked")
    add("--work", type=Path, required=True, metavar="DIR", help="folder of all that is written")
    about = "run only these: names of steps, or their first word, such as train"
    add("--only", metavar="STEP,...", help=about)
    add("--without", metavar="STEP,...", help="leave these out")
    about = "variants to train and measure, or `none` (default: all)"
    add("--variants", metavar="A,B,...", help=about)
    about = "print what would run, its time and memory, and what is missing"
    add("--dry-run", action="store_true", help=about)
    sets = ",".join((VALIDATION, HIDDEN))
    add("--sets", default=sets, metavar="A,B,...", help="splits to label (%(default)s)")
    add("--base-url", default="", metavar="URL", help="server of the models that are served")
    add("--asr", metavar="MODEL", help="Whisper of the transcripts, or `corpus` for its own")
    about = "TOML with changes: [members.S1.train] epochs = 1; [members.T1.options] ..."
    add("--with", action="append", default=[], type=Path, metavar="FILE", dest="files", help=about)
    about = "one change: members.S1.train.epochs=1; VALUE as in TOML; * for every trained member"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=about)
    about = "share of audio files that may be missing or corrupt (%(default)s)"
    add("--max-missing", type=float, default=0.0, metavar="SHARE", help=about)
    add("--batch", type=int, default=8, help="clips per batch of predictions (%(default)s)")
    about = "seconds to wait for a server that is away (%(default)g)"
    add("--wait-s", type=float, default=7_200.0, metavar="S", help=about)
    return parser


def _reproduce(args: argparse.Namespace) -> int:
    if not (0 <= args.max_missing <= 1 and args.batch >= 1 and args.wait_s >= 0):
        raise DataError("out of range: give --max-missing 0 to 1, --batch from 1, --wait-s from 0")
    changes = [*(read_table("--with", path) for path in args.files), *map(change_of, args.set)]
    changes += [] if args.asr is None else [{"data": {"asr": args.asr}}]
    system = load_system(args.system, changes)
    if args.variants is not None:
        asked = [] if args.variants == "none" else args.variants.split(",")
        known = {member.name: member for member in system.variants}
        if unknown := [name for name in asked if name not in known]:
            raise DataError(
                f"--variants {unknown[0]}: unknown; known: {', '.join(known) or 'none'}"
            )
        system = replace(system, variants=tuple(known[name] for name in asked))
    sets = tuple(dict.fromkeys([VALIDATION, *args.sets.split(",")]))
    places = args.corpus.absolute(), args.work.absolute()
    road = Road(*places, sets, args.base_url, args.max_missing, args.batch, args.wait_s)
    steps = _chosen(plan(system, road), args.only, args.without)
    state = State(road.work / "state.json")
    left = [step for step in steps if not state.is_done(step)]
    lacks = list(missing(left, system, road))
    if args.dry_run:
        clips = _clips(road, system.data.balanced)
        costs = estimates(steps, system, state, clips, operations_a_second())
        for step in steps:
            cost = costs.get(step.name)
            took = f"about {cost.seconds / 3600:.1f} h, {cost.gigabytes:.0f} GB" if cost else ""
            say(f"{'to do' if step in left else 'done':5}  {step.name:28}  {took}".rstrip())
            say(f"           abhinaya {shlex.join(step.command)}")
        hours = sum(costs[step.name].seconds for step in left if step.heavy) / 3600
        say(f"to do: {len(left)} of {len(steps)} steps, about {hours:.1f} h on this machine")
        for line in (*licences(left, system), *(f"missing: {text}" for text in lacks)):
            say(line)
        return 0
    if lacks:
        say(*(f"missing: {text}" for text in lacks), file=sys.stderr)
        raise DataError(f"{len(lacks)} of what the steps need are missing, see above")
    with alone(road.work):
        run(steps, state)
        tables = {of: road.work / "tables" / f"{of}.json" for of in sets}
        made = {of: path for of, path in tables.items() if path.exists()}
        seconds = {name: record.seconds for name, record in state.steps.items() if record.done}
        out = road.work / "report.html"
        if made:
            write_report(system, made, seconds, out)
            say(f"report: {out}")
    return 0


def _chosen(steps: Sequence[Step], only: str | None, without: str | None) -> list[Step]:
    names = {step.name for step in steps} | {step.name.split()[0] for step in steps}
    groups = [set(text.split(",")) if text else set() for text in (only, without)]
    for name in set.union(*groups) - names:
        raise DataError(f"step {name!r}: unknown; known: {', '.join(s.name for s in steps)}")

    def among(step: Step, group: set[str]) -> bool:
        return not group.isdisjoint({step.name, step.name.split()[0]})

    wanted, unwanted = groups
    return [s for s in steps if (not wanted or among(s, wanted)) and not among(s, unwanted)]


def _clips(road: Road, balanced: int) -> Counter[str]:
    """Return the number of clips by split, and of the validation list."""
    made = road.work / "manifest.jsonl"
    manifest = read_manifest(made) if made.exists() else read_corpus("msp-podcast", road.corpus)
    clips = Counter(clip.split for clip in manifest.clips)
    labels = Counter(clip.label for clip in manifest.clips if clip.split == "dev" and clip.label)
    clips[VALIDATION] = balanced * len(labels) or labels.total()
    return clips
