"""The rows of the table: each is a measure of a material."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import msgspec
from rich.table import Table

from abhinaya.bench.quality import measures
from abhinaya.bench.quality.measures import VOTE
from abhinaya.bench.quality.offline import Answer
from abhinaya.bench.report import table

ACTED: Final = (
    "RAVDESS",
    "RAVDESS, clip alone",
    "nEMO",
    "nEMO, clip alone",
    "RAVDESS, matching words",
    "RAVDESS, neutral words",
)
LEARNT: Final = "RAVDESS, learnt from"
"""For comparison only: figures on unknown speakers must be lower."""
CALM: Final = (
    "neutral voices",
    "neutral voices, clip alone",
    "podcasts",
    "calls",
    "AMI",
    "speeches",
)
THRESHOLDS: Final = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7)
READ: Final = ("read speech", "dense speech, cut", "dense speech, whole")
SPOKEN: Final = ("read speech", "8 kHz Harvard", "RAVDESS", "neutral voices", "podcasts")
"""Materials in which each segment is certainly speech."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table."""

    section: str
    name: str
    n: int
    values: Mapping[str, Any]
    """Figures by column (voter, VOTE or name of a count): numbers, tuples or dataclasses."""


Answers = Mapping[str, Sequence[Answer]]
"""Answers by material."""


def rows_of(by_material: Answers, names: Sequence[str]) -> list[Row]:
    """Return all rows for which there are answers."""
    return [
        *_words(by_material),
        *_noise(by_material),
        *_acted(by_material, names),
        *_calm(by_material, names),
        *_pieces(by_material, names),
        *_delays(by_material, names),
        *_verdicts(by_material),
        *_thresholds(by_material),
        *_against_best(by_material, names),
        *_pairs(by_material, names),
    ]


