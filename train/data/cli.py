"""`abhinaya data`: make a manifest of a corpus for training and evaluation, and check it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from abhinaya.models.asr import load_transcriber
from abhinaya.models.asr.clips import BATCH, WHOLE, words_of
from abhinaya.models.command_line import Parser
from abhinaya.models.errors import near_miss
from abhinaya.models.labels import LABELS
from abhinaya.models.text import say
from abhinaya.train.command import guarded, pair_of, profile_table, toml_value
from abhinaya.train.data import check as checking
from abhinaya.train.data.clips import NO_AGREEMENT, OTHER
from abhinaya.train.data.manifest import (
    Manifest,
    balanced,
    named,
    read_manifest,
    read_names,
    write_manifest,
)
from abhinaya.train.data.read import CORPORA, read_corpus
from abhinaya.train.data.read_plain import AUDIO
from abhinaya.train.data.transcribe import transcribe_manifest
from abhinaya.train.errors import DataError

SHOWN = 5
"""Most faults of one kind that are printed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Return the exit code: 0, or 1 if the data has a fault."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    return guarded("abhinaya data", lambda: int(args.run(args)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser("abhinaya data", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="read a corpus and write its manifest")
    prepare.set_defaults(run=_prepare)
    add, corpora = prepare.add_argument, sorted(CORPORA)
    add("corpus", choices=corpora, metavar="CORPUS", help=", ".join(corpora))
    add("folder", type=Path, help="unpacked corpus; for csv, the file")
    add("--out", type=Path, required=True, help="manifest to write (.jsonl)")
    add("--dev-speakers", default="", metavar="A,B", help="speakers of dev; the rest is train")
    ways, about = ("published", "votes"), "which label counts where they differ (%(default)s)"
    add("--consensus", choices=ways, default=ways[0], help=about)
    add("--list", type=Path, help="keep the clips named in a text or JSON file")
    draw = commands.add_parser("validation", help="draw one list of validation clips")
    draw.set_defaults(run=_validation)
    add = draw.add_argument
    add("manifest", type=Path)
    add("--per-class", type=int, required=True, metavar="N", help="clips of each label; 0: all")
    add("--split", default="dev", help="split to draw from (%(default)s)")
    add("--seed", type=int, default=0, help="seed of the draw (%(default)s)")
    add("--out", type=Path, required=True, metavar="FILE", help="list for data.validation_list")
    add("--sets", type=Path, metavar="DIR", help="also write validation.jsonl with these clips")
    add("--with", default="", dest="splits", metavar="A,B", help="and in --sets A.jsonl, B.jsonl")
    transcribe = commands.add_parser("transcribe", help="add transcripts; can be resumed")
    transcribe.set_defaults(run=_transcribe)
    add = transcribe.add_argument
    add("manifest", type=Path)
    add("--out", type=Path, required=True, help="manifest to write (.jsonl)")
    add("--replace", action="store_true", help="also clips that have a transcript")
    add("--profile", type=Path, metavar="FILE", help="use its [asr]")
    add("--as-monitor", action="store_true", help="cut at pauses, drop doubtful texts")
    add("--batch", type=int, default=BATCH, help="clips in one call (%(default)s)")
    about = "asr.model or asr.options.KEY"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=about)
    check = commands.add_parser("check", help="find faults")
    check.set_defaults(run=_check)
    check.add_argument("manifest", type=Path)
    check.add_argument("--rate", type=int, help="required sample rate in Hz")
    stats = commands.add_parser("stats", help="count clips and labels")
    stats.set_defaults(run=_stats)
    stats.add_argument("manifest", type=Path)
    for add in (check.add_argument, transcribe.add_argument):
        add("--root", type=Path, help="folder of the audio, if it was moved")
        about = "share of files that may be missing or corrupt (%(default)s)"
        add("--max-missing", type=float, default=0.0, metavar="SHARE", help=about)
    return parser


