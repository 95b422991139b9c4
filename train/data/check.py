"""What is wrong with the files of a manifest, before hours are spent on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import av

from abhinaya.models.labels import LABELS
from abhinaya.train.data.audio import read_audio
from abhinaya.train.data.clips import Clip, DataError
from abhinaya.train.data.manifest import Manifest

Kind = Literal["missing", "corrupt", "rate", "duplicate", "speaker", "label"]

ABOUT: Final[dict[Kind, str]] = {
    "missing": "audio that is not there",
    "corrupt": "audio that cannot be decoded",
    "rate": "audio at another rate than asked for",
    "duplicate": "the same content under several names",
    "speaker": "speakers in more than one split: every figure measured across them is worthless",
    "label": "labels of training that the other splits lack, or that have no training clip",
}
WARNINGS: Final[frozenset[Kind]] = frozenset({"label"})
"""What may be meant so; the rest makes `check` fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: Kind
    subject: str
    """The clip, speaker or label."""
    detail: str


@dataclass(frozen=True, slots=True)
class _File:
    digest: str = ""
    rate: int = 0
    fault: str = ""


def check(manifest: Manifest, rate: int | None = None, workers: int = 2) -> list[Finding]:
    """Look at every file: is it there, does it decode, is it unique; and at speakers and labels.

    Args:
        manifest: what to look at.
        rate: Hz that every file must have; None accepts any, which reading resamples.
        workers: threads that read files.

    """
    found = list(torn_speakers(manifest.clips))
    found += _labels(manifest.clips)
    spoken = [clip for clip in manifest.clips if clip.path]
    files: dict[str, _File] = {}
    paths = sorted({clip.path for clip in spoken})
    with ThreadPoolExecutor(workers) as pool:
        looked = pool.map(_look, [manifest.root / p for p in paths])
        files.update(zip(paths, looked, strict=True))
    first: dict[tuple[str, float | None], str] = {}
    for clip in spoken:
        file = files[clip.path]
        if not file.digest:
            found.append(Finding("missing", clip.id, clip.path))
            continue
        if file.fault:
            found.append(Finding("corrupt", clip.id, file.fault))
        elif rate is not None and file.rate != rate:
            found.append(Finding("rate", clip.id, f"{file.rate} Hz instead of {rate} Hz"))
        same = first.setdefault((file.digest, clip.start_s), clip.id)
        if same != clip.id:
            found.append(Finding("duplicate", clip.id, f"the same as {same}"))
    return found


def require(manifest: Manifest, findings: Sequence[Finding], share: float) -> None:
    """Stop if more than `share` of the clips with audio are missing or corrupt.

    Raises:
        DataError: they are; it names the first ones. Or `share` is no share.

    """
    if not 0.0 <= share <= 1.0:
        raise DataError(f"--max-missing {share}: is no share; give 0 to 1")
    lost = [f for f in findings if f.kind in ("missing", "corrupt")]
    spoken = sum(bool(clip.path) for clip in manifest.clips)
    if spoken and len(lost) / spoken > share:
        raise DataError(
            f"{manifest.root}: {len(lost)} of {spoken} audio files are missing or corrupt, more "
            f"than the {share:.1%} allowed: {', '.join(f.detail for f in lost[:3])}; fetch them, "
            "give the right folder with --root, or allow more with --max-missing"
        )


def _look(path: Path) -> _File:
    if not path.is_file():
        return _File()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        with av.open(str(path)) as container:
            rate = container.streams.audio[0].rate
        read_audio(path)
    except (DataError, av.FFmpegError, IndexError, OSError) as error:
        return _File(digest, fault=str(error))
    return _File(digest, rate)


def torn_speakers(clips: Sequence[Clip]) -> Iterator[Finding]:
    """Yield the speakers of more than one split, with their clips in each."""
    splits: dict[str, Counter[str]] = {}
    for clip in clips:
        if clip.speaker and clip.split:
            splits.setdefault(clip.speaker, Counter())[clip.split] += 1
    for speaker, of in sorted(splits.items()):
        if len(of) > 1:
            told = ", ".join(f"{split} ({count})" for split, count in sorted(of.items()))
            yield Finding("speaker", speaker, told)


def _labels(clips: Sequence[Clip]) -> Iterator[Finding]:
    """Labels that could be trained on but not measured, or the other way round."""
    by_split: dict[str, set[str]] = {}
    for clip in clips:
        if clip.label and clip.split:
            by_split.setdefault(clip.split, set()).add(clip.label)
    train = by_split.get("train")
    for split, labels in sorted(by_split.items()):
        for label in LABELS if train is not None and split != "train" else ():
            if (label in labels) != (label in (train or ())):
                where = f"is in {split} but not in train"
                other = f"is in train but not in {split}"
                yield Finding("label", label, where if label in labels else other)
