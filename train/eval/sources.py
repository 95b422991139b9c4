"""Where predictions are from: which model made them, and whether it had been trained on the clip.

CSV         optional columns `model` and `version`, and `split`: of the clip, as the model met it
JSON lines  the model and version of each vote
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abhinaya.train.data.clips import DataError
from abhinaya.train.eval.monitor import SUFFIXES

TRAINED: Final = "train"
"""What the column `split` says of a clip that the model was trained on."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a file says about the model behind one system."""

    model: str = ""
    """Empty if it does not say."""
    version: str = ""
    trained_on: frozenset[str] = frozenset()
    """Clips that it answers and was trained on, by the name that the file gives them."""


def read_sources(path: Path, name: str) -> dict[str, Source]:
    """Read the sources of a file that `read_predictions` has read, by system.

    Raises:
        DataError: one system has answers of two models or versions.

    """
    if path.suffix.lower() in SUFFIXES:
        return _by_system(path, _votes(path))
    return _by_system(path, _rows(path, name))


def _rows(path: Path, name: str) -> Iterator[tuple[str, str, str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        for row in csv.DictReader(lines):
            clip = row.get("FileName") or row.get("id") or row.get("path") or ""
            trained = clip.strip() if (row.get("split") or "").strip() == TRAINED else ""
            yield (
                name,
                (row.get("model") or "").strip(),
                (row.get("version") or "").strip(),
                trained,
            )


def _votes(path: Path) -> Iterator[tuple[str, str, str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event.get("type") == "verdict":
            for vote in event["votes"]:
                yield str(vote["voter"]), str(vote["model"]), str(vote["version"]), ""


def _by_system(path: Path, found: Iterator[tuple[str, str, str, str]]) -> dict[str, Source]:
    models: dict[str, set[tuple[str, str]]] = {}
    trained: dict[str, set[str]] = {}
    for system, model, version, clip in found:
        models.setdefault(system, set()).add((model, version))
        trained.setdefault(system, set()).update({clip} - {""})
    for system, of in models.items():
        if len(of) > 1:
            told = " and ".join(" ".join(one) or "an unnamed one" for one in sorted(of))
            raise DataError(
                f"{path}: the answers of {system} are of {told}; give those of one model"
            )
    return {
        system: Source(*next(iter(of)), frozenset(trained[system])) for system, of in models.items()
    }


def refuse_trained(name: str, source: Source, splits: Collection[str]) -> None:
    """Refuse a system that answers clips that it was trained on; `splits` are those of the truth.

    Raises:
        DataError: it does, or the truth is a training split.

    """
    if source.trained_on:
        some = sorted(source.trained_on)[:3]
        raise DataError(
            f"predictions of {name}: {len(source.trained_on)} are of clips that it was trained on "
            f"(the first: {', '.join(some)}); fit on people that no voter has met"
        )
    if TRAINED in splits:
        raise DataError(
            "the manifest has clips of the split 'train', which voters were trained on; choose "
            "another with --split, or give a manifest of people that no voter has met"
        )
