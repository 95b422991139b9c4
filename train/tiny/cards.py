"""Writes the card of a weights file: data, limits, licence (`cards.toml`) and figures."""

from __future__ import annotations

import importlib.resources
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

BACKGROUNDS: Final[Mapping[str, Mapping[str, Any]]] = tomllib.loads(
    (importlib.resources.files("abhinaya.train.tiny") / "cards.toml").read_text("utf-8")
)
"""Facts of each model that do not depend on the run: licence, noncommercial, data, limits."""


def write_card(weights: Path, model: str, version: str, **run: Any) -> Path:
    """Write the card next to `weights`, or change it.

    `run` are facts of the run: `made_by`, the command; `trial`, the answer to the test recording;
    `figures`.
    """
    path = weights.with_suffix(".json")
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    card = {"model": model, "version": version, "made_by": "not stated", **BACKGROUNDS[model]}
    card |= {"trial": [], "figures": {}} | known | run
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
