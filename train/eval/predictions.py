"""Reads predictions of systems, and matches them with the clips of a manifest.

CSV         columns FileName,EmoClass as in the challenge, or id,label; columns named after all
            eight labels are probabilities. Attributes are EmoAct, EmoVal, EmoDom from 1 to 7 as in
            the challenge, or arousal, valence, dominance from 0 to 1. Optional `model`, `version`,
            and `split`, of the clip
JSON lines  written by the monitor: each stream is a clip, each voter and the verdict a system; the
            segments of a clip are averaged, weighted by duration
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np

from abhinaya.models.base import Ballot, FloatArray
from abhinaya.models.labels import ATTRIBUTES, HIGH, LABELS, LOW, UNKNOWN, Attributes, Rating
from abhinaya.train.data.clips import OTHER, Clip
from abhinaya.train.data.read_msp import ATTRIBUTES as CHALLENGE
from abhinaya.train.data.read_plain import AUDIO, known_label
from abhinaya.train.data.tables import Row, lines_of, rows_of, text_of
from abhinaya.train.errors import DataError
from abhinaya.train.metrics import Indices

T = TypeVar("T")
VERDICT: Final = "verdict"
"""Name of the system whose labels are the monitor's verdicts."""
EVENTS: Final = (".jsonl", ".json", ".ndjson")
"""Suffixes of files with the monitor's JSON lines."""
TRAINED: Final = "train"
"""Value of the column `split` for clips that the model was trained on."""
HINT: Final = "give a CSV of predictions, or the monitor's JSON lines"
_NAMES: Final = ("FileName", "id", "path")
"""Columns that may have the clip names; the first that exists is used."""
_LABEL: Final = ("EmoClass", "label", "Prediction")
_SCALES: Final = (
    (tuple(CHALLENGE[name] for name in ATTRIBUTES), LOW, HIGH),
    (tuple(ATTRIBUTES), 0.0, 1.0),
)
"""Columns in the order of ATTRIBUTES, and the ends of their scale."""
_BEYOND: Final = 0.5
"""How far an attribute may be outside its scale, in widths of it; farther, the scale is wrong."""
Part = tuple[Ballot, float]
"""A system's answer about a part of a clip, and the part's seconds."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers of one system, and its model."""

    ballots: Mapping[str, Ballot]
    """Answer by clip; clips without an answer are absent."""
    models: frozenset[tuple[str, str]] = frozenset()
    """Models and versions in the file; empty if it names none."""
    trained_on: frozenset[str] = frozenset()
    """Answered clips that the model was trained on."""

    @property
    def votes(self) -> bool:
        """Whether an answer has a label."""
        return any(ballot.label for ballot in self.ballots.values())

    @property
    def rates(self) -> bool:
        """Whether an answer has attributes."""
        return any(ballot.attributes for ballot in self.ballots.values())

    def model(self, name: str) -> tuple[str, str]:
        """Return model and version; empty if unknown. Raises DataError if there are several."""
        if len(self.models) > 1:
            several = " and ".join(" ".join(m) or "an unnamed one" for m in sorted(self.models))
            raise DataError(
                f"predictions of {name}: it is of several models, {several}; give a file for each"
            )
        return next(iter(self.models), ("", ""))


@dataclass(frozen=True, slots=True)
class System:
    """Answers of one system about the N clips of a manifest."""

    name: str
    guess: Indices
    """[N] index in LABELS; -1 without an answer, which counts as wrong."""
    probabilities: FloatArray | None
    """[N, C], 0 without an answer; None if any answer has no probabilities."""

    @property
    def answered(self) -> int:
        """Number of clips with an answer."""
        return int(np.sum(self.guess >= 0))


def read_predictions(path: Path, name: str) -> dict[str, Predictions]:
    """Return the systems of a file: `name` for CSV; each voter and the verdict for JSON lines.

    Raises DataError: no such file, an unknown label, probabilities that are not numbers, or a clip
    that is answered twice.
    """
    return _from_events(path) if path.suffix.lower() in EVENTS else {name: _from_csv(path)}


def named_file(argument: str) -> tuple[str, Path]:
    """Return name and path of [NAME=]FILE."""
    name, _, file = argument.rpartition("=")
    return name or Path(file).stem, Path(file)


def read_all(files: Sequence[str]) -> dict[str, Predictions]:
    """Return the systems of all [NAME=]FILEs. Raises DataError if two have one name."""
    found: dict[str, Predictions] = {}
    for name, path in map(named_file, files):
        for system, predictions in read_predictions(path, name).items():
            if system in found:
                raise DataError(
                    f"{path}: there is already a system {system!r}; rename it: OTHER={path}"
                )
            found[system] = predictions
    return found


def chosen(found: Mapping[str, T], asked: str | None, default: Sequence[str]) -> dict[str, T]:
    """Return the systems named by --voters, or those of `default` without it."""
    names = asked.split(",") if asked is not None else default
    if unknown := [name for name in names if name not in found]:
        raise DataError(
            f"--voters: no predictions of {', '.join(unknown)}; found: {', '.join(found)}"
        )
    return {name: found[name] for name in names}


