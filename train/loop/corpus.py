"""The training and validation clips of a run, chosen from a manifest.

Clips that cannot be used are left out and counted by reason. Errors stop the run before it starts:
too many missing files, a speaker in both splits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abhinaya.models.base import SAMPLE_RATE, Need
from abhinaya.models.labels import ATTRIBUTES
from abhinaya.train.data.audio import duration_s
from abhinaya.train.data.check import require_most, torn_speakers
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, balanced, named
from abhinaya.train.errors import DataError
from abhinaya.train.recipes.recipe import Recipe

WRONG: Final = "of the validation list: counts as wrong"
WORKERS: Final = 8
"""Threads that open files; they mostly wait for the disk."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The clips of a run."""

    root: Path
    train: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    lengths: Mapping[str, float]
    """Clip id -> seconds, or words for a text model; batches are sorted by it."""
    left_out: Mapping[str, int]
    """Reason -> number of clips."""
    missed: tuple[str, ...] | None = None
    """Labels of clips of the list or draw for validation that cannot be used: they are wrong."""

    @property
    def digest(self) -> str:
        """SHA-256 of all fields of the clips: a resumed run compares it."""
        sha = hashlib.sha256()
        for part in (self.train, self.validation):
            for clip in part:
                values = json.dumps(dataclasses.asdict(clip), sort_keys=True, ensure_ascii=False)
                sha.update(values.encode() + b"\n")
            sha.update(b"--\n")
        return sha.hexdigest()


def choose(
    manifest: Manifest, recipe: Recipe, needs: frozenset[Need], listed: Sequence[str] = ()
) -> Corpus:
    """Choose the clips of a run; `listed` names the validation clips, if the recipe has a list.

    Raises DataError: a split is empty, more files are missing than allowed, speakers are in both
    splits, or a balanced set cannot be drawn.
    """
    data, left_out = recipe.data, Counter[str]()
    fixed = bool(listed or (data.balanced and recipe.gives_labels))
    judged = named(manifest.clips, listed) if listed else manifest.only(data.validation_split).clips
    if fixed and not listed:  # before any filter, so that all models are validated on these clips
        classed = [clip for clip in judged if clip.label in data.classes]
        judged = balanced(classed, data.balanced, recipe.seed)
    parts = [manifest.only(data.train_split).clips, judged]
    kept = []
    for part, learnt in zip(parts, (True, False), strict=True):
        reasons = [_unfit(clip, recipe, needs, learnt, fixed and not learnt) for clip in part]
        left_out.update(reason for reason in reasons if reason)
        kept.append([c for c, reason in zip(part, reasons, strict=True) if not reason])
    if "audio" in needs:
        seconds, lost = _survey(manifest.root, [*kept[0], *kept[1]])
        of = len(kept[0]) + len(kept[1])
        setting = "--set data.max_missing=SHARE"
        require_most(manifest.root, list(lost.values()), of, data.max_missing, setting)
        left_out.update({"missing or corrupt": len(lost)} if lost else {})
        kept = [[c for c in part if c.id not in lost] for part in kept]
        lengths = {i: min(s, data.max_s) or data.max_s for i, s in seconds.items()}
    else:
        lengths = {c.id: float(len(c.transcript.split())) for part in kept for c in part}
    for name, clips in zip((data.train_split, data.validation_split), kept, strict=True):
        if not clips:
            why = ", ".join(f"{reason} ({n})" for reason, n in left_out.items()) or "it is empty"
            raise DataError(f"split {name!r}: no clip can be used: {why}; see abhinaya data stats")
    if not data.shared_speakers:
        _require_divided(kept[0], kept[1])
    none = () if fixed else None
    corpus = Corpus(manifest.root, tuple(kept[0]), tuple(judged), lengths, dict(left_out), none)
    return _judged(corpus, kept[1])


