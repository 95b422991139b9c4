"""Figures of answers, as pure functions.

`who` is a voter, VOTE for the verdict, or LEADING for its leading label. An `unknown` verdict and
an abstention count as wrong, and as not emotional.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from abhinaya.bench.clips import distance, words_of
from abhinaya.bench.quality.offline import Answer
from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.clock import to_seconds
from abhinaya.train import metrics
from abhinaya.train.eval.intervals import (
    Comparison,
    Interval,
    Statistic,
    bootstrap,
    macro_f1_of,
    paired_bootstrap,
)

VOTE: Final = "vote"
LEADING: Final = "what leads it"
"""The verdict without `min_confidence`, for a fair comparison: voters withhold no label."""
NEUTRAL: Final = "neutral"
Figure = dict[str, float]
LENGTHS_S: Final = ((0.0, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, math.inf))
FEWEST_SPEAKERS: Final = 8
"""With fewer speakers than this, the bootstrap draws clips instead of speakers."""


def label_of(answer: Answer, who: str) -> str:
    """Return the label of `who`; empty for an abstention or `unknown`."""
    verdicts = {VOTE: answer.label, LEADING: answer.leading}
    label = verdicts[who] if who in verdicts else answer.votes.get(who, "")
    return "" if label == UNKNOWN else label


def sessions_of(answers: Sequence[Answer]) -> list[list[Answer]]:
    """Return the answers of each session."""
    grouped = itertools.groupby(answers, key=lambda answer: (answer.material, answer.session))
    return [list(session) for _, session in grouped]


def word_errors(answers: Sequence[Answer]) -> tuple[int, int]:
    """Return the word errors of the sessions that have a reference, and their words."""
    errors = words = 0
    for session in sessions_of(answers):
        if session[0].reference is None:
            continue
        reference = words_of(session[0].reference)
        recognised = words_of(" ".join(answer.text for answer in session))
        errors, words = errors + distance(reference, recognised), words + len(reference)
    return errors, words


def with_text(answers: Sequence[Answer]) -> float:
    """Return the share of segments with a text."""
    return _share(bool(answer.text) for answer in answers)


def words_dropped(answers: Sequence[Answer]) -> float:
    """Return the number of words in dropped texts, as a share of all words without guards."""
    kept = [(len(a.unguarded.split()), bool(a.text)) for a in answers]
    return sum(n for n, text in kept if not text) / max(1, sum(n for n, _ in kept))


def cpu_of_real_time(answers: Sequence[Answer]) -> float:
    """Return the transcriber's processor seconds for a second of audio, without cached segments."""
    uncached = [answer for answer in answers if answer.asr_cpu_s > 0]
    return sum(a.asr_cpu_s for a in uncached) / max(1e-9, sum(a.seconds for a in uncached))


def macro_f1(answers: Sequence[Answer], who: str) -> Interval:
    """Return macro-F1 over the labels that occur, with its 95 % interval."""
    return bootstrap(_f1(answers, who), len(answers), _groups(answers))


def share_not_neutral(answers: Sequence[Answer], who: str) -> float:
    """Return the share of segments with a label other than neutral."""
    return _share(label_of(answer, who) not in ("", NEUTRAL) for answer in answers)


def accuracy(answers: Sequence[Answer], who: str) -> float:
    """Return the share of segments with the right label."""
    return _share(label_of(answer, who) == answer.truth for answer in answers)


def length_of(answer: Answer) -> str:
    """Return the name of the length class of a segment."""
    for low, high in LENGTHS_S:
        if low <= answer.seconds < high:
            break
    if high == math.inf:
        return f"{low:g} s and more"
    return f"{low:g} to {high:g} s" if low else f"under {high:g} s"


def grouped(answers: Sequence[Answer], by: Callable[[Answer], str]) -> dict[str, list[Answer]]:
    """Return the answers by the key `by`; keys are in order of first appearance."""
    found: dict[str, list[Answer]] = {}
    for answer in answers:
        found.setdefault(by(answer), []).append(answer)
    return found


def delay(answers: Sequence[Answer], who: str, exact: bool = False) -> Figure:
    """Return the delay until `who` labels a segment emotional or, if `exact`, rightly.

    `seen` is the number of conversations with such a label, `median_s` the median of seconds from
    the change to the end of the first such segment.
    A segment across the change counts if more of it is after the change, as its truth shows.
    """
    found: list[float] = []
    conversations = sessions_of(answers)
    for conversation in conversations:
        for answer in conversation:
            if answer.change is None or answer.truth in ("", NEUTRAL):
                continue
            label = label_of(answer, who)
            if label == answer.truth or (not exact and label not in ("", NEUTRAL)):
                found.append(to_seconds(answer.end - answer.change))
                break
    median = statistics.median(found) if found else math.nan
    return {"conversations": len(conversations), "seen": len(found), "median_s": median}


