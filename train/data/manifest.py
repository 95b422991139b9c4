"""The file that lists the clips of a corpus, and choosing among them. Fields: `docs/data.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.train.data.clips import Clip, DataError

SCHEMA: Final = "abhinaya.manifest/1"
SPLITS: Final = ("train", "dev", "test", "test1", "test2", "test3", "")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Clips and the folder that their paths are below."""

    root: Path
    clips: tuple[Clip, ...]

    def audio(self, clip: Clip) -> Path:
        """Where the audio of a clip is."""
        return self.root / clip.path

    def only(self, split: str) -> Manifest:
        """Keep the clips of one split.

        Raises:
            DataError: there are none.

        """
        chosen = tuple(clip for clip in self.clips if clip.split == split)
        if not chosen:
            there = sorted({clip.split or "(none)" for clip in self.clips})
            raise DataError(f"split {split!r}: no clip is in it; there are: {', '.join(there)}")
        return replace(self, clips=chosen)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write one JSON object a line, the header first; a half-written file never has the name."""
    half = path.with_name(path.name + ".half")
    header = {"schema": SCHEMA, "root": str(manifest.root.resolve())}
    with half.open("w", encoding="utf-8") as out:
        for line in [header, *map(_values, manifest.clips)]:
            out.write(json.dumps(line, ensure_ascii=False, sort_keys=False) + "\n")
    half.replace(path)


def read_manifest(path: Path, root: Path | None = None) -> Manifest:
    """Read a manifest; `root` is another folder than the one it names.

    Raises:
        DataError: it is missing, of another format, or a line is broken or names a clip again.

    """
    if not path.is_file():
        raise DataError(f"{path}: no such manifest; make one with: abhinaya data prepare")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}; is it a manifest?") from error
    header = _parsed(path, 1, lines[0] if lines else "")
    if header.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: its first line does not say {SCHEMA!r}; make it again with: "
            "abhinaya data prepare"
        )
    clips, seen = [], set()
    for number, line in enumerate(lines[1:], 2):
        clip = _clip(path, number, _parsed(path, number, line))
        if clip.id in seen:
            raise DataError(f"{path}:{number}: clip {clip.id!r} comes twice; remove one of them")
        seen.add(clip.id)
        clips.append(clip)
    return Manifest(root or Path(str(header.get("root", path.parent))), tuple(clips))


_FIELDS: Final = {f.name: f for f in fields(Clip)}


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    **dict.fromkeys(("votes", "secondary", "attributes"), (dict,)),
    **dict.fromkeys(("start_s", "end_s"), (int, float, type(None))),
    "scripted": (bool,),
}
"""Types of the fields that are no strings."""


def _values(clip: Clip) -> dict[str, Any]:
    """Fields of a clip that say something."""
    values = {name: getattr(clip, name) for name in _FIELDS}
    return {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if name in ("id", "corpus") or (value not in ("", None, {}) and value is not False)
    }


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{number}: is not JSON ({error.msg}); mend the line") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}:{number}: is no JSON object; mend the line")
    return values


def _clip(path: Path, number: int, values: Mapping[str, Any]) -> Clip:
    if unknown := sorted(set(values) - set(_FIELDS)):
        raise DataError(f"{path}:{number}: unknown fields {unknown}; see docs/data.md")
    if wrong := [n for n, v in values.items() if type(v) not in _TYPES.get(n, (str,))]:
        raise DataError(f"{path}:{number}: not a clip: {wrong} of another type; see docs/data.md")
    try:
        return Clip(**values)
    except (TypeError, AttributeError) as error:
        raise DataError(f"{path}:{number}: not a clip: {error}; see docs/data.md") from error
    except DataError as error:
        raise DataError(f"{path}:{number}: {error}") from error


def balanced(clips: Sequence[Clip], per_class: int = 326, seed: int = 0) -> list[Clip]:
    """Draw `per_class` clips of each label that occurs, in the order they came in.

    326 is what ABHINAYA validates on: the fear clips of MSP-Podcast's development split.

    Raises:
        DataError: a label has fewer; it is named. Or `per_class` is below 1.

    """
    if per_class < 1:
        raise DataError(f"balanced set: {per_class} clips a class; ask for at least 1")
    by_label: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        if clip.label:
            by_label.setdefault(clip.label, []).append(i)
    if short := {label: len(of) for label, of in by_label.items() if len(of) < per_class}:
        least = min(short.values())
        raise DataError(
            f"balanced set: fewer than {per_class} clips of {_counted(short)}; "
            f"ask for {least} a class"
        )
    rng = np.random.default_rng(seed)
    chosen: set[int] = set()
    for label in sorted(by_label):
        chosen.update(int(i) for i in rng.choice(by_label[label], per_class, replace=False))
    return [clips[i] for i in sorted(chosen)]


def named(clips: Sequence[Clip], names: Sequence[str]) -> list[Clip]:
    """Pick the clips that `names` lists, by id or file name (with or without suffix), in its order.

    Raises:
        DataError: a name fits no clip, or several, or two names fit one.

    """
    by_name: dict[str, set[int]] = {}
    for i, clip in enumerate(clips):
        called = {Path(clip.path).name, Path(clip.path).stem} if clip.path else set()
        for name in called:
            by_name.setdefault(name, set()).add(i)
    by_name.update({clip.id: {i} for i, clip in enumerate(clips)})  # what is unique comes first
    found = [by_name.get(name) or by_name.get(Path(name).stem) or set() for name in names]
    pairs = list(zip(names, found, strict=True))
    absent = [name for name, of in pairs if not of]
    several = [name for name, of in pairs if len(of) > 1]
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


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{label} ({count})" for label, count in sorted(counts.items()))
