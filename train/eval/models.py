"""Runs the models that `abhinaya eval` is asked to: checkpoints, models by name, a profile.

--checkpoint NAME=DIR            best/ of a training run
--model NAME=MODEL               MODEL of `abhinaya models list`; --option NAME.KEY=VALUE
--profile FILE                   all voters of a profile
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from rich.console import Console
from rich.progress import track

from abhinaya.models import registry
from abhinaya.models.base import SAMPLE_RATE, Abstention, Ballot, Card, Utterance, Voter
from abhinaya.models.errors import UnknownModelError
from abhinaya.models.labels import LABELS
from abhinaya.models.text import distinct, say
from abhinaya.train.command import pair_of, profile_table, toml_value
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.data.read_msp import ATTRIBUTES as EMO
from abhinaya.train.errors import DataError
from abhinaya.train.eval.predictions import whole


@dataclass(frozen=True, slots=True)
class Named:
    """A model to run, and its name in the tables."""

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name models."""
    add = parser.add_argument_group("models to run first").add_argument
    for flag, metavar, about in (
        ("--checkpoint", "NAME=DIR", "best/ of a run"),
        ("--model", "NAME=MODEL", "model of abhinaya models list"),
        ("--option", "NAME.KEY=VALUE", "option of a model; VALUE as in TOML"),
    ):
        add(flag, action="append", default=[], metavar=metavar, help=about)
    add("--profile", type=Path, metavar="FILE", help="run all voters of a profile")
    folder, about = Path("predictions"), "folder for their predictions (%(default)s)"
    add("--write", type=Path, default=folder, metavar="DIR", help=about)
    add("--root", type=Path, help="folder of the audio, if it was moved")
    add("--batch", type=int, default=8, help="clips per batch (%(default)s)")


def asked(args: argparse.Namespace) -> list[Named]:
    """Return the models that the flags name.

    Raises DataError: a flag is invalid, or two models have one name; ModelError: a checkpoint
    cannot be read.
    """
    found = [*_of_profile(args.profile)] if args.profile is not None else []
    for pair in args.checkpoint:
        name, place = pair_of("--checkpoint", pair)
        from abhinaya.train.loop.checkpoint_card import described  # imports torch

        of = described(Path(place))
        found.append(Named(name, of.model, of.options))
    found += [Named(*pair_of("--model", pair)) for pair in args.model]
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"two models are called {', '.join(sorted(twice))}; rename one")
    for pair in args.option:
        key, value = pair_of("--option", pair)
        name, dot, option = key.rpartition(".")  # the name of a model may hold dots
        if not dot or name not in names:
            raise DataError(
                f"--option {pair}: give NAME.KEY=VALUE, NAME one of {', '.join(names) or 'none'}"
            )
        found[names.index(name)].options[option] = toml_value(value)
    return found


