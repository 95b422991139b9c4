"""`abhinaya data`: from a folder of a corpus to a manifest that training and evaluation read."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from abhinaya.models.labels import LABELS
from abhinaya.train.data import check as checking
from abhinaya.train.data.clips import OTHER, DataError
from abhinaya.train.data.manifest import Manifest, balanced, named, read_manifest, write_manifest
from abhinaya.train.data.names import read_names
from abhinaya.train.data.read import READERS, read_corpus
from abhinaya.train.data.read_acted import AUDIO
from abhinaya.train.data.transcribe import transcribe_manifest

SHOWN = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 1 if the data is not as it should be, with one line that says why."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        if args.command == "prepare":
            return _prepare(args)
        if args.command == "transcribe":
            return _transcribe(args)
        return _check(args) if args.command == "check" else _stats(args)
    except DataError as error:
        print(f"abhinaya data: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"abhinaya data: {error}; write elsewhere, or make room", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="abhinaya data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="read a corpus and write its manifest")
    prepare.add_argument("corpus", help=", ".join(sorted(READERS)))
    prepare.add_argument("folder", type=Path, help="where it is unpacked; for csv, the file")
    prepare.add_argument("--out", type=Path, required=True, help="manifest to write (.jsonl)")
    prepare.add_argument(
        "--dev-speakers", default="", metavar="A,B", help="speakers of dev; the rest is train"
    )
    chosen = prepare.add_mutually_exclusive_group()
    chosen.add_argument(
        "--balanced", type=int, metavar="N", help="keep N clips a class of --split, by --seed"
    )
    chosen.add_argument("--list", type=Path, help="keep the clips a text or JSON file names")
    prepare.add_argument("--split", default="dev", help="of --balanced (default: %(default)s)")
    prepare.add_argument("--seed", type=int, default=0, help="of --balanced")
    transcribe = commands.add_parser(
        "transcribe", help="write down what is said, by the monitor's transcriber; resumable"
    )
    transcribe.add_argument("manifest", type=Path)
    transcribe.add_argument("--out", type=Path, required=True, help="manifest to write (.jsonl)")
    transcribe.add_argument("--root", type=Path, help="another folder of the audio")
    transcribe.add_argument(
        "--replace", action="store_true", help="also clips whose transcript is there already"
    )
    transcribe.add_argument("--profile", metavar="NAME|FILE", help="whose [asr] transcribes")
    transcribe.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as asr.model=..."
    )
    _add_max_missing(transcribe)
    for name, text in (("check", "look for what is wrong"), ("stats", "count clips and labels")):
        command = commands.add_parser(name, help=text)
        command.add_argument("manifest", type=Path)
        command.add_argument("--json", action="store_true", help="print JSON")
        if name == "check":
            command.add_argument("--root", type=Path, help="another folder of the audio")
            command.add_argument("--rate", type=int, help="Hz that every file must have")
            _add_max_missing(command)
    return parser


def _add_max_missing(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-missing",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of files that may be missing or corrupt (default: %(default)s)",
    )


def _transcribe(args: argparse.Namespace) -> int:
    line_up = [f"--profile={args.profile}"] if args.profile else []
    line_up += [f"--set={pair}" for pair in args.set]
    manifest = read_manifest(args.manifest, args.root)
    columns = (TextColumn("transcribing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        outcome = transcribe_manifest(
            manifest,
            args.out,
            line_up,
            args.replace,
            args.max_missing,
            lambda done, of: bar.update(task, completed=done, total=of),
        )
    print(f"{args.out}: {outcome.transcribed} transcribed, {outcome.kept} left as they were")
    for clip, reason in list(outcome.failed.items())[:SHOWN]:
        print(f"{'':4}{clip}: {reason}")
    if len(outcome.failed) > SHOWN:
        print(f"{'':4}and {len(outcome.failed) - SHOWN} more")
    return 0


def _prepare(args: argparse.Namespace) -> int:
    manifest = read_corpus(args.corpus, args.folder)
    if args.dev_speakers:
        manifest = _divided(manifest, args.dev_speakers.split(","))
    if args.balanced is not None:
        few = balanced(manifest.only(args.split).clips, args.balanced, args.seed)
        manifest = replace(manifest, clips=tuple(few))
    elif args.list is not None:
        manifest = replace(manifest, clips=tuple(named(manifest.clips, read_names(args.list))))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(args.out, manifest)
    files = sum(p.suffix.lower() in AUDIO for p in manifest.root.rglob("*"))
    print(f"{args.out}: {len(manifest.clips)} clips; {files} audio files in {manifest.root}")
    return 0


def _divided(manifest: Manifest, dev: Sequence[str]) -> Manifest:
    speakers = {clip.speaker for clip in manifest.clips}
    if unknown := sorted(set(dev) - speakers):
        raise DataError(
            f"--dev-speakers: {', '.join(unknown)} say nothing in this corpus; its speakers are "
            f"{', '.join(sorted(speakers)[:8])}{' ...' if len(speakers) > 8 else ''}"
        )
    clips = (replace(c, split="dev" if c.speaker in dev else "train") for c in manifest.clips)
    return replace(manifest, clips=tuple(clips))


def _check(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.manifest, args.root)
    findings = checking.check(manifest, args.rate)
    if args.json:
        print(json.dumps([asdict(f) for f in findings], indent=1))
    else:
        _tell(manifest, findings)
    checking.require(manifest, findings, args.max_missing)
    allowed = {"missing", "corrupt", *checking.WARNINGS}
    return int(any(f.kind not in allowed for f in findings))


def _tell(manifest: Manifest, findings: Sequence[checking.Finding]) -> None:
    spoken = sum(bool(clip.path) for clip in manifest.clips)
    print(f"{len(manifest.clips)} clips, {spoken} with audio below {manifest.root}")
    for kind, about in checking.ABOUT.items():
        of = [f for f in findings if f.kind == kind]
        print(f"{kind:10} {len(of):6}  {about if of else 'none'}")
        for finding in of[:SHOWN]:
            print(f"{'':18} {finding.subject}: {finding.detail}")
        if len(of) > SHOWN:
            print(f"{'':18} and {len(of) - SHOWN} more")


def _stats(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.manifest)
    table: dict[str, Counter[str]] = {}
    speakers: dict[str, set[str]] = {}
    for clip in manifest.clips:
        row = f"{clip.corpus} {clip.split or '-'}"
        table.setdefault(row, Counter())[clip.consensus or "no agreement"] += 1
        speakers.setdefault(row, set()).update({clip.speaker} - {""})
    if args.json:
        print(json.dumps({r: {"speakers": len(speakers[r]), **c} for r, c in table.items()}))
        return 0
    columns = [c for c in (*LABELS, OTHER, "no agreement") if any(of[c] for of in table.values())]
    width = max(map(len, table), default=0)
    print(
        f"{'':{width}}  {'clips':>8} {'speakers':>8}" + "".join(f" {c:>{len(c)}}" for c in columns)
    )
    for row, of in sorted(table.items()):
        cells = "".join(f" {of[c]:>{len(c)}}" for c in columns)
        print(f"{row:{width}}  {of.total():>8} {len(speakers[row]):>8}{cells}")
    return 0
