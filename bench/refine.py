"""`abhinaya refine`: let a served language model revise predictions, after EMOJUDGE.

The model gets the transcript, how it was said, the speaker and the predicted label of each clip. It
keeps the label unless it is more than 80 % confident of another: any answer but one label keeps it.
A run that is killed continues where it was; a server that is away is waited for. If the clips have
labels, the macro-F1 with and without is printed: compare before you use it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.models import registry
from abhinaya.models.base import Abstention, Ballot, Utterance, Voter
from abhinaya.models.command_line import Parser
from abhinaya.models.labels import LABELS
from abhinaya.models.text import say
from abhinaya.train.command import guarded, pair_of, toml_value
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.journal import Journal
from abhinaya.train.data.manifest import Manifest, read_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval.intervals import Comparison, Interval
from abhinaya.train.eval.predict import Answer, write_predictions
from abhinaya.train.eval.predictions import (
    Predictions,
    found_answers,
    join,
    named_file,
    read_predictions,
)
from abhinaya.train.eval.tables import scored

SCHEMA: Final = "abhinaya.refined/1"
DEFAULTS: Final = {"prompt": "refine", "wait_s": 3600.0, "timeout_s": 60.0}
"""Options of the model `zero-shot`, unless others are given."""
SHAPING: Final = ("model", "prompt", "temperature", "max_tokens")
"""Options that change answers: a run that continues must have the same."""


@dataclass(frozen=True, slots=True)
class Refined:
    """What a refiner did to the predictions of N clips."""

    clips: int
    changed: int
    kept: Mapping[str, int]
    """Reason why a label was kept -> number of clips."""
    before: Interval | None = None
    """Macro-F1 of the predictions; None if the clips have no labels."""
    after: Interval | None = None
    gain: Comparison | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Refine predictions. Return the exit code, see `guarded`."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    return guarded("abhinaya refine", lambda: _run(args))


def _parser() -> argparse.ArgumentParser:
    parser = Parser("abhinaya refine", __doc__)
    add = parser.add_argument
    add("manifest", type=Path, help="made by abhinaya data prepare")
    add("predictions", metavar="[NAME=]FILE", help="CSV with the labels to refine")
    add("--out", type=Path, required=True, metavar="FILE", help="CSV of refined labels")
    add("--base-url", required=True, metavar="URL", help="server, up to /v1")
    add("--model", required=True, metavar="NAME", help="its name on the server")
    about = "option of the model zero-shot, such as wait_s or concurrency; repeatable"
    add("--option", action="append", default=[], metavar="KEY=VALUE", help=about)
    add("--split", help="clips of one split only")
    add("--root", type=Path, help="folder of the audio, if it was moved")
    add("--batch", type=int, default=32, help="clips per batch (%(default)s)")
    add("--resamples", type=int, default=1_000, help="default: %(default)s")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    return parser


def _run(args: argparse.Namespace) -> int:
    for name in ("batch", "resamples"):
        if getattr(args, name) < 1:
            raise DataError(f"--{name} {getattr(args, name)}: must be at least 1")
    manifest = read_manifest(args.manifest, args.root)
    if args.split:
        manifest = manifest.only(args.split)
    name, path = named_file(args.predictions)
    predictions = read_predictions(path, name)[name]
    options = {"base_url": args.base_url, "model": args.model}
    options |= {k: toml_value(v) for k, v in (pair_of("--option", pair) for pair in args.option)}
    found = refine(manifest, predictions, options, args.out, args.batch, args.resamples)
    if args.json is not None:
        args.json.write_text(json.dumps(msgspec.to_builtins(found), indent=1) + "\n", "utf-8")
    say(f"{args.out}: {found.changed} of {found.clips} labels changed")
    for reason, count in found.kept.items():
        say(f"  kept: {reason} ({count})")
    if found.gain is not None:
        say(f"macro-F1 without refinement {found.before}, with {found.after}")
        say(f"gain {found.gain.difference}, p {found.gain.p:.3f}")
    return 0


def refine(
    manifest: Manifest,
    predictions: Predictions,
    options: Mapping[str, Any],
    out: Path,
    batch: int = 32,
    resamples: int = 1_000,
) -> Refined:
    """Ask the refiner about every predicted clip, write `out`, and compare.

    `options` are those of the model `zero-shot`, over DEFAULTS. Raises DataError: no clip has a
    prediction, or audio cannot be read; ModelError: the server is away for too long; OSError.
    """
    found = found_answers("predictions", predictions.ballots, manifest.clips)
    ballots = {c.id: b for c, b in zip(manifest.clips, found, strict=True) if b and b.label}
    labels = {key: ballot.label for key, ballot in ballots.items()}
    clips = [clip for clip in manifest.clips if clip.id in labels]
    options = DEFAULTS | dict(options)
    header = {
        "schema": SCHEMA,
        "options": {name: options[name] for name in SHAPING if name in options},
        "clips": _digest([[asdict(clip), labels[clip.id]] for clip in clips]),
    }
    journal = Journal(out, header)
    refiner = registry.load("zero-shot", options)
    rest = [clip for clip in clips if clip.id not in journal.done]
    for few in (rest[i : i + batch] for i in range(0, len(rest), batch)):
        journal.add(_asked(refiner, manifest.root, few, labels))
    answers = {
        key: Answer(key, str(journal.done[key]["label"]), attributes=ballot.attributes)
        for key, ballot in ballots.items()
    }
    write_predictions(out, refiner.card, clips, answers)
    kept = Counter(str(line["kept"]) for line in journal.done.values() if line.get("kept"))
    changed = sum(answers[key].label != label for key, label in labels.items())
    journal.close()
    counts = Refined(len(clips), changed, dict(kept.most_common()))
    if not any(clip.label for clip in manifest.clips):
        return counts
    on = scored(manifest.clips, resamples=resamples)
    refined = Predictions({key: Ballot(answer.label) for key, answer in answers.items()})
    first, second = (join("predictions", of, on.clips).guess for of in (predictions, refined))
    before, after = on.interval(first), on.interval(second)
    return replace(counts, before=before, after=after, gain=on.compare(second, first))


def _asked(
    refiner: Voter, root: Path, clips: Sequence[Clip], labels: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """Yield the journal's line of each clip: its label, and why it was kept."""
    questions = [
        Utterance(
            read_clip(root, clip),
            transcript=clip.transcript,
            speaker=str(clip.speaker or ""),
            choices=(labels[clip.id], *(label for label in LABELS if label != labels[clip.id])),
        )
        for clip in clips
    ]
    for clip, reply in zip(clips, refiner.vote(questions), strict=True):
        if isinstance(reply, Abstention):
            yield {"id": clip.id, "label": labels[clip.id], "kept": reply.reason}
        else:
            yield {"id": clip.id, "label": reply.label}


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