def run(args: argparse.Namespace, manifest: Manifest) -> list[str]:
    """Run the models one after the other; return their prediction files as `NAME=FILE`.

    Raises DataError: audio cannot be read, or no clip has what a model needs; ModelError: a model
    cannot be loaded or run; OSError: predictions cannot be written.
    """
    if args.batch < 1:
        raise DataError(f"--batch {args.batch}: must be at least 1")
    files = []
    models = asked(args)
    # a name may differ from another only in a character that its file name cannot have
    stems = distinct(one.name.replace("/", "-") for one in models)
    for one, stem in zip(models, stems, strict=True):
        args.write.mkdir(parents=True, exist_ok=True)
        path = args.write / f"{stem}.csv"
        model = _load(one)
        answers = track(
            ask(model, manifest, args.batch),
            description=one.name,
            total=len(manifest.clips),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        unanswered = write_predictions(path, model.card, answers)
        answered = len(manifest.clips) - unanswered.total()
        say(f"{path}: {answered} of {len(manifest.clips)} clips answered", file=sys.stderr)
        for reason, count in unanswered.most_common():
            say(f"  not answered: {reason} ({count})", file=sys.stderr)
        files.append(f"{one.name}={path}")
    return files


def _load(one: Named) -> Voter:
    try:
        return registry.load(one.model, one.options)
    except UnknownModelError as error:
        raise DataError(f"model {one.name}: {error}") from error


def _of_profile(path: Path) -> list[Named]:
    found = []
    for name, table in profile_table(path, "voters").items():
        if not isinstance(table, Mapping) or "model" not in table:
            raise DataError(f"--profile {path}: voters.{name} names no model")
        found.append(Named(name, str(table["model"]), dict(table.get("options", {}))))
    return found


# --- running a model ----------------------------------------------------------------------------


LONGEST: Final = 10 * SAMPLE_RATE
"""Samples in the monitor's longest segment; longer clips are cut into equal pieces."""
Reply: TypeAlias = Ballot | Abstention


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's reply about a clip."""

    clip: Clip
    reply: Reply


def ask(model: Voter, manifest: Manifest, batch: int = 8) -> Iterator[Answer]:
    """Yield the answer to each clip; `batch` clips are run together.

    Each clip is like the first segment of a stream, so models that adapt to a voice cannot; measure
    these with `abhinaya bench quality`.

    Raises DataError: audio cannot be read, or no clip has what the model needs.
    """
    card = model.card
    lacks = [_lack(clip, card) for clip in manifest.clips]
    usable = [clip for clip, lack in zip(manifest.clips, lacks, strict=True) if not lack]
    for clip, lack in zip(manifest.clips, lacks, strict=True):
        if lack:
            yield Answer(clip, Abstention(lack))
    if not usable:
        raise DataError(
            f"{manifest.root}: no clip has what {card.model} needs: "
            f"{' and '.join(sorted(card.needs))}; for transcripts see abhinaya data transcribe"
        )
    for start in range(0, len(usable), batch):
        few = usable[start : start + batch]
        pieces = [_pieces(manifest.root, clip, card) for clip in few]
        answers = iter(model.vote([piece for of in pieces for piece in of]))
        for clip, of in zip(few, pieces, strict=True):
            yield Answer(clip, _together([(next(answers), len(p.samples) or 1) for p in of]))


def _lack(clip: Clip, card: Card) -> str:
    """Return which input of the model the clip lacks; empty if none."""
    if "audio" in card.needs and not clip.path:
        return "the clip has no audio"
    if "transcript" in card.needs and not clip.transcript.strip():
        return "the clip has no transcript"
    return ""


def _pieces(root: Path, clip: Clip, card: Card) -> list[Utterance]:
    """Cut a clip into equal pieces of at most LONGEST samples."""
    samples = read_clip(root, clip) if "audio" in card.needs else np.zeros(0, np.float32)
    parts = np.array_split(samples, max(1, math.ceil(len(samples) / LONGEST)))
    return [Utterance(part, transcript=clip.transcript) for part in parts]


def _together(replies: Sequence[tuple[Reply, int]]) -> Reply:
    """Return one reply for a clip from its pieces' replies, weighted by their samples."""
    voted = [(reply, float(n)) for reply, n in replies if isinstance(reply, Ballot)]
    return whole(voted) if voted else replies[0][0]


def write_predictions(path: Path, card: Card, answers: Iterable[Answer]) -> Counter[str]:
    """Write the answers as CSV; return the number of clips without an answer, by reason.

    `path` is replaced only when all is written. Raises OSError if it cannot be written.
    """
    unanswered: Counter[str] = Counter()
    rows: list[tuple[Clip, Ballot]] = []
    for answer in answers:
        if isinstance(answer.reply, Abstention):
            unanswered[answer.reply.reason] += 1
        else:
            rows.append((answer.clip, answer.reply))
    voted = [ballot for _, ballot in rows if ballot.label]
    scored = bool(voted) and all(ballot.probabilities for ballot in voted)
    rated = any(ballot.attributes for _, ballot in rows)
    columns = [
        *(("label",) if voted or not rated else ()),
        *(LABELS if scored else ()),
        *(EMO.values() if rated else ()),
    ]
    half = path.with_name(f"{path.name}.half")
    with half.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, ["id", *columns, "model", "version", "split"], restval="")
        table.writeheader()
        for clip, ballot in rows:
            named = dict(zip(LABELS, ballot.probabilities or (), strict=False)) if scored else {}
            named |= dict(zip(EMO.values(), ballot.attributes or (), strict=False))
            cells = {name: f"{value:.6f}" for name, value in named.items()}
            labels = {"label": ballot.label} if "label" in columns else {}
            of = {"model": card.model, "version": card.version, "split": clip.split}
            table.writerow({"id": clip.id} | labels | cells | of)
    half.replace(path)
    return unanswered