def tables_of(rows: Sequence[Row]) -> list[Table]:
    """Return a table for each section, with voters or counts as columns."""
    made = []
    for section in dict.fromkeys(row.section for row in rows):
        own = [row for row in rows if row.section == section]
        columns = list(dict.fromkeys(who for row in own for who in row.values))
        cells = (
            (row.name, str(row.n), *(_cell(row.values.get(who)) for who in columns)) for row in own
        )
        made.append(table(section, ("", "n", *columns), cells))
    return made


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as JSON values."""
    found: list[dict[str, Any]] = msgspec.to_builtins(
        [
            {"section": row.section, "name": row.name, "n": row.n, "values": dict(row.values)}
            for row in rows
        ]
    )
    return found


def _words(by_material: Answers) -> Iterator[Row]:
    for name, answers in _there(by_material, *READ, "8 kHz Harvard", "all podcasts"):
        corpora = measures.grouped(answers, lambda answer: answer.speaker)
        for part, some in {**corpora, name: answers}.items():
            errors, words = measures.word_errors(some)
            cpu = measures.cpu_of_real_time(some)
            audio_s = sum(answer.seconds for answer in some)
            values = {
                "errors a word": errors / max(1, words),
                "CPU": cpu,
                "seconds": round(audio_s),
            }
            yield Row("words; processor seconds a second of audio", part, words, values)


def _noise(by_material: Answers) -> Iterator[Row]:
    """Yield the rows on text made up for noise, and on speech dropped by guards."""
    wordless = [name for name in by_material if name.startswith(("noise", "bursts"))]
    spoken = [name for name in by_material if name.startswith("guards")]
    together = {"noise and bursts": wordless, "speech": spoken}
    parts = {name: [name] for name in (*wordless, *spoken)} | together
    for part, names in parts.items():
        if not (answers := [answer for name in names for answer in by_material[name]]):
            continue
        unguarded = [answer for answer in answers if answer.unguarded]
        values = {
            "some text": len(unguarded),
            "believed": sum(bool(answer.text) for answer in answers),
            "share given words": measures.with_text(answers),
            "words dropped": measures.words_dropped(unguarded),
        }
        yield Row("what guards drop: segments", part, len(answers), values)
    if answers := [a for name in SPOKEN for a in by_material.get(name, ())]:
        values = {"share given words": measures.with_text(answers)}
        yield Row("what guards drop: segments", "speech beyond doubt", len(answers), values)


def _acted(by_material: Answers, names: Sequence[str]) -> Iterator[Row]:
    for name, answers in _there(by_material, *ACTED, LEARNT):
        values = {who: measures.macro_f1(answers, who) for who in (*names, VOTE)}
        yield Row("acted speakers: macro-F1 [95 %]", name, len(answers), values)


def _calm(by_material: Answers, names: Sequence[str]) -> Iterator[Row]:
    section = "nobody moved: share called otherwise"
    for name, answers in _there(by_material, *CALM):
        yield _shares(section, name, answers, names)
        if name in ("calls", "AMI", "podcasts"):
            for length, some in measures.grouped(answers, measures.length_of).items():
                yield _shares(section, f"  {name}, {length}", some, names)


def _pieces(by_material: Answers, names: Sequence[str]) -> Iterator[Row]:
    tag = attrgetter("tag")
    for length, answers in measures.grouped(by_material.get("neutral pieces", ()), tag).items():
        yield _shares("neutral pieces: share called otherwise", length, answers, names)
    emotional = measures.grouped(by_material.get("emotional pieces", ()), tag).items()
    for length, answers in emotional:
        yield _shares("emotional pieces: share not called neutral", length, answers, names)
    for length, answers in emotional:
        values = {who: measures.accuracy(answers, who) for who in (*names, VOTE)}
        yield Row("emotional pieces: share called right", length, len(answers), values)


def _delays(by_material: Answers, names: Sequence[str]) -> Iterator[Row]:
    if answers := by_material.get("changes"):
        for name, exact in (("not neutral", False), ("right label", True)):
            values = {who: measures.delay(answers, who, exact) for who in (*names, VOTE)}
            n = int(values[VOTE]["conversations"])
            yield Row("neutral to emotional: median seconds (seen)", name, n, values)


def _verdicts(by_material: Answers) -> Iterator[Row]:
    for name, answers in _there(by_material, *ACTED, *CALM):
        error = measures.calibration_error(answers)
        yield Row("calibration error of the verdict", name, len(answers), {VOTE: error})


def _thresholds(by_material: Answers) -> Iterator[Row]:
    """Yield a row for each value of `vote.min_confidence`, so that one can choose it."""
    section = "vote.min_confidence: share of segments"
    for name, answers in _there(by_material, "RAVDESS", "nEMO", "podcasts", "calls"):
        for least in THRESHOLDS:
            if not (left := measures.withheld(answers, least)):
                continue
            values: dict[str, float] = {"labelled": measures.labelled(left)}
            if name in CALM:
                values["otherwise"] = measures.share_not_neutral(left, VOTE)
            else:
                values["right"] = measures.accuracy(left, VOTE)
                values["right of labelled"] = values["right"] / max(1e-9, values["labelled"])
            yield Row(section, f"{name}, {least:g}", len(left), values)


def _against_best(by_material: Answers, names: Sequence[str]) -> Iterator[Row]:
    for name, answers in _there(by_material, *ACTED, *CALM):
        best, compared = measures.against_best(answers, names)
        values = {who: found.difference for who, found in compared.items()}
        yield Row("minus best member [95 %]", f"{name}: {best}", len(answers), values)
    for name, answers in _there(by_material, *ACTED, *CALM):
        values = {who: measures.worth(answers, who) for who in names}
        yield Row("vote minus vote without a voter [95 %]", name, len(answers), values)


def _pairs(by_material: Answers, names: Sequence[str]) -> Iterator[Row]:
    for name, answers in _there(by_material, *ACTED):
        if "alone" not in name and (found := measures.pairs(answers, names)):
            yield Row("agreement (correlation of errors)", name, len(answers), found)


def _there(by_material: Answers, *names: str) -> Iterator[tuple[str, Sequence[Answer]]]:
    """Yield the materials of these names that have answers."""
    for name in names:
        if answers := by_material.get(name):
            yield name, answers


def _shares(section: str, name: str, answers: Sequence[Answer], names: Sequence[str]) -> Row:
    values = {who: measures.share_not_neutral(answers, who) for who in (*names, VOTE)}
    return Row(section, name, len(answers), values)


def _cell(value: Any) -> str:
    """Return the text of a table cell, for any kind of figure."""
    found = msgspec.to_builtins(value)
    match found:
        case None:
            return ""
        case {"value": number, "low": low, "high": high}:
            return f"{_number(number)} [{_number(low)}, {_number(high)}]"
        case {"conversations": count, "seen": seen, "median_s": median}:
            return f"{'-' if math.isnan(median) else format(median, '.1f')} ({seen}/{count})"
        case {"agreement": agreement, "correlation": correlation}:
            return f"{_number(agreement)} ({_number(correlation)})"
    return _number(found)


def _number(value: float) -> str:
    """Return a share as `.123`, a count as an integer."""
    if math.isnan(value):
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