def join(name: str, predictions: Predictions, clips: Sequence[Clip]) -> System:
    """Return a system's labels in the order of `clips`. Raises DataError if no clip has one."""
    voted = {clip: ballot for clip, ballot in predictions.ballots.items() if ballot.label}
    found = found_answers(name, voted, clips)
    guess = np.array([LABELS.index(b.label) if b else -1 for b in found], np.int64)
    if any(b is not None and b.probabilities is None for b in found):
        return System(name, guess, None)
    rows = [b.probabilities if b and b.probabilities else (0.0,) * len(LABELS) for b in found]
    return System(name, guess, np.array(rows, np.float32))


def found_answers(
    name: str, answers: Mapping[str, T], clips: Sequence[Clip], fewest: int = 1
) -> list[T | None]:
    """Return the answer to each clip [N], found by id or path, or by a unique file name.

    Raises DataError if fewer than `fewest` clips have an answer.
    """
    named = Counter(map(_stem, answers))
    short = {_stem(key): answer for key, answer in answers.items() if named[_stem(key)] == 1}
    stems = [_stem(clip.path or clip.id) for clip in clips]
    times = Counter(stems)
    found = [
        answers.get(clip.id)
        or answers.get(clip.path)
        or (short.get(stem) if times[stem] == 1 else None)
        for clip, stem in zip(clips, stems, strict=True)
    ]
    if sum(one is not None for one in found) < fewest:
        number = "none fits a clip" if fewest == 1 else f"fewer than {fewest} fit a clip"
        raise DataError(
            f"predictions of {name}: {number} of this manifest (the first is about "
            f"{next(iter(answers), 'nothing')!r}, a clip is called {clips[0].id!r}); are they of "
            "another corpus or split?"
        )
    return found


def whole(parts: Sequence[Part]) -> Ballot:
    """Return one answer for a clip: the mean over its parts, weighted by seconds."""
    rated = [(ballot.attributes, s) for ballot, s in parts if ballot.attributes is not None]
    attributes = Attributes(*_mean(rated)) if rated else None
    voted = [(ballot, seconds) for ballot, seconds in parts if ballot.label]
    given = [(ballot.probabilities, s) for ballot, s in voted if ballot.probabilities is not None]
    if not voted:
        return Ballot(attributes=attributes)
    if len(given) == len(voted):
        mean = _mean(given)
        return Ballot(LABELS[int(np.argmax(mean))], mean, attributes=attributes)
    covered = {name: sum(s for b, s in voted if b.label == name) for name in LABELS}
    return Ballot(max(LABELS, key=covered.__getitem__), attributes=attributes)


def _mean(parts: Sequence[tuple[Sequence[float], float]]) -> tuple[float, ...]:
    """Return the mean of equally long vectors, each with its weight."""
    total = sum(weight for _, weight in parts) or 1.0
    return tuple(
        sum(weight * value for value, (_, weight) in zip(values, parts, strict=True)) / total
        for values in zip(*(vector for vector, _ in parts), strict=True)
    )


def refuse_trained(name: str, predictions: Predictions, splits: Collection[str]) -> None:
    """Raise DataError if a system was trained on its clips; `splits` are those of the manifest."""
    if predictions.trained_on:
        some = sorted(predictions.trained_on)[:3]
        raise DataError(
            f"predictions of {name}: {len(predictions.trained_on)} are of clips that it was "
            f"trained on (the first: {', '.join(some)}); fit on speakers that no voter has met"
        )
    if TRAINED in splits:
        raise DataError(
            "the manifest has clips of the split 'train', which voters were trained on; choose "
            "another with --split, or give a manifest of speakers that no voter has met"
        )


# --- CSV ------------------------------------------------------------------------------------------


def _from_csv(path: Path) -> Predictions:
    rows = rows_of(path, HINT)
    columns = set(rows[0]) if rows else set()
    names = next((c for c in _NAMES if c in columns), None)
    label = next((c for c in _LABEL if c in columns), None)
    scored = columns.issuperset(LABELS)
    if 1 < len(columns & {*LABELS}) < len(LABELS):
        lacks = ", ".join(name for name in LABELS if name not in columns)
        raise DataError(
            f"{path}: has columns of some labels, but not of {lacks}; a label that the system "
            "never gives has probability 0"
        )
    scale = next((scale for scale in _SCALES if columns.issuperset(scale[0])), None)
    if names is None or not (label or scored or scale):
        raise DataError(
            f"{path}: needs a column FileName (or id) and EmoClass (or label, or all eight labels "
            "as probabilities, or EmoAct, EmoVal and EmoDom); it has "
            f"{', '.join(sorted(columns)) or 'no rows'}"
        )
    ballots: dict[str, Ballot] = {}
    for number, row in enumerate(rows, 2):
        here, clip = f"{path}:{number}", row[names]
        if clip in ballots:
            raise DataError(f"{here}: {clip!r} is answered twice; remove one of the answers")
        named, probabilities = row[label] if label else "", None
        if scored and (named or not label):
            probabilities = _probabilities(here, row)
            named = named or LABELS[int(np.argmax(probabilities))]
        predicted = known_label(Path(here), named) if named else ""
        if predicted == OTHER:
            raise DataError(f"{here}: predicts {named!r}; only the eight labels can be scored")
        rating = _rating(here, row, *scale) if scale else None
        ballots[clip] = Ballot(predicted, probabilities, attributes=rating)
    answered = {
        clip: ballot for clip, ballot in ballots.items() if ballot.label or ballot.attributes
    }
    trained = frozenset(row[names] for row in rows if row.get("split") == TRAINED)
    models = frozenset((row.get("model", ""), row.get("version", "")) for row in rows)
    return Predictions(answered, models, trained & answered.keys())


