"""Reads MSP-Podcast.

Labels/labels_consensus.{csv,json}   one row per clip: class, attributes, speaker, partition
Labels/labels_detailed.{csv,json}    one row per clip and worker: the votes; may be absent
Transcripts/NAME.txt                 one file per clip; may be absent
Audios/NAME.wav
Partitions.txt                       a line `Test3; NAME.wav` per clip; may be absent

A clip without labels, of the hidden test, is in Partitions.txt, or its name says test3 (as in the
challenge of 2025).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from abhinaya.models.labels import HIGH, LABELS, LOW
from abhinaya.train.data.clips import NO_AGREEMENT, OTHER, Clip
from abhinaya.train.data.read_plain import LETTERS
from abhinaya.train.data.tables import Row, rows_of, text_of
from abhinaya.train.errors import DataError

CONSENSUS: Final = {**LETTERS, "O": OTHER}
PARTITIONS: Final = {
    "train": "train", "development": "dev", "validation": "dev", "test": "test", "test1": "test1",
    "test2": "test2", "test3": "test3",
}  # fmt: skip
HIDDEN: Final = "test3"
ATTRIBUTES: Final = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}


def read_msp_podcast(folder: Path) -> list[Clip]:
    """Return the clips of MSP-Podcast in `folder`, in the order of its consensus file.

    The votes are in the detailed file. Without it the consensus is the only vote, and a clip
    without agreement has none.

    Raises DataError: no consensus file, or a class or partition is unknown.
    """
    consensus = _labels(folder, "consensus")
    if consensus is None:
        raise DataError(
            f"{folder}: has no Labels/labels_consensus.csv or .json; give the folder that holds "
            "Labels, Audios and Transcripts"
        )
    primary: dict[str, Counter[str]] = {}
    secondary: dict[str, Counter[str]] = {}
    for row in _rows(_labels(folder, "detailed")):
        name = row["FileName"]
        primary.setdefault(name, Counter())[_vote(row["EmoClass_Major"])] += 1
        second = [v.strip() for v in row.get("EmoClass_Second", "").split(",") if v.strip()]
        secondary.setdefault(name, Counter()).update(second)
    rows = list(_rows(consensus))
    rows += _hidden(folder, {row["FileName"] for row in rows})
    return [
        _clip(folder, consensus, row, primary.get(row["FileName"]), secondary.get(row["FileName"]))
        for row in rows
    ]


def _hidden(folder: Path, labelled: Set[str]) -> list[Row]:
    """Return a row without labels for each clip of the hidden test that has none, by name."""
    listed = folder / "Partitions.txt"
    lines = text_of(listed, "fetch it again").splitlines() if listed.is_file() else []
    pairs = [(line.partition(";")[2].strip(), line.partition(";")[0].strip()) for line in lines]
    names = {name: part for name, part in pairs if part.lower() == HIDDEN}
    names |= {path.name: HIDDEN for path in (folder / "Audios").glob(f"*{HIDDEN}*.wav")}
    return [{"FileName": n, "Split_Set": HIDDEN} for n in sorted(names.keys() - labelled)]


def _clip(
    folder: Path,
    source: Path,
    row: Row,
    primary: Counter[str] | None,
    secondary: Counter[str] | None,
) -> Clip:
    name = row["FileName"]
    code = row.get("EmoClass", "")
    if code not in CONSENSUS and code not in ("X", ""):
        raise DataError(
            f"{source}: {name} has the unknown label {code!r}; known: "
            f"{', '.join(CONSENSUS)} and X (no agreement)"
        )
    votes: Mapping[str, float] = dict(primary or {})
    if primary is None and code in CONSENSUS:
        votes = {CONSENSUS[code]: 1.0}
    words = folder / "Transcripts" / f"{Path(name).stem}.txt"
    text = words.read_text(encoding="utf-8").strip() if words.is_file() else ""
    speaker = row.get("SpkrID", "")
    clip = Clip(
        id=Path(name).stem,
        corpus="msp-podcast",
        speaker="" if speaker.lower() in ("", "unknown") else f"msp-podcast_{speaker}",
        votes=votes,
        path=f"Audios/{name}",
        split=_partition(source, name, row.get("Split_Set", "")),
        secondary=dict(secondary or {}),
        attributes=_attributes(row),
        transcript=text,
        transcript_source="gold" if text else "",
        gender={"male": "m", "female": "f"}.get(row.get("Gender", "").lower(), ""),
        language="en",
    )
    published = CONSENSUS.get(code, NO_AGREEMENT if code else "")
    differs = published not in ("", clip.voted or NO_AGREEMENT)
    return replace(clip, published=published) if differs else clip


def _attributes(row: Row) -> dict[str, float]:
    """Return attributes rescaled from 1..7 to 0..1; empty cells are left out."""
    given = {name: row.get(column, "") for name, column in ATTRIBUTES.items()}
    return {name: (float(v) - LOW) / (HIGH - LOW) for name, v in given.items() if v}


def _vote(text: str) -> str:
    """Return the label of a worker's class; free text ("Other-annoyed") is `other`."""
    label = re.split(r"[\s(;:/-]", text.lower())[0]
    return label if label in LABELS else OTHER


def _partition(source: Path, name: str, text: str) -> str:
    found = PARTITIONS.get(text.lower())
    if found is None:
        raise DataError(
            f"{source}: {name} is in the unknown partition {text!r}; known: {', '.join(PARTITIONS)}"
        )
    return found


def _labels(folder: Path, which: str) -> Path | None:
    for place in (folder / "Labels", folder / "labels", folder):
        for suffix in ("csv", "json"):
            if (path := place / f"labels_{which}.{suffix}").is_file():
                return path
    return None


def _rows(path: Path | None) -> Iterator[Row]:
    """Yield the rows of a CSV, or of JSON by file name (and worker), each with its `FileName`."""
    if path is None:
        return
    if path.suffix == ".csv":
        for row in rows_of(path, "fetch it again"):
            if not row.get("FileName"):
                raise DataError(f"{path}: a row has no FileName; is it the published file?")
            yield row
        return
    try:
        found = json.loads(text_of(path, "fetch it again"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: is not JSON ({error.msg}); fetch it again") from error
    for name, values in found.items():
        for row in _flat(values):
            yield {"FileName": name, **{key: _cell(value) for key, value in row.items()}}


def _cell(value: Any) -> str:
    """Return a JSON value as a CSV cell; null and NaN, hidden values, are empty."""
    return "" if value is None or value != value else str(value)


def _flat(values: Any) -> list[dict[str, Any]]:
    """Return the rows of one clip, which JSON has as one row, a list, or an object by worker."""
    if isinstance(values, list):
        return [row for row in values if isinstance(row, dict)]
    if values and all(isinstance(value, dict) for value in values.values()):
        return list(values.values())
    return [values]
