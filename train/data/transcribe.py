"""Adds transcripts to a manifest, by a transcriber of `models/asr`.

Several clips of similar length are transcribed in one call (`models/asr/clips.py`). A journal next
to the new manifest has a line per finished clip; after a kill, the next run continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from abhinaya.models.asr.clips import BATCH
from abhinaya.models.base import FloatArray
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.journal import Journal
from abhinaya.train.data.manifest import Manifest, write_manifest
from abhinaya.train.errors import DataError

SCHEMA: Final = "abhinaya.transcripts/2"
SOURCE: Final = "asr"
POOL: Final = 8
"""Batches whose clips are read and sorted by length together."""
Words = Callable[[Sequence[FloatArray]], Sequence[str]]
"""Returns the transcript of each clip [n]."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run."""

    transcribed: int
    kept: int
    """Number of clips with a transcript before, or without audio."""
    wordless: int
    """Number of transcribed clips in which no words were recognised."""
    failed: Mapping[str, str]
    """Id -> fault of the clips that could not be read."""


def transcribe_manifest(
    manifest: Manifest,
    out: Path,
    words: Words,
    made_by: Mapping[str, Any],
    replace_gold: bool = False,
    max_failed: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, of: None,
    batch: int = BATCH,
) -> Outcome:
    """Write `manifest` to `out`, with transcripts for clips that have audio but no transcript.

    `words` transcribes `batch` clips at a time. A journal next to `out` must have the same
    `made_by` to be continued. `replace_gold` also transcribes clips with a human transcript.
    `max_failed` is the share of clips that may be unreadable; they get an empty transcript.

    Raises DataError: too many clips cannot be read, or the journal has another `made_by`.
    """
    wanted = [
        clip
        for clip in manifest.clips
        if clip.path and (replace_gold or not (clip.transcript or clip.transcript_source))
    ]
    journal = Journal(out, {"schema": SCHEMA, "made_by": dict(made_by)})
    left = [clip for clip in wanted if clip.id not in journal.done]
    progress(len(wanted) - len(left), len(wanted))
    for start in range(0, len(left), POOL * batch):
        for lines in _lines(manifest.root, left[start : start + POOL * batch], words, batch):
            journal.add(lines)
            progress(len(journal.done), len(wanted))
    failed = {clip.id: found for clip in wanted if (found := journal.done[clip.id].get("error"))}
    if len(failed) > max_failed * len(wanted):
        first = next(iter(failed))
        many = f"{len(failed)} of {len(wanted)} clips cannot be transcribed"
        hint = f"repair them and remove {journal.path}, or allow them with --max-missing"
        raise DataError(f"{out}: {many}, the first {first}: {failed[first]}; {hint}")
    texts = {clip.id: str(journal.done[clip.id].get("text", "")) for clip in wanted}
    heard = {c.id: replace(c, transcript=texts[c.id], transcript_source=SOURCE) for c in wanted}
    clips = tuple(heard.get(clip.id, clip) for clip in manifest.clips)
    write_manifest(out, replace(manifest, clips=clips))
    journal.close()
    wordless = sum(not text for name, text in texts.items() if name not in failed)
    return Outcome(len(wanted) - len(failed), len(manifest.clips) - len(wanted), wordless, failed)


def _lines(
    root: Path, clips: Sequence[Clip], words: Words, batch: int
) -> Iterator[list[dict[str, str]]]:
    """Yield lines of the journal, a batch at a time; clips of similar length share a batch."""
    faults, found = list[dict[str, str]](), list[tuple[str, FloatArray]]()
    for clip in clips:
        try:
            found.append((clip.id, read_clip(root, clip)))
        except DataError as error:
            faults.append({"id": clip.id, "error": str(error)})
    if faults:
        yield faults
    found.sort(key=lambda pair: len(pair[1]))
    for start in range(0, len(found), batch):
        few = found[start : start + batch]
        texts = words([samples for _, samples in few])
        yield [{"id": name, "text": text} for (name, _), text in zip(few, texts, strict=True)]