def _transcribe(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.manifest, args.root)
    asr = profile_table(args.profile, "asr") if args.profile else {}
    model, options = str(asr.get("model", "faster-whisper")), dict(asr.get("options", {}))
    for key, value in (pair_of("--set", pair) for pair in args.set):
        if key == "asr.model":
            model = value
        elif key.startswith("asr.options."):
            options[key.removeprefix("asr.options.")] = toml_value(value)
        else:
            raise DataError(f"--set {key}: set asr.model or asr.options.KEY")
    if args.batch < 1:
        raise DataError(f"--batch {args.batch}: must be at least 1")
    if model == "faster-whisper" and not args.as_monitor:
        options = {**WHOLE, **options}
    words = partial(words_of, load_transcriber(model, options), args.as_monitor)
    columns = (TextColumn("transcribing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = time.process_time()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        outcome = transcribe_manifest(
            manifest,
            args.out,
            words,
            {"model": model, "options": options, "as_monitor": args.as_monitor},
            args.replace,
            args.max_missing,
            lambda done, of: bar.update(task, completed=done, total=of),
            args.batch,
        )
    count, cpu_s = outcome.transcribed, time.process_time() - started
    texts = f"{count} transcribed ({outcome.wordless} without words), {outcome.kept} kept as is"
    say(f"{args.out}: {texts}", f"CPU: {cpu_s:.1f} s, {count / cpu_s:.2f} clips a second")
    _print_some([f"{clip}: {reason}" for clip, reason in outcome.failed.items()], 4)
    return 0


def _prepare(args: argparse.Namespace) -> int:
    manifest = read_corpus(args.corpus, args.folder)
    torn = [f"{f.subject}: {f.detail}" for f in checking.disagreements(manifest.clips)]
    if args.consensus == "votes":
        manifest = replace(manifest, clips=tuple(replace(c, published="") for c in manifest.clips))
    if args.dev_speakers:
        manifest = _divided(manifest, args.dev_speakers.split(","))
    if args.list is not None:
        manifest = replace(manifest, clips=tuple(named(manifest.clips, read_names(args.list))))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(args.out, manifest)
    files = sum(p.suffix.lower() in AUDIO for p in manifest.root.rglob("*"))
    say(f"{args.out}: {len(manifest.clips)} clips; {files} audio files in {manifest.root}")
    if torn:
        say(f"{len(torn)} published labels are not those of the votes; counted: {args.consensus}")
        _print_some(torn, 4)
    return 0


def _validation(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.manifest)
    few = [clip for clip in manifest.only(args.split).clips if clip.label]
    learnt = {clip.label for clip in manifest.clips if clip.split == "train" and clip.label}
    if absent := sorted(learnt - {clip.label for clip in few}):
        which = f"{args.split} has no clip of {', '.join(absent)}, which train has"
        raise DataError(f"{args.manifest}: {which}; is the corpus whole?")
    if args.per_class:
        few = balanced(few, args.per_class, args.seed)
    if args.sets:
        args.sets.mkdir(parents=True, exist_ok=True)
        sets = {split: manifest.only(split).clips for split in args.splits.split(",") if split}
        for name, clips in {"validation": few, **sets}.items():
            write_manifest(args.sets / f"{name}.jsonl", replace(manifest, clips=tuple(clips)))
    args.out.write_text("".join(f"{clip.id}\n" for clip in few), "utf-8")
    count = Counter(clip.label for clip in few)
    say(f"{args.out}: {', '.join(f'{n} {label}' for label, n in sorted(count.items()))}")
    return 0


def _divided(manifest: Manifest, dev: Sequence[str]) -> Manifest:
    speakers = {clip.speaker for clip in manifest.clips}
    if unknown := sorted(set(dev) - speakers):
        hint = near_miss(unknown[0], speakers)
        raise DataError(f"--dev-speakers: unknown in this corpus: {', '.join(unknown)}; {hint}")
    clips = (replace(c, split="dev" if c.speaker in dev else "train") for c in manifest.clips)
    return replace(manifest, clips=tuple(clips))


def _check(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.manifest, args.root)
    findings = checking.check(manifest, args.rate)
    spoken = sum(bool(clip.path) for clip in manifest.clips)
    say(f"{len(manifest.clips)} clips, {spoken} with audio below {manifest.root}")
    for kind, about in checking.ABOUT.items():
        of = [f"{f.subject}: {f.detail}" for f in findings if f.kind == kind]
        say(f"{kind:10} {len(of):6}  {about if of else 'none'}")
        _print_some(of, 19)
    checking.require(manifest, findings, args.max_missing)
    allowed = {"missing", "corrupt", *checking.WARNINGS}
    return int(any(f.kind not in allowed for f in findings))


def _print_some(lines: Sequence[str], indent: int) -> None:
    for line in lines[:SHOWN]:
        say(f"{'':{indent}}{line}")
    if len(lines) > SHOWN:
        say(f"{'':{indent}}and {len(lines) - SHOWN} more")


def _stats(args: argparse.Namespace) -> int:
    table: dict[str, Counter[str]] = {}
    speakers: dict[str, set[str]] = {}
    for clip in read_manifest(args.manifest).clips:
        row = f"{clip.corpus} {clip.split or '-'}"
        table.setdefault(row, Counter())[clip.consensus or NO_AGREEMENT] += 1
        speakers.setdefault(row, set()).update({clip.speaker} - {""})
    columns = [c for c in (*LABELS, OTHER, "no agreement") if any(of[c] for of in table.values())]
    width = max(map(len, table), default=0)
    say(f"{'':{width}}  {'clips':>8} {'speakers':>8} {' '.join(columns)}")
    for row, of in sorted(table.items()):
        cells = "".join(f" {of[c]:>{len(c)}}" for c in columns)
        say(f"{row:{width}}  {of.total():>8} {len(speakers[row]):>8}{cells}")
    return 0