def _rating(
    here: str, row: Row, names: Sequence[str], low: float, high: float
) -> Attributes | None:
    """Return the attributes of a row; None if all three cells are empty."""
    if not any(row[name] for name in names):
        return None
    found = []
    for name in names:
        try:
            value = float(row[name])
        except ValueError as error:
            raise DataError(f"{here}: {name} is {row[name]!r}, not a number") from error
        slack = _BEYOND * (high - low)
        if not low - slack <= value <= high + slack:
            raise DataError(f"{here}: {name} is {row[name]}; its scale is {low:g} to {high:g}")
        found.append((value - low) / (high - low))
    return Attributes.from_unit(found)


def _probabilities(here: str, row: Row) -> tuple[float, ...]:
    try:
        found = tuple(float(row[name]) for name in LABELS)
    except ValueError as error:
        raise DataError(f"{here}: a probability is not a number: {error}") from error
    if not abs(sum(found) - 1.0) < 1e-3 or min(found) < 0.0:
        raise DataError(
            f"{here}: probabilities sum to {sum(found):.4f}, not to 1; give probabilities, "
            "not scores"
        )
    return found


def _stem(name: str) -> str:
    """Return the file name without folder and audio suffix; other dots stay."""
    path = Path(name)
    return path.stem if path.suffix.lower() in AUDIO else path.name


# --- the monitor's JSON lines ---------------------------------------------------------------------


class _Event(msgspec.Struct):
    type: str = ""
    final: bool = True


class Vote(msgspec.Struct):
    """A voter's answer in the monitor's JSON."""

    voter: str
    label: str
    probabilities: dict[str, float] | None
    model: str = ""
    version: str = ""
    attributes: dict[str, Rating] | None = None

    def ballot(self) -> Ballot:
        """Return the answer as a ballot."""
        given, rated = self.probabilities, self.attributes
        if self.label and self.label not in LABELS:
            raise ValueError(f"{self.label!r} is not a label")
        shares = None if given is None else tuple(given[name] for name in LABELS)
        return Ballot(self.label, shares, attributes=_attributes(rated))


class Verdict(msgspec.Struct):
    """A verdict on one segment in the monitor's JSON."""

    stream: str
    segment: int
    revision: int
    label: str
    start_s: float
    end_s: float
    votes: list[Vote]
    attributes: dict[str, Rating] | None = None


def _attributes(values: Mapping[str, float] | None) -> Attributes | None:
    return None if values is None else Attributes(*(values[name] for name in ATTRIBUTES))


def read_verdicts(path: Path) -> list[Verdict]:
    """Return the last revision of each final verdict, sorted by stream and segment.

    Raises DataError: a line is not an event, or no line is a verdict.
    """
    latest: dict[tuple[str, int], Verdict] = {}
    for number, line in enumerate(lines_of(text_of(path, HINT)), 1):
        try:
            event = msgspec.json.decode(line, type=_Event)
            if event.type != "verdict" or not event.final:
                continue
            verdict = msgspec.json.decode(line, type=Verdict)
            _ = [vote.ballot() for vote in verdict.votes], (*LABELS, UNKNOWN).index(verdict.label)
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            raise DataError(
                f"{path}:{number}: is not an event of the monitor ({error}); see docs/events.md"
            ) from error
        key = verdict.stream, verdict.segment
        if key not in latest or latest[key].revision <= verdict.revision:
            latest[key] = verdict
    if not latest:
        raise DataError(f"{path}: holds no verdict; write it with abhinaya-stream --format jsonl")
    return [latest[key] for key in sorted(latest)]


def _from_events(path: Path) -> dict[str, Predictions]:
    parts: dict[str, dict[str, list[Part]]] = {}
    models: dict[str, set[tuple[str, str]]] = {}
    for verdict in read_verdicts(path):
        ballots = {vote.voter: vote.ballot() for vote in verdict.votes}
        label = "" if verdict.label == UNKNOWN else verdict.label
        if label or verdict.attributes:
            ballots[VERDICT] = Ballot(label, attributes=_attributes(verdict.attributes))
        for voter, ballot in ballots.items():
            of = parts.setdefault(voter, {}).setdefault(verdict.stream, [])
            of.append((ballot, verdict.end_s - verdict.start_s))
        for vote in verdict.votes:
            models.setdefault(vote.voter, set()).add((vote.model, vote.version))
    return {
        voter: Predictions(
            {clip: whole(of) for clip, of in clips.items()}, frozenset(models.get(voter, ()))
        )
        for voter, clips in parts.items()
    }
