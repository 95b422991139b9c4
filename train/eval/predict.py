"""Runs models on the clips of a manifest, labelled or not, and writes their predictions.

Answers go to a journal batch by batch, so a run that is killed continues with the next batch and
writes the same file as an undisturbed one. The file itself is written only when all is answered.
"""

from __future__ import annotations

import csv
import gc
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import Progress

from abhinaya.models import sums
from abhinaya.models.base import Abstention, Ballot, Card, Utterance, Voter
from abhinaya.models.labels import HIGH, LABELS, LOW, Attributes
from abhinaya.models.text import distinct, say
from abhinaya.train.data.audio import judged_part, read_clip
from abhinaya.train.data.check import require_most
from abhinaya.train.data.clips import LONGEST_S, Clip
from abhinaya.train.data.journal import Journal
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.data.read_msp import ATTRIBUTES as EMO
from abhinaya.train.data.read_msp import CONSENSUS
from abhinaya.train.errors import DataError
from abhinaya.train.eval.models import Named, load

SCHEMA: Final = "abhinaya.predictions/1"
LETTERS: Final = {label: letter for letter, label in CONSENSUS.items()}
"""Label -> its letter in the challenge."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model's answer to a clip, as a line of the journal."""

    id: str
    label: str = ""
    probabilities: tuple[float, ...] | None = None
    attributes: tuple[float, float, float] | None = None
    """Arousal, valence, dominance, from 1 to 7."""
    reason: str = ""
    """Why there is neither a label nor attributes."""
    unread: bool = False
    """Whether the audio could not be read; such clips are tried again."""

    @classmethod
    def of(cls, clip: Clip, reply: Ballot | Abstention) -> Answer:
        """Return the answer that a reply is."""
        if isinstance(reply, Abstention):
            return cls(clip.id, reason=reply.reason)
        rated = None if reply.attributes is None else Attributes(*reply.attributes)
        return cls(clip.id, reply.label, reply.probabilities, rated)


# --- running a model ------------------------------------------------------------------------------


def run(
    models: Sequence[Named],
    manifest: Manifest,
    folder: Path,
    batch: int = 8,
    max_missing: float = 0.0,
) -> list[str]:
    """Run the models one after the other; return their prediction files as `NAME=FILE`.

    Raises DataError: audio cannot be read, or no clip has what a model needs; ModelError: a model
    cannot be loaded or run; OSError: predictions cannot be written.
    """
    if batch < 1:
        raise DataError(f"--batch {batch}: must be at least 1")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    # a name may differ from another only in a character that its file name cannot have
    stems = distinct(one.name.replace("/", "-") for one in models)
    for one, stem in zip(models, stems, strict=True):
        path, voter = folder / f"{stem}.csv", load(one)
        unanswered = predict(one, voter, manifest, path, batch, max_missing)
        answered = len(manifest.clips) - unanswered.total()
        say(f"{path}: {answered} of {len(manifest.clips)} clips answered", file=sys.stderr)
        for reason, count in unanswered.most_common():
            say(f"  not answered: {reason} ({count})", file=sys.stderr)
        files.append(f"{one.name}={path}")
        del voter
        gc.collect()  # the next model needs the memory
    return files


def predict(
    one: Named, voter: Voter, manifest: Manifest, path: Path, batch: int, max_missing: float = 0.0
) -> Counter[str]:
    """Ask a model about every clip and write `path`; return why clips have no answer, counted.

    `max_missing` is the share of clips whose audio may be unreadable. Raises as `run`.
    """
    header = {
        "schema": SCHEMA,
        "model": [voter.card.model, voter.card.version, _identity(one.options)],
        "clips": _digest([asdict(clip) for clip in manifest.clips]),
        "batch": batch,
        "max_s": one.max_s,
    }
    journal = Journal(path, header)
    answers: dict[str, Answer] = {
        name: msgspec.convert(line, Answer) for name, line in journal.done.items()
    }
    if answers:
        say(f"{path}: continues after {len(answers)} clips", file=sys.stderr)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(one.name, total=len(manifest.clips))
        for few in ask(voter, manifest, batch, answers, one.max_s):
            answers |= {answer.id: answer for answer in few}
            journal.add([msgspec.to_builtins(a) for a in few if not a.unread])
            bar.update(task, completed=len(answers))
    faults = [answer.reason for answer in answers.values() if answer.unread]
    require_most(manifest.root, faults, len(manifest.clips), max_missing, "--max-missing")
    write_predictions(path, voter.card, manifest.clips, answers)
    journal.close()
    return Counter(answer.reason for answer in answers.values() if answer.reason)


