"""Reads and writes the file of a fitted combiner: JSON, fully checked at load.

schema, method, made_by, fitted_on, metrics, min_confidence
voters        by name: model, version, temperature, weight
inputs        the eight labels, in the order of the numbers of a row
labels        labels of the regressions
regressions   by voters ("S1+T2"): bias by label; weights by voter and label, one number an input
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from abhinaya.models import sums
from abhinaya.models.errors import DamagedFileError, LabelsError, MissingFileError, WriteError
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.combiner import Combiner, Logistic, Member, Method, Regression

SCHEMA: Final = "abhinaya.combiner/1"
MAX_BYTES: Final = 8 << 20
DIGITS: Final = 5
"""Significant digits of a number in the file: more than any fit is accurate to."""

_REMEDY: Final = "fit it again with: abhinaya train ensemble"


class _Voter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    version: str
    temperature: float
    weight: float


class _Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bias: dict[str, float]
    weights: dict[str, dict[str, list[float]]]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema: str
    method: Method
    made_by: str
    fitted_on: dict[str, Any]
    metrics: dict[str, Any]
    min_confidence: float
    voters: dict[str, _Voter]
    inputs: list[str] = []
    labels: list[str] = []
    regressions: dict[str, _Fit] = {}


def read_combiner(path: Path) -> Combiner:
    """Return the combiner of a file.

    Raises:
        MissingFileError: the file does not exist or cannot be read.
        DamagedFileError: the file is not a combiner, or a number is out of range.
        LabelsError: the combiner was fitted on other labels.

    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DamagedFileError(path, f"is larger than {MAX_BYTES >> 20} MiB", _REMEDY)
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError as error:
        raise MissingFileError(path, "no such file", "check the path") from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise MissingFileError(path, reason, "give a file that can be read") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(path, f"is not a combiner: {error}", _REMEDY) from error
    _check(path, file)
    sums.check(path, _REMEDY)
    members = {
        name: Member(v.model, v.version, v.temperature, v.weight) for name, v in file.voters.items()
    }
    return Combiner(
        method=file.method,
        members=members,
        min_confidence=file.min_confidence,
        logistic=_logistic(path, file) if file.method == "logistic" else None,
        made_by=file.made_by,
        fitted_on=file.fitted_on,
        metrics=file.metrics,
    )


def write_combiner(path: Path, combiner: Combiner) -> None:
    """Write a combiner by way of a `.half` file, so that `path` is always complete.

    Raises:
        WriteError: the file cannot be written.

    """
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "method": combiner.method,
        "made_by": combiner.made_by,
        "fitted_on": dict(combiner.fitted_on),
        "metrics": dict(combiner.metrics),
        "min_confidence": combiner.min_confidence,
        "voters": {
            name: {
                "model": m.model,
                "version": m.version,
                "temperature": _short(m.temperature),
                "weight": _short(m.weight),
            }
            for name, m in combiner.members.items()
        },
    }
    if combiner.logistic is not None:
        values |= _regressions(combiner.logistic)
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    # each list of numbers on one line
    text = re.sub(r"\[[^][{}]*\]", lambda row: " ".join(row[0].split()), text)
    half = path.with_name(path.name + ".half")
    try:
        half.write_text(text + "\n", encoding="utf-8")
        half.replace(path)
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise WriteError(path, reason, "give another place") from error


def _regressions(logistic: Logistic) -> dict[str, Any]:
    return {
        "inputs": list(LABELS),
        "labels": list(logistic.labels),
        "regressions": {
            "+".join(r.voters): {
                "bias": dict(zip(logistic.labels, map(_short, r.bias), strict=True)),
                "weights": {
                    voter: {
                        label: [_short(x) for x in r.weights[k, _columns(v)]]
                        for k, label in enumerate(logistic.labels)
                    }
                    for v, voter in enumerate(r.voters)
                },
            }
            for r in logistic.regressions.values()
        },
    }


def _check(path: Path, file: _File) -> None:
    if file.schema != SCHEMA:
        raise DamagedFileError(path, f"is {file.schema!r}, not {SCHEMA!r}", _REMEDY)
    if not file.voters:
        raise DamagedFileError(path, "names no voter", _REMEDY)
    if not 0 <= file.min_confidence <= 1:
        raise DamagedFileError(
            path, f"min_confidence {file.min_confidence} is not in [0, 1]", _REMEDY
        )
    for name, voter in file.voters.items():
        if not (math.isfinite(voter.temperature) and voter.temperature > 0):
            reason = f"the temperature of {name} is {voter.temperature}"
            raise DamagedFileError(path, reason, _REMEDY)
        if not (math.isfinite(voter.weight) and voter.weight >= 0):
            raise DamagedFileError(path, f"the weight of {name} is {voter.weight}", _REMEDY)


def _logistic(path: Path, file: _File) -> Logistic:
    foreign = [label for label in file.labels if label not in LABELS]
    if foreign or len(set(file.labels)) != len(file.labels) or not file.labels:
        reason = f"has the labels {file.labels}; they must be some of {', '.join(LABELS)}"
        raise LabelsError(path, reason, _REMEDY)
    if tuple(file.inputs) != LABELS:
        reason = f"was fitted on the labels {file.inputs}, not on {', '.join(LABELS)}"
        raise LabelsError(path, reason, _REMEDY)
    fits = {
        frozenset(name.split("+")): _regression(path, name, fit, file)
        for name, fit in file.regressions.items()
    }
    if frozenset(file.voters) not in fits:
        raise DamagedFileError(path, "has no regression for all of its voters", _REMEDY)
    return Logistic(tuple(file.labels), fits)


def _regression(path: Path, name: str, fit: _Fit, file: _File) -> Regression:
    voters = tuple(sorted(name.split("+")))
    try:
        bias = np.array([fit.bias[label] for label in file.labels])
        rows = [[x for v in voters for x in fit.weights[v][label]] for label in file.labels]
        weights = np.array(rows)
    except (KeyError, ValueError) as error:
        reason = f"its regression of {name} lacks numbers: {error}"
        raise DamagedFileError(path, reason, _REMEDY) from error
    if set(voters) - set(file.voters) or weights.shape != (len(bias), len(voters) * len(LABELS)):
        reason = f"its regression of {name} does not fit its voters and labels"
        raise DamagedFileError(path, reason, _REMEDY)
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise DamagedFileError(path, f"its regression of {name} is not finite", _REMEDY)
    return Regression(voters, weights, bias)


def _columns(v: int) -> slice:
    return slice(v * len(LABELS), (v + 1) * len(LABELS))


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