def withheld(answers: Sequence[Answer], least: float) -> list[Answer]:
    """Return the answers with the label that `vote.min_confidence` = `least` would give."""
    return [
        replace(answer, label=answer.leading if (answer.confidence or 0.0) >= least else UNKNOWN)
        for answer in answers
        if answer.leading
    ]


def labelled(answers: Sequence[Answer]) -> float:
    """Return the share of verdicts with a label."""
    return _share(bool(label_of(answer, VOTE)) for answer in answers)


def calibration_error(answers: Sequence[Answer]) -> float:
    """Return the expected calibration error of the leading labels, over bins of equal width.

    Withheld labels count as well. NaN if no verdict has a confidence.
    """
    sure = [answer for answer in answers if answer.confidence is not None and answer.leading]
    confidence = np.array([answer.confidence for answer in sure], np.float64)
    right = np.array([answer.leading == answer.truth for answer in sure], np.bool_)
    return metrics.calibration_error(confidence, right) if sure else math.nan


def pairs(answers: Sequence[Answer], names: Sequence[str]) -> dict[str, Figure]:
    """Return a comparison for each pair of voters, over the segments on which both voted.

    `agreement` is the share of segments with the same label by both; `correlation` is of their
    errors: 1 if they are wrong on the same segments, NaN if the errors of one are constant.
    """
    found = {}
    for first, second in itertools.combinations(names, 2):
        both = [a for a in answers if first in a.votes and second in a.votes]
        if both:
            same = _share(a.votes[first] == a.votes[second] for a in both)
            wrong = [[a.votes[who] != a.truth for a in both] for who in (first, second)]
            found[f"{first}, {second}"] = {"agreement": same, "correlation": _correlation(*wrong)}
    return found


def against_best(
    answers: Sequence[Answer], names: Sequence[str]
) -> tuple[str, dict[str, Comparison]]:
    """Return the best voter, and the differences of VOTE and LEADING to it.

    The figure is macro-F1; for neutral speech, the share without another label.
    """
    figure = _f1 if any(a.truth != NEUTRAL for a in answers) else _calm
    everything = np.arange(len(answers))
    figures = {who: figure(answers, who) for who in (*names, VOTE, LEADING)}
    best = max(names, key=lambda who: figures[who](everything))
    count, groups = len(answers), _groups(answers)
    return best, {
        who: paired_bootstrap(figures[who], figures[best], count, groups) for who in (VOTE, LEADING)
    }


def worth(answers: Sequence[Answer], name: str) -> Interval:
    """Return the figure of the verdict minus that of the verdict without voter `name`."""
    rest = [replace(a, label=a.without.get(name, a.label)) for a in answers]
    figure = _f1 if any(a.truth != NEUTRAL for a in answers) else _calm
    here, there = figure(answers, VOTE), figure(rest, VOTE)
    return paired_bootstrap(here, there, len(answers), _groups(answers)).difference


def _share(found: Any) -> float:
    each = list(found)
    return sum(each) / len(each) if each else math.nan


def _f1(answers: Sequence[Answer], who: str) -> Statistic:
    truth = np.array([LABELS.index(answer.truth) for answer in answers], np.int64)
    guess = np.array([_index(label_of(answer, who)) for answer in answers], np.int64)
    return macro_f1_of(truth, guess, sorted({int(c) for c in truth}))


def _calm(answers: Sequence[Answer], who: str) -> Statistic:
    calm = np.array([label_of(answer, who) in ("", NEUTRAL) for answer in answers], np.float64)
    return lambda rows: float(calm[rows].mean())


def _index(label: str) -> int:
    return LABELS.index(label) if label in LABELS else len(LABELS)


def _groups(answers: Sequence[Answer]) -> list[Hashable] | None:
    speakers: list[Hashable] = [answer.speaker for answer in answers]
    return speakers if len(set(speakers)) >= FEWEST_SPEAKERS else None


def _correlation(first: Sequence[bool], second: Sequence[bool]) -> float:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return math.nan
    return float(np.corrcoef(np.array(first, float), np.array(second, float))[0, 1])