def ask(
    voter: Voter,
    manifest: Manifest,
    batch: int = 8,
    done: Iterable[str] = (),
    max_s: float = LONGEST_S,
) -> Iterator[list[Answer]]:
    """Yield the answers to the clips, `batch` at a time, but for batches that are in `done`.

    At most the first `max_s` seconds of a clip are judged.

    Each clip is like the first segment of a stream, so models that adapt to a voice cannot; measure
    these with `abhinaya bench quality`. Raises DataError: no clip has what the model needs.
    """
    card, finished = voter.card, set(done)
    lacks = [_lack(clip, card) for clip in manifest.clips]
    usable = [clip for clip, lack in zip(manifest.clips, lacks, strict=True) if not lack]
    if not usable:
        raise DataError(
            f"{manifest.root}: no clip has what {card.model} needs: "
            f"{' and '.join(sorted(card.needs))}; for transcripts see abhinaya data transcribe"
        )
    lacking = zip(manifest.clips, lacks, strict=True)
    idle = [Answer(clip.id, reason=lack) for clip, lack in lacking if lack]
    if not finished.issuperset(answer.id for answer in idle):
        yield idle
    for start in range(0, len(usable), batch):
        few = usable[start : start + batch]
        if not finished.issuperset(clip.id for clip in few):
            yield _batch(voter, manifest.root, few, max_s)


def _batch(voter: Voter, root: Path, clips: Sequence[Clip], max_s: float) -> list[Answer]:
    found: list[Answer] = []
    asked: list[tuple[Clip, Utterance]] = []
    for clip in clips:
        samples = np.zeros(0, np.float32)
        try:
            if "audio" in voter.card.needs:
                samples = judged_part(read_clip(root, clip), max_s)
            asked.append((clip, Utterance(samples, transcript=clip.transcript)))
        except DataError as error:
            found.append(Answer(clip.id, reason=str(error), unread=True))
    replies = voter.vote([utterance for _, utterance in asked]) if asked else ()
    pairs = zip(asked, replies, strict=True)
    return found + [Answer.of(clip, reply) for (clip, _), reply in pairs]


def _lack(clip: Clip, card: Card) -> str:
    """Return which input of the model the clip lacks; empty if none."""
    if "audio" in card.needs and not clip.path:
        return "the clip has no audio"
    if "transcript" in card.needs and not clip.transcript.strip():
        return "the clip has no transcript"
    return ""


def _identity(options: Mapping[str, Any]) -> str:
    """Return a digest of a model's options, and of the files of its checkpoint."""
    place = Path(str(options.get("checkpoint", "")))
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    known = {str(path): sums.sum_of(path) for path in files if path.is_file()}
    return _digest([dict(options), known])


def _digest(values: object) -> str:
    whole = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


# --- files ----------------------------------------------------------------------------------------


def write_predictions(
    path: Path, card: Card, clips: Sequence[Clip], answers: Mapping[str, Answer]
) -> None:
    """Write the answers in the order of `clips`; those without an answer are left out."""
    given = [(clip, answer) for clip in clips if not (answer := answers[clip.id]).reason]
    voted = [answer for _, answer in given if answer.label]
    scored = bool(voted) and all(answer.probabilities for answer in voted)
    rated = any(answer.attributes for _, answer in given)
    columns = ["FileName"]
    columns += ["EmoClass"] if voted or not rated else []
    columns += [*(LABELS if scored else ()), *(EMO.values() if rated else ())]

    def row(clip: Clip, answer: Answer) -> dict[str, str]:
        named = dict(zip(LABELS, answer.probabilities or (), strict=False))
        named |= dict(zip(EMO.values(), answer.attributes or (), strict=False))
        cells = {name: f"{value:.6f}" for name, value in named.items() if name in columns}
        labels = {"EmoClass": answer.label} if "EmoClass" in columns else {}
        of = {"model": card.model, "version": card.version, "split": clip.split}
        return {"FileName": clip.id} | labels | cells | of

    _write(path, [*columns, "model", "version", "split"], (row(*pair) for pair in given))


def write_challenge(
    path: Path, form: str, clips: Sequence[Clip], answers: Mapping[str, Answer]
) -> list[str]:
    """Write `form`, labels or attributes, as the challenge wants it; attributes are 1 to 7.

    Return the ids of clips that have none.
    """
    rows, lacking = [], []
    for clip in clips:
        answer, cells = answers[clip.id], {}
        if form == "labels" and answer.label:
            cells = {"EmoClass": LETTERS[answer.label]}
        elif form == "attributes" and answer.attributes:
            bounded = (min(max(value, LOW), HIGH) for value in answer.attributes)
            cells = {column: f"{v:.6f}" for column, v in zip(EMO.values(), bounded, strict=True)}
        if cells:
            rows.append({"FileName": Path(clip.path).name or clip.id} | cells)
        else:
            lacking.append(clip.id)
    columns = ["EmoClass"] if form == "labels" else [*EMO.values()]
    _write(path, ["FileName", *columns], rows)
    return lacking


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write a CSV; `path` is replaced only when all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.half")
    with half.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, columns, restval="")
        table.writeheader()
        table.writerows(rows)
    half.replace(path)
