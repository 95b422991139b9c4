"""Reads and writes manifests, and selects clips. Their fields: `docs/data.md`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from abhinaya.models.text import whole_json
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.tables import lines_of, text_of
from abhinaya.train.errors import DataError

SCHEMA: Final = "abhinaya.manifest/1"
SPLITS: Final = ("train", "dev", "test", "test1", "test2", "test3", "")
_FIELDS: Final = tuple(f.name for f in fields(Clip))


@dataclass(frozen=True, slots=True)
class Manifest:
    """Clips, and the root folder of their paths."""

    root: Path
    clips: tuple[Clip, ...]

    def only(self, split: str) -> Manifest:
        """Return the clips of one split. Raises DataError if it has none."""
        chosen = tuple(clip for clip in self.clips if clip.split == split)
        if not chosen:
            there = sorted({clip.split or "(none)" for clip in self.clips})
            raise DataError(f"split {split!r}: no clip is in it; known: {', '.join(there)}")
        return replace(self, clips=chosen)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a header, then a JSON object per clip; `path` is replaced only when all is written."""
    half = path.with_name(path.name + ".half")
    header = {"schema": SCHEMA, "root": str(manifest.root.resolve())}
    with half.open("w", encoding="utf-8") as out:
        for line in [header, *map(_values, manifest.clips)]:
            out.write(whole_json(line) + "\n")
    half.replace(path)


def read_manifest(path: Path, root: Path | None = None) -> Manifest:
    """Read a manifest; `root` overrides its root folder.

    Raises DataError: it is missing, has another format, a broken line, or a clip twice.
    """
    lines = lines_of(text_of(path, "make a manifest with: abhinaya data prepare"))
    header = _parsed(f"{path}:1", lines[0] if lines else "")
    if header.get("schema") != SCHEMA:
        what = f"its first line does not say {SCHEMA!r}"
        raise DataError(f"{path}: {what}; make it again with: abhinaya data prepare")
    clips: dict[str, Clip] = {}
    for number, line in enumerate(lines[1:], 2):
        here = f"{path}:{number}"
        clip = _clip(here, _parsed(here, line))
        if clip.id in clips:
            raise DataError(f"{here}: clip {clip.id!r} comes twice; remove one of them")
        clips[clip.id] = clip
    return Manifest(root or Path(str(header.get("root", path.parent))), tuple(clips.values()))


def _values(clip: Clip) -> dict[str, Any]:
    """Return the fields of a clip that are not empty."""
    values = {name: getattr(clip, name) for name in _FIELDS}
    return {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if name in ("id", "corpus") or (value not in ("", None, {}) and value is not False)
    }


def _parsed(here: str, line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{here}: is not JSON ({error.msg}); correct the line") from error
    if not isinstance(values, dict):
        raise DataError(f"{here}: is not a JSON object; correct the line")
    return values


def _clip(here: str, values: Mapping[str, Any]) -> Clip:
    if unknown := sorted(values.keys() - set(_FIELDS)):
        raise DataError(f"{here}: unknown fields {unknown}; see docs/data.md")
    try:
        return msgspec.convert(values, Clip)
    except msgspec.ValidationError as error:
        raise DataError(f"{here}: not a clip: {error}; see docs/data.md") from error
    except DataError as error:
        raise DataError(f"{here}: {error}") from error


def balanced(clips: Sequence[Clip], per_class: int = 326, seed: int = 0) -> list[Clip]:
    """Draw `per_class` clips of each label that occurs; their order stays.

    ABHINAYA validates on 326: as many as MSP-Podcast's development split has of fear.

    Raises DataError: a label has fewer clips, or `per_class` is below 1.
    """
    if per_class < 1:
        raise DataError(f"balanced set: {per_class} clips a class; ask for at least 1")
    by_label: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        if clip.label:
            by_label.setdefault(clip.label, []).append(i)
    if short := {label: len(of) for label, of in by_label.items() if len(of) < per_class}:
        few = ", ".join(f"{label} ({count})" for label, count in sorted(short.items()))
        most = min(short.values())
        raise DataError(
            f"balanced set: fewer than {per_class} clips of {few}; ask for {most} a class"
        )
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(by_label[label], per_class, replace=False) for label in sorted(by_label)]
    return [clips[int(i)] for i in np.sort(np.concatenate(drawn))] if drawn else []


def read_names(path: Path) -> list[str]:
    """Read file names: one per line, or JSON: a list, or an object with a list `path`.

    Raises DataError: the file is missing, is not text, has no name, or a name twice.
    """
    text = text_of(path, "give a file with one clip a line")
    names = [line.strip() for line in lines_of(text) if line.strip()]
    if path.suffix == ".json":
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: is not JSON ({error.msg}); correct it") from error
        listed = found.get("path") if isinstance(found, dict) else found
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise DataError(f"{path}: holds no list of names, nor an object with one under `path`")
        names = [Path(name).name for name in listed]
    if not names:
        raise DataError(f"{path}: names no clip; give one a line")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        few = f"names {len(twice)} clips more than once, the first {twice[0]!r}"
        raise DataError(f"{path}: {few}; remove all but one of each")
    return names


def named(clips: Sequence[Clip], names: Sequence[str]) -> list[Clip]:
    """Return the clips with these ids or file names (with or without suffix), in this order.

    Raises DataError: a name matches no clip or several, or two names match one clip.
    """
    by_name: dict[str, set[int]] = {}
    for i, clip in enumerate(clips):
        for name in {Path(clip.path).name, Path(clip.path).stem} if clip.path else ():
            by_name.setdefault(name, set()).add(i)
    by_name.update({clip.id: {i} for i, clip in enumerate(clips)})  # an id overrides a file name
    found = [by_name.get(name) or by_name.get(Path(name).stem) or set() for name in names]
    absent = [name for name, of in zip(names, found, strict=True) if not of]
    several = [name for name, of in zip(names, found, strict=True) if len(of) > 1]
    for wrong, fault in (
        (absent, "are not in the manifest"),
        (several, "are names of several clips; use their ids"),
    ):
        if wrong:
            raise DataError(
                f"list of clips: {len(wrong)} of {len(names)} {fault}, the first "
                f"{', '.join(wrong[:3])}; is it the list of another corpus or version?"
            )
    chosen = [i for of in found for i in of]
    if twice := [names[k] for k, i in enumerate(chosen) if i in chosen[:k]]:
        raise DataError(f"list of clips: {twice[0]!r} is listed before by another name; remove it")
    return [clips[i] for i in chosen]
