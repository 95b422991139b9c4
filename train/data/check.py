"""Finds faults in the files, speakers and labels of a manifest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import av

from abhinaya.models.labels import LABELS
from abhinaya.train.data.audio import read_audio
from abhinaya.train.data.clips import NO_AGREEMENT, Clip
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.errors import DataError

Kind = Literal["missing", "corrupt", "rate", "duplicate", "speaker", "label", "consensus"]

ABOUT: Final[dict[Kind, str]] = {
    "missing": "audio file is missing",
    "corrupt": "audio that cannot be decoded",
    "rate": "audio at another rate than --rate",
    "duplicate": "the same content under several names",
    "speaker": "speakers in more than one split: every figure measured across them is worthless",
    "consensus": "the published label is not that of the votes; it counts",
    "label": "labels of training that the other splits lack, or that have no training clip",
}
WARNINGS: Final[frozenset[Kind]] = frozenset({"label", "consensus"})
"""Findings that may be intended; all others make `check` fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault."""

    kind: Kind
    subject: str
    """The clip, speaker or label."""
    detail: str


def check(manifest: Manifest, rate: int | None = None, workers: int = 2) -> list[Finding]:
    """Check that every file exists, decodes and is unique, and check speakers and labels.

    `rate` is the required sample rate in Hz; None accepts any. `workers` threads read files.
    """
    found = list(torn_speakers((clip.split, clip) for clip in manifest.clips))
    found += [*_labels(manifest.clips), *disagreements(manifest.clips)]
    spoken = [clip for clip in manifest.clips if clip.path]
    paths = sorted({clip.path for clip in spoken})
    with ThreadPoolExecutor(workers) as pool:
        looked = pool.map(_look, [manifest.root / path for path in paths])
        files = dict(zip(paths, looked, strict=True))
    first: dict[tuple[str, float | None], str] = {}
    for clip in spoken:
        digest, hz, fault = files[clip.path]
        if not digest:
            found.append(Finding("missing", clip.id, clip.path))
            continue
        if fault:
            found.append(Finding("corrupt", clip.id, fault))
        elif rate is not None and hz != rate:
            found.append(Finding("rate", clip.id, f"{hz} Hz instead of {rate} Hz"))
        same = first.setdefault((digest, clip.start_s), clip.id)
        if same != clip.id:
            found.append(Finding("duplicate", clip.id, f"the same as {same}"))
    return found


def _look(path: Path) -> tuple[str, int, str]:
    """Return SHA-256, rate in Hz and fault of a file; the SHA-256 is empty if it is missing."""
    if not path.is_file():
        return "", 0, ""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        with av.open(str(path)) as container:
            rate = container.streams.audio[0].rate
        read_audio(path)
    except (DataError, av.FFmpegError, IndexError, OSError) as error:
        return digest, 0, str(error)
    return digest, rate, ""


def require(manifest: Manifest, findings: Sequence[Finding], share: float) -> None:
    """Raise DataError if more than `share` of the clips with audio are missing or corrupt."""
    if not 0.0 <= share <= 1.0:
        raise DataError(f"--max-missing {share}: is not a share from 0 to 1; give one")
    lost = [f.detail for f in findings if f.kind in ("missing", "corrupt")]
    spoken = sum(bool(clip.path) for clip in manifest.clips)
    require_most(manifest.root, lost, spoken, share, "--max-missing")


def require_most(root: Path, lost: Sequence[str], of: int, share: float, option: str) -> None:
    """Raise DataError if more than `share` of `of` files are lost; `lost` has their faults."""
    if of and len(lost) / of > share:
        many = f"{len(lost)} of {of} audio files are missing or corrupt, more than the {share:.1%}"
        hint = f"fetch them, give the right folder with --root, or allow more with {option}"
        raise DataError(f"{root}: {many} allowed: {', '.join(lost[:3])}; {hint}")


def torn_speakers(parts: Iterable[tuple[str, Clip]]) -> Iterator[Finding]:
    """Yield the speakers with clips in more than one split; `parts` are (split, clip)."""
    splits: dict[str, Counter[str]] = {}
    for split, clip in parts:
        if clip.speaker and split:
            splits.setdefault(clip.speaker, Counter())[split] += 1
    for speaker, of in sorted(splits.items()):
        if len(of) > 1:
            counts = ", ".join(f"{split} ({count})" for split, count in sorted(of.items()))
            yield Finding("speaker", speaker, counts)


def disagreements(clips: Iterable[Clip]) -> Iterator[Finding]:
    """Yield the clips whose published label is not that of the votes."""
    for clip in (c for c in clips if c.published):
        detail = f"published {clip.published}, votes {clip.voted or NO_AGREEMENT}"
        yield Finding("consensus", clip.id, detail)


def _labels(clips: Sequence[Clip]) -> Iterator[Finding]:
    """Yield labels that only the split train has, or only another split."""
    splits: dict[str, set[str]] = {}
    for clip in clips:
        if clip.label and clip.split:
            splits.setdefault(clip.split, set()).add(clip.label)
    train = splits.pop("train", set())
    for split, labels in sorted(splits.items()) if train else ():
        for label in sorted(labels ^ train, key=LABELS.index):
            here, there = (split, "train") if label in labels else ("train", split)
            yield Finding("label", label, f"is in {here} but not in {there}")
