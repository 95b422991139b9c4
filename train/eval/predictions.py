"""Predictions of any system, joined to the clips of a manifest.

CSV         FileName,EmoClass as the challenge wants it, or id,label; columns named after all
            eight labels are taken as probabilities
JSON lines  what the monitor writes: its streams are the clips, its voters and its verdict are
            systems; a clip cut into several segments is put together again, by duration
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from abhinaya.models.base import Ballot, FloatArray
from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.train.data.clips import OTHER, Clip, DataError
from abhinaya.train.data.read_acted import AUDIO
from abhinaya.train.data.read_plain import known_label
from abhinaya.train.eval.monitor import SUFFIXES, read_verdicts
from abhinaya.train.metrics import Indices

Said = TypeVar("Said")
VERDICT: Final = "verdict"
"""Name of the system that is the monitor's decision on all its voters."""
NAMES: Final = ("FileName", "id", "path")
"""Columns that may name the clip of a row; the first that is there does."""
_LABEL: Final = ("EmoClass", "label", "Prediction")
Part = tuple[Ballot, float]
"""What a system says of a part of a clip, and its seconds."""
Ballots = dict[str, Ballot]
"""Clip id -> what one system says of it; a clip that is absent was not answered."""


@dataclass(frozen=True, slots=True)
class System:
    """What one system says of the N clips of a manifest."""

    name: str
    guess: Indices
    """[N] index in LABELS; -1 where it gave no answer, which counts as wrong."""
    probabilities: FloatArray | None
    """[N, C], 0 where it gave no answer; None if it gives none for some answer."""

    @property
    def answered(self) -> int:
        """Clips it gave an answer to."""
        return int(np.sum(self.guess >= 0))


def read_predictions(path: Path, name: str) -> dict[str, Ballots]:
    """Read systems from a file: one, called `name`, from CSV; each voter and the verdict from JSON.

    Raises:
        DataError: no such file, an unknown label, probabilities that are no numbers, or a clip
            that is answered twice.

    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of predictions; give a CSV or the monitor's JSON")
    try:
        if path.suffix.lower() in SUFFIXES:
            return _from_monitor(path)
        return {name: _from_csv(path)}
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}; is it the file?") from error


def join(name: str, ballots: Ballots, clips: Sequence[Clip]) -> System:
    """Bring the answers of a system into the order of `clips`.

    Raises:
        DataError: none of its answers is about any of them.

    """
    found = found_answers(ballots, clips)
    if not any(found):
        told = next(iter(ballots), "nothing")
        raise DataError(
            f"predictions of {name}: none is about a clip of this manifest (the first is about "
            f"{told!r}, a clip is called {clips[0].id!r}); are they of another corpus or split?"
        )
    guess = np.array([LABELS.index(b.label) if b else -1 for b in found], np.int64)
    if any(b is not None and b.probabilities is None for b in found):
        return System(name, guess, None)
    rows = [b.probabilities if b and b.probabilities else (0.0,) * len(LABELS) for b in found]
    return System(name, guess, np.array(rows, np.float32))


def found_answers(answers: Mapping[str, Said], clips: Sequence[Clip]) -> list[Said | None]:
    """Find the answers [N] by id or path; by file name only where that is unique on both sides."""
    named = Counter(map(_stem, answers))
    short = {_stem(key): said for key, said in answers.items() if named[_stem(key)] == 1}
    stems = [_stem(clip.path or clip.id) for clip in clips]
    times = Counter(stems)
    return [
        answers.get(clip.id)
        or answers.get(clip.path)
        or (short.get(stem) if times[stem] == 1 else None)
        for clip, stem in zip(clips, stems, strict=True)
    ]


def labels_in(columns: Collection[str]) -> bool:
    """Whether a CSV with these columns says labels."""
    return any(c in columns for c in _LABEL) or set(columns).issuperset(LABELS)


def _from_csv(path: Path) -> Ballots:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    columns = set(rows[0]) if rows else set()
    names = next((c for c in NAMES if c in columns), None)
    label = next((c for c in _LABEL if c in columns), None)
    scored = columns.issuperset(LABELS)
    if names is None or not labels_in(columns):
        raise DataError(
            f"{path}: needs a column FileName (or id) and EmoClass (or label, or all eight labels "
            f"as probabilities); it has {', '.join(sorted(columns)) or 'no rows'}"
        )
    ballots: Ballots = {}
    for number, row in enumerate(rows, 2):
        here = Path(f"{path}:{number}")
        clip = row[names].strip()
        if clip in ballots:
            raise DataError(f"{here}: {clip!r} is answered twice; remove one of the answers")
        probabilities = _probabilities(here, row) if scored else None
        said = row[label].strip() if label else LABELS[int(np.argmax(probabilities or ()))]
        if not said:
            continue  # an empty answer is an abstention
        meant = known_label(here, said)
        if meant == OTHER:
            raise DataError(f"{here}: predicts {said!r}; only the eight labels can be scored")
        ballots[clip] = Ballot(meant, probabilities)
    return ballots


def _probabilities(here: Path, row: Mapping[str, str]) -> tuple[float, ...]:
    try:
        found = tuple(float(row[name]) for name in LABELS)
    except ValueError as error:
        raise DataError(f"{here}: a probability is no number: {error}") from error
    if not abs(sum(found) - 1.0) < 1e-3 or min(found) < 0.0:
        raise DataError(
            f"{here}: probabilities sum to {sum(found):.4f}, not to 1; give probabilities, "
            "not scores"
        )
    return found


def _from_monitor(path: Path) -> dict[str, Ballots]:
    parts: dict[str, dict[str, list[Part]]] = {}
    for (clip, _), verdict in read_verdicts(path).items():
        said = dict(verdict.votes)
        if verdict.label != UNKNOWN:
            said[VERDICT] = Ballot(verdict.label)
        for voter, ballot in said.items():
            parts.setdefault(voter, {}).setdefault(clip, []).append((ballot, verdict.seconds))
    return {
        voter: {clip: whole(of) for clip, of in clips.items()} for voter, clips in parts.items()
    }


def whole(parts: Sequence[Part]) -> Ballot:
    """Give one answer for a clip of several parts: the mean, weighted by their seconds."""
    total = sum(seconds for _, seconds in parts) or 1.0
    given = [(ballot.probabilities, s) for ballot, s in parts if ballot.probabilities is not None]
    if len(given) == len(parts):
        mean = [sum(s * p[c] for p, s in given) / total for c in range(len(LABELS))]
        return Ballot(LABELS[int(np.argmax(mean))], tuple(mean))
    covered = {name: sum(s for b, s in parts if b.label == name) for name in LABELS}
    return Ballot(max(LABELS, key=covered.__getitem__))


def _stem(name: str) -> str:
    """File name without folder, and without suffix if that is one of audio: other dots stay."""
    path = Path(name)
    return path.stem if path.suffix.lower() in AUDIO else path.name
