"""Reads EmoBox's published splits of a corpus, and matches them with its clips.

Where the folds are speakers, or a split of the corpus, `emobox.toml` has them. Other splits are
drawn clip by clip; they are read from EmoBox's own files and never made up.
"""

from __future__ import annotations

import importlib.resources
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import near_miss
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, read_manifest
from abhinaya.train.data.read import read_corpus
from abhinaya.train.data.tables import lines_of, text_of
from abhinaya.train.errors import DataError

FACTS: Final[Mapping[str, Mapping[str, Any]]] = tomllib.loads(
    (importlib.resources.files("abhinaya.bench.quality") / "emobox.toml").read_text("utf-8")
)
"""By the name of the corpus's reader."""
HINT: Final = "give the folder `data` of the repository emo-box/EmoBox with --splits"


@dataclass(frozen=True, slots=True)
class Fold:
    """Numbers of the clips of one fold; `train` is empty if the splits do not name them."""

    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Protocol:
    """A corpus with its published folds."""

    manifest: Manifest
    truth: Mapping[int, str]
    """Number of a clip -> its class in EmoBox, in lower case: one of the eight labels or not."""
    folds: tuple[Fold, ...]
    source: str
    """Where the splits come from."""
    listed: int
    """Number of test clips that the splits list; some may be missing here."""


def protocol(corpus: str, data: Path, splits: Path | None) -> Protocol:
    """Return the corpus with the folds of `splits`, EmoBox's folder of JSON lines.

    `data` is the folder of the corpus, or its manifest, for example with transcripts.

    Raises DataError: the corpus is not one of EmoBox's or is missing, or its splits are unknown.
    """
    if corpus not in FACTS:
        raise DataError(f"--corpus {corpus}: not a corpus of EmoBox; {near_miss(corpus, FACTS)}")
    facts = FACTS[corpus]
    manifest = read_manifest(data) if data.is_file() else read_corpus(corpus, data)
    if splits is not None:
        return _from_files(manifest, facts, splits)
    if not {"speakers", "split"} & facts.keys():
        raise DataError(f"--corpus {corpus}: its folds are lists of clips; {HINT}")
    clips, truth = manifest.clips, {}
    for i, clip in enumerate(clips):
        own = [
            name for start, name in facts.get("classes", {}).items() if clip.id.startswith(start)
        ]
        if name := (own or [clip.consensus])[0]:
            truth[i] = name
    if "split" in facts:
        groups = [[i for i in truth if clips[i].split == facts["split"]]]
        rest = [i for i in truth if clips[i].split == "train"]
        folds = [Fold(tuple(rest), tuple(test)) for test in groups if test]
    else:
        groups = [[i for i in truth if _speaker(clips[i]) in of] for of in facts["speakers"]]
        pairs = [(test, [i for i in truth if i not in set(test)]) for test in groups if test]
        folds = [Fold(tuple(train), tuple(test)) for test, train in pairs]
    if not folds:
        raise DataError(f"{data}: has no test clip of {corpus}; give the whole corpus")
    source = "the corpus's own split" if "split" in facts else "speakers, as in its repository"
    return Protocol(manifest, truth, tuple(folds), source, facts["clips"])


def _speaker(clip: Clip) -> str:
    return clip.speaker.removeprefix(f"{clip.corpus}_")


def _from_files(manifest: Manifest, facts: Mapping[str, Any], splits: Path) -> Protocol:
    name = facts["name"]
    root = splits / name if (splits / name).is_dir() else splits
    folders = sorted(root.glob("fold_*"), key=lambda p: (len(p.name), p.name))
    if not folders:
        raise DataError(f"{splits}: has no {name}/fold_1; {HINT}")
    names = _label_map(root / "label_map.json")
    places, truth, folds, listed = _places(manifest.clips), dict[int, str](), list[Fold](), 0
    for folder in folders:
        parts: dict[str, list[int]] = {}
        for part in ("train", "test"):
            path = folder / f"{name}_{part}_{folder.name}.jsonl"
            rows = list(_rows(path)) if part == "test" or path.is_file() else []
            listed += len(rows) * (part == "test")
            found = [(_number(Path(wav), places), emo) for wav, emo in rows]
            parts[part] = [i for i, _ in found if i is not None]
            truth |= {i: names.get(emo, emo).lower() for i, emo in found if i is not None}
        if both := sorted(set(parts["train"]) & set(parts["test"])):
            clip = manifest.clips[both[0]].id
            raise DataError(
                f"{folder}: {len(both)} clips are in train and test, the first {clip!r}"
            )
        if parts["test"]:
            folds.append(Fold(tuple(parts["train"]), tuple(parts["test"])))
    if not folds:
        raise DataError(f"{splits}: none of its test clips is in {manifest.root}")
    return Protocol(manifest, truth, tuple(folds), f"EmoBox's files in {root}", listed)


def _label_map(path: Path) -> dict[str, str]:
    """Return EmoBox's classes by the corpus's own names; empty without such a file."""
    try:
        found = json.loads(text_of(path, HINT)) if path.is_file() else {}
        return {str(name): str(label) for name, label in found.items()}
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a map of labels ({error}); fetch it again") from error


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield audio file and emotion of each line."""
    for number, line in enumerate(lines_of(text_of(path, HINT)), 1):
        try:
            row = json.loads(line)
            yield str(row["wav"]), str(row["emo"])
        except (ValueError, KeyError, TypeError) as error:
            here = f"{path}:{number}"
            raise DataError(f"{here}: not a clip of EmoBox ({error!r}); fetch it again") from error


def _places(clips: Sequence[Clip]) -> dict[str, int | None]:
    """Return number of clip by each of its names; None for a name of several clips."""
    found: dict[str, int | None] = {}
    for i, clip in enumerate(clips):
        path = Path(clip.path or clip.id)
        for name in {clip.id, path.stem, f"{path.parent.name}/{path.stem}"}:
            found[name] = None if name in found else i
    return found


def _number(wav: Path, places: Mapping[str, int | None]) -> int | None:
    stem, parent = wav.stem, wav.parent.name
    names = (f"{parent}/{stem}", f"{parent}_{stem}", stem)
    return next((i for name in names if (i := places.get(name)) is not None), None)
