"""What options of models ask for: files, repositories of the Hub with their licences, sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from abhinaya.models.catalogue import CATALOGUE, is_repository, pinned

KEYS: Final = frozenset(
    {"adapter", "beats", "checkpoint", "encoder", "llm", "name", "start", "whisper"}
)
"""Options that name a model: a folder, a file, or a repository."""
SIZES: Final = (("xlarge", 1.0e9), ("large", 0.33e9), ("base", 0.1e9))
"""Weights of a model by a word in its name."""


def models_in(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield option and value of each model that options name, at any depth."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from models_in(value, name)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from models_in(value, key)
    elif key in KEYS and isinstance(values, str) and values not in ("", "embedded"):
        yield key, values


def is_missing(name: str) -> bool:
    """Return whether a name is neither a repository nor a file or folder that exists."""
    return not (is_repository(name) or Path(name).expanduser().exists())


def terms(name: str) -> str:
    """Return what the catalogue knows of a repository: licence and conditions."""
    known = {s.repo: s for entry in CATALOGUE.values() for s in (*entry.sources, *entry.others)}
    source = known.get(pinned(name)[0])
    if source is None:
        return "licence unknown: see its page"
    notes = [source.licence, *(["not for commercial use"] if source.noncommercial else [])]
    notes += ["needs an account that has accepted it"] if source.gated else []
    return ", ".join(notes)


def size_of(name: str) -> float:
    """Return the number of weights of a model, guessed from its name."""
    if found := re.search(r"(\d+(?:\.\d+)?)b\b", name.lower()):
        return 1e9 * float(found[1])
    return next((size for word, size in SIZES if word in name.lower()), 0.05e9)
