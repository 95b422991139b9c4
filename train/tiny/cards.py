"""Writes the card of a weights file: data, limits, licence (`cards.toml`) and figures."""

from __future__ import annotations

import importlib.resources
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

BACKGROUNDS: Final[Mapping[str, Mapping[str, Any]]] = tomllib.loads(
    (importlib.resources.files("abhinaya.train.tiny") / "cards.toml").read_text("utf-8")
)
"""Facts of each model that do not depend on the run: licence, noncommercial, data, limits."""


def write_card(
    weights: Path,
    model: str,
    version: str,
    figures: Mapping[str, Any],
    made_by: str,
    trial: Sequence[float] = (),
) -> Path:
    """Write the card next to `weights`; `figures` may be empty before they are measured.

    `made_by` is the command that wrote the weights, `trial` the answer to the test recording.
    """
    card = {
        "model": model,
        "version": version,
        "made_by": made_by,
        **BACKGROUNDS[model],
        "trial": [round(p, 4) for p in trial],
        "figures": dict(figures),
    }
    return _write(weights.with_suffix(".json"), card)


def measured(weights: Path, model: str, version: str, figures: Mapping[str, Any]) -> Path:
    """Replace the figures in the card next to `weights`; write a card if there is none."""
    path = weights.with_suffix(".json")
    if not path.is_file():
        return write_card(weights, model, version, figures, "not stated")
    card = {**json.loads(path.read_text(encoding="utf-8")), "figures": dict(figures)}
    return _write(path, card)


def _write(path: Path, card: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