def _judged(corpus: Corpus, kept: Sequence[Clip]) -> Corpus:
    """Return the corpus with only the validation clips `kept`."""
    ids = {clip.id for clip in kept}
    lost = [clip.label for clip in corpus.validation if clip.label and clip.id not in ids]
    missed = None if corpus.missed is None else (*corpus.missed, *lost)
    left_out = {**corpus.left_out, **({WRONG: len(missed)} if missed else {})}
    return dataclasses.replace(corpus, validation=tuple(kept), missed=missed, left_out=left_out)


def without_short(corpus: Corpus, samples: int) -> Corpus:
    """Leave out clips with fewer samples than `samples`. Raises DataError if a split is empty."""
    both = corpus.train, corpus.validation
    least_s = samples / SAMPLE_RATE
    parts = [tuple(c for c in part if corpus.lengths[c.id] >= least_s) for part in both]
    short = len(both[0]) + len(both[1]) - len(parts[0]) - len(parts[1])
    if not all(parts):
        raise DataError(f"{corpus.root}: all clips of a split are shorter than {least_s:.2f} s")
    left_out = {**corpus.left_out, **({"too short": short} if short else {})}
    return _judged(dataclasses.replace(corpus, train=parts[0], left_out=left_out), parts[1])


def _unfit(
    clip: Clip, recipe: Recipe, needs: frozenset[Need], learnt: bool, fixed: bool = False
) -> str:
    """Return why a clip cannot be used to learn or validate; of a `fixed` list, if it may be."""
    data, words = recipe.data, len(clip.transcript.split())
    soft = learnt and any(s.target.kind == "distribution" for s in recipe.all_stages)
    if not recipe.gives_labels:
        no_target = "" if set(ATTRIBUTES) <= set(clip.attributes) else "attributes unknown"
    elif soft:
        voted = any(clip.votes.get(label, 0.0) > 0.0 for label in data.classes)
        no_target = "" if voted else "no vote for a class"
    else:
        known = clip.consensus if learnt else clip.label  # validation is on the eight labels
        no_target = "" if known in data.classes else "no consensus on a class"
    text, audio = "transcript" in needs, "audio" in needs
    unusable = ("no transcript", text and not words), ("no audio", audio and not clip.path)
    unwanted = (
        ("scripted words, the same for every emotion", text and clip.scripted),
        ("transcript too long", text and 0 < data.max_words < words),
        (f"kind {clip.kind}", clip.kind not in data.kinds),
    )
    faults = [reason for reason, wrong in (*unusable, *(() if fixed else unwanted)) if wrong]
    return faults[0] if faults else no_target


def _survey(root: Path, clips: Sequence[Clip]) -> tuple[dict[str, float], dict[str, str]]:
    """Open every file; return seconds by clip id, and faults by clip id."""

    def look(path: str) -> float | str:
        try:
            return duration_s(root / path)
        except DataError as error:
            return str(error)

    paths = sorted({clip.path for clip in clips})
    with ThreadPoolExecutor(WORKERS) as pool:
        found = dict(zip(paths, pool.map(look, paths), strict=True))
    seconds: dict[str, float] = {}
    lost: dict[str, str] = {}
    for clip in clips:
        whole = found[clip.path]
        if isinstance(whole, str):
            lost[clip.id] = whole
        else:
            end = whole if clip.end_s is None else clip.end_s
            seconds[clip.id] = max(0.0, end - (clip.start_s or 0.0))
    return seconds, lost


def _require_divided(train: Sequence[Clip], validation: Sequence[Clip]) -> None:
    parts = [("train", clip) for clip in train] + [("validation", clip) for clip in validation]
    if torn := list(torn_speakers(parts)):
        some = "; ".join(f"{f.subject}: {f.detail}" for f in torn[:3])
        raise DataError(
            f"{len(torn)} speakers are in both splits, so figures are worthless: {some}. Divide by "
            "speaker (abhinaya data prepare --dev-speakers), or --set data.shared_speakers=true"
        )
