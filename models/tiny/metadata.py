"""Reads the metadata of an embedded voter's weights file and makes its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from abhinaya.models import sums
from abhinaya.models.base import Card, FloatArray, Need
from abhinaya.models.errors import DamagedFileError, LabelsError, MissingFileError
from abhinaya.models.labels import LABELS

FOLDER: Final = Path(str(resources.files("abhinaya.models.tiny.weights")))
METADATA_KEY: Final = "abhinaya"
"""Metadata key of the JSON with model, labels, version and settings."""
REMEDY: Final = "use the file in the package, or train one with `abhinaya train {name}`"


@dataclass(frozen=True, slots=True)
class Metadata:
    """Checked metadata of a weights file."""

    path: Path
    model: str
    version: str
    labels: tuple[str, ...]
    """[C'] in the order of the network's scores."""
    settings: Mapping[str, Any]

    def spread(self, probabilities: FloatArray) -> FloatArray:
        """Return probabilities [..., C] in the order of LABELS; 0 for a missing label."""
        places: npt.NDArray[np.int64] = np.array([LABELS.index(x) for x in self.labels], np.int64)
        out = np.zeros((*probabilities.shape[:-1], len(LABELS)), np.float32)
        out[..., places] = probabilities
        return out

    def card(self, needs: frozenset[Need], **more: Any) -> Card:
        """Return the card, made of this metadata and of the .json next to the weights, if any."""
        stored = read_card(self.path)
        return Card(
            model=self.model,
            version=self.version,
            needs=needs,
            labels=tuple(label for label in LABELS if label in self.labels),
            licence=stored.get("licence", "not stated"),
            noncommercial=bool(stored.get("noncommercial", False)),
            notes=tuple(stored.get("limits", ("no card next to the weights file",))),
            trial=tuple(stored.get("trial", ())),
            **more,
        )


def find(name: str, suffix: str, weights: str | None = None) -> Path:
    """Return the path `weights`, or that of the packaged file of model `name`.

    Raises:
        MissingFileError: the file does not exist.
        DamagedFileError: its SHA-256 is not the recorded one, or a packaged file has none.

    """
    path = Path(weights) if weights is not None else FOLDER / f"{name}{suffix}"
    remedy = REMEDY.format(name=name)
    if not path.is_file():
        raise MissingFileError(path, "no such weights file", remedy)
    if not sums.check(path, remedy) and weights is None:
        raise DamagedFileError(path, f"its SHA-256 is not in {sums.SUMS}", remedy)
    return path


def read_card(weights: Path) -> dict[str, Any]:
    """Return the .json card next to a weights file; empty without a card."""
    path = weights.with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        remedy = "delete it, or train again to write it"
        raise DamagedFileError(path, f"this card cannot be read: {error}", remedy) from error
    return card if isinstance(card, dict) else {}


def read(path: Path, name: str, entries: Mapping[str, str]) -> Metadata:
    """Return the checked metadata of a weights file.

    Raises:
        DamagedFileError: the metadata is missing, or of another model.
        LabelsError: a label is not one of the eight.

    """
    remedy = REMEDY.format(name=name)
    try:
        values = json.loads(entries[METADATA_KEY])
        found = Metadata(
            path, values["model"], values["version"], tuple(values["labels"]), values["settings"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(path, f"has no complete metadata: {error!r}", remedy) from error
    if found.model != name:
        raise DamagedFileError(path, f"holds the model {found.model!r}, not {name!r}", remedy)
    if unknown := sorted(set(found.labels) - set(LABELS)):
        raise LabelsError(path, f"has the labels {', '.join(unknown)}, not of the eight", remedy)
    return found
