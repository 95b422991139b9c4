"""Reads and writes the file of a fitted combiner: JSON, fully checked at load.

schema, method, made_by, fitted_on, metrics, min_confidence
voters        by name: model, version, temperature, weight
inputs        the eight labels: each voter gives one number a label
rated         voters that also give three attributes
labels        labels that the models give
layers        by voters ("S1+T2", in the order of the inputs): weights and bias of each layer
trees         of the method `forest`: see `fitted.Trees`
fusion        by voters: weights and bias of arousal, valence and dominance, on the scale 1 to 7
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from abhinaya.models import sums
from abhinaya.models.errors import DamagedFileError, LabelsError, MissingFileError, WriteError
from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.models.vote.combiner import FROM_FILE, Combiner, Member, Method
from abhinaya.models.vote.fitted import MEAN, Fitted, Fusion, Layers, Model, Numbers, Trees

SCHEMA: Final = "abhinaya.combiner/2"
MAX_BYTES: Final = 64 << 20
DIGITS: Final = 9
"""Significant digits of a number in the file."""

_REMEDY: Final = "fit it again with: abhinaya train ensemble"


class _Voter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    version: str
    temperature: float
    weight: float


class _Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    weights: list[list[float]]
    bias: list[float]


class _Trees(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    voters: list[str]
    roots: list[int]
    inputs: list[int]
    thresholds: list[float]
    others: list[int]
    shares: list[list[float]]


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
    rated: list[str] = []
    layers: dict[str, list[_Layer]] = {}
    trees: _Trees | None = None
    fusion: dict[str, _Layer] = {}


class _Schema(msgspec.Struct, frozen=True):
    schema: str


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
        content = path.read_bytes()
        schema = msgspec.json.decode(content, type=_Schema).schema
        if schema != SCHEMA:
            raise DamagedFileError(path, f"is {schema!r}, not {SCHEMA!r}", _REMEDY)
        file = msgspec.json.decode(content, type=_File)
    except FileNotFoundError as error:
        raise MissingFileError(path, "no such file", "check the path") from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise MissingFileError(path, reason, "give a file that can be read") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(path, f"is not a combiner: {error}", _REMEDY) from error
    _check(path, file)
    sums.check(path, _REMEDY)
    return Combiner(
        method=file.method,
        members={
            name: Member(v.model, v.version, v.temperature, v.weight)
            for name, v in file.voters.items()
        },
        min_confidence=file.min_confidence,
        fitted=_fitted(path, file) if file.method in FROM_FILE else None,
        fusion=_fusion(path, file),
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
    if combiner.fitted is not None:
        values |= {"inputs": list(LABELS), "rated": sorted(combiner.fitted.rated)}
        values |= {"labels": list(combiner.fitted.labels), **_models(combiner.fitted)}
    if combiner.fusion.models:
        fused = combiner.fusion.models.items()
        values["fusion"] = {"+".join(voters): _layer(*model) for voters, model in fused}
    text = json.dumps(values, indent=None if "trees" in values else 1, allow_nan=False)
    # each list of numbers on one line
    text = re.sub(r"\[[^][{}]*\]", lambda row: " ".join(row[0].split()), text)
    half = path.with_name(path.name + ".half")
    try:
        half.write_text(text + "\n", encoding="utf-8")
        half.replace(path)
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise WriteError(path, reason, "give another place") from error


def _models(fitted: Fitted) -> dict[str, Any]:
    layers: dict[str, Any] = {}
    found: dict[str, Any] = {"layers": layers}
    for voters, model in fitted.models.items():
        if isinstance(model, Layers):
            pairs = zip(model.weights, model.biases, strict=True)
            layers["+".join(voters)] = [_layer(*pair) for pair in pairs]
        elif isinstance(model, Trees):
            arrays = {name: _short(getattr(model, name)) for name in Trees.__slots__}
            found["trees"] = {"voters": list(voters)} | arrays
    return found


def _layer(weights: Numbers, bias: Numbers) -> dict[str, Any]:
    return {"weights": _short(weights), "bias": _short(bias)}


def _check(path: Path, file: _File) -> None:
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


def _fitted(path: Path, file: _File) -> Fitted:
    foreign = [label for label in file.labels if label not in LABELS]
    if foreign or len(set(file.labels)) != len(file.labels) or not file.labels:
        reason = f"has the labels {file.labels}; they must be some of {', '.join(LABELS)}"
        raise LabelsError(path, reason, _REMEDY)
    if tuple(file.inputs) != LABELS:
        reason = f"was fitted on the labels {file.inputs}, not on {', '.join(LABELS)}"
        raise LabelsError(path, reason, _REMEDY)
    models: dict[tuple[str, ...], Model] = {}
    if file.method == "forest" and file.trees is not None:
        models[tuple(file.trees.voters)] = _trees(path, file.trees, file)
    for name, layers in file.layers.items():
        voters = tuple(name.split("+"))
        models[voters] = _layers(path, voters, layers, _inputs(file, voters), len(file.labels))
    everyone = tuple(sorted({voter for voters in models for voter in voters}))
    if everyone not in models or not {*everyone} <= {*file.voters}:
        raise DamagedFileError(path, "has no model for all of its voters", _REMEDY)
    return Fitted(tuple(file.labels), models, file.method != "mlp", frozenset(file.rated))


def _fusion(path: Path, file: _File) -> Fusion:
    models = {}
    for name, layer in file.fusion.items():
        voters, size = tuple(name.split("+")), len(ATTRIBUTES)
        found = _layers(path, voters, [layer], size * len(voters), size)
        models[voters] = found.weights[0], found.biases[0]
    return Fusion(models) if models else MEAN


def _inputs(file: _File, voters: Sequence[str]) -> int:
    return len(voters) * len(LABELS) + len({*voters} & {*file.rated}) * len(ATTRIBUTES)


def _layers(
    path: Path, voters: Sequence[str], layers: list[_Layer], inputs: int, outputs: int
) -> Layers:
    name = f"its model of {'+'.join(voters)}"
    try:
        weights = tuple(np.array(layer.weights, np.float64) for layer in layers)
        biases = tuple(np.array(layer.bias, np.float64) for layer in layers)
    except ValueError as error:
        raise DamagedFileError(path, f"{name} has rows of different lengths", _REMEDY) from error
    widths = [inputs, *map(len, biases)]
    shapes = [*zip(widths[1:], widths, strict=False)]
    if not layers or [w.shape for w in weights] != shapes or widths[-1] != outputs:
        reason = f"{name} does not have {inputs} inputs and {outputs} outputs"
        raise DamagedFileError(path, reason, _REMEDY)
    if sorted({*voters}) != [*voters]:
        raise DamagedFileError(path, f"{name} does not have its voters in order", _REMEDY)
    if not all(np.isfinite(array).all() for array in (*weights, *biases)):
        raise DamagedFileError(path, f"{name} is not finite", _REMEDY)
    return Layers(weights, biases)


def _trees(path: Path, given: _Trees, file: _File) -> Trees:
    try:
        trees = Trees(
            np.array(given.roots, np.int64),
            np.array(given.inputs, np.int64),
            np.array(given.thresholds, np.float64),
            np.array(given.others, np.int64),
            np.array(given.shares, np.float64),
        )
    except ValueError as error:
        raise DamagedFileError(path, "its leaves have different lengths", _REMEDY) from error
    rows = np.arange(len(trees.inputs))
    inner = trees.inputs >= 0
    fits = (
        len(trees.roots) > 0
        and len(trees.thresholds) == len(trees.others) == len(rows)
        and sorted({*given.voters}) == given.voters
        and trees.shares.shape[1:] == (len(file.labels),)
        and trees.inputs.max(initial=-1) < _inputs(file, given.voters)
        # each step leads to a later row, so none goes on forever
        and bool((trees.others[inner] > rows[inner] + 1).all())
        and _within(trees.roots, len(rows))
        and _within(trees.others[inner], len(rows))
        and _within(trees.others[~inner], len(trees.shares))
        and bool(np.isfinite(trees.thresholds).all())
        and bool((trees.shares >= 0).all())
        and np.allclose(trees.shares.sum(axis=1), 1.0, atol=1e-3)
    )
    if not fits:
        raise DamagedFileError(path, "its trees do not fit its voters and labels", _REMEDY)
    return trees


def _within(rows: Any, size: int) -> bool:
    return bool(((rows >= 0) & (rows < size)).all())


def _short(value: Any) -> Any:
    """Return numbers, or lists of them, as the file has them."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [_short(one) for one in value]
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")
