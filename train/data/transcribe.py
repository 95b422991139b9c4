"""Adds transcripts to a manifest, by a transcriber of `models/asr`.

As in the monitor, Silero VAD cuts recordings at pauses, into pieces of at most 10 s: the texts for
training then resemble those of a stream. A journal next to the new manifest has a line per finished
clip; after a kill, the next run continues from its last complete line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from faster_whisper.vad import VadOptions, get_speech_timestamps

from abhinaya.models.asr import Hearing, Transcriber
from abhinaya.models.base import FloatArray
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.journal import Journal
from abhinaya.train.data.manifest import Manifest, write_manifest
from abhinaya.train.errors import DataError

SCHEMA: Final = "abhinaya.transcripts/2"
SOURCE: Final = "asr"
BATCH: Final = 8
"""Pieces that are transcribed in one batch."""
CUT: Final = VadOptions(
    threshold=0.5,
    neg_threshold=0.35,
    min_speech_duration_ms=250,
    min_silence_duration_ms=400,
    speech_pad_ms=150,
    max_speech_duration_s=9.7,  # 10 s with the padding
)

Progress = Callable[[int, int], None]
"""Called with the number of finished clips and of all clips."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run."""

    transcribed: int
    kept: int
    """Number of clips with a transcript before, or without audio."""
    failed: Mapping[str, str]
    """Id -> fault of the clips that could not be read."""


def transcribe_manifest(
    manifest: Manifest,
    out: Path,
    words: Callable[[FloatArray], str],
    made_by: Mapping[str, Any],
    replace_gold: bool = False,
    max_failed: float = 0.0,
    progress: Progress = lambda done, of: None,
) -> Outcome:
    """Write `manifest` to `out`, with transcripts for clips that have audio but no transcript.

    `words` transcribes samples [n]. A journal next to `out` must have the same `made_by` to be
    continued. `replace_gold` also transcribes clips with a human transcript. `max_failed` is the
    share of clips that may be unreadable; they get an empty transcript. Raises DataError: too many
    clips cannot be read, or the journal has another `made_by`.
    """
    wanted = [
        clip
        for clip in manifest.clips
        if clip.path and (replace_gold or not (clip.transcript or clip.transcript_source))
    ]
    journal = Journal(out, {"schema": SCHEMA, "made_by": dict(made_by)})
    done = journal.done
    left = [clip for clip in wanted if clip.id not in done]
    progress(len(wanted) - len(left), len(wanted))
    for clip in left:
        journal.add([_line(manifest.root, clip, words)])
        progress(len(done), len(wanted))
    failed = {clip.id: found for clip in wanted if (found := done[clip.id].get("error"))}
    if len(failed) > max_failed * len(wanted):
        first = next(iter(failed))
        raise DataError(
            f"{out}: {len(failed)} of {len(wanted)} clips cannot be transcribed, the first "
            f"{first}: {failed[first]}; repair them and remove {journal.path}, or allow them with "
            "--max-missing"
        )
    texts = {clip.id: str(done[clip.id].get("text", "")) for clip in wanted}
    clips = tuple(
        replace(clip, transcript=texts[clip.id], transcript_source=SOURCE)
        if clip.id in texts
        else clip
        for clip in manifest.clips
    )
    write_manifest(out, replace(manifest, clips=clips))
    journal.close()
    return Outcome(len(wanted) - len(failed), len(manifest.clips) - len(wanted), failed)


def words_of(transcriber: Transcriber, samples: FloatArray) -> str:
    """Return the transcript of samples [n], of any length."""
    pieces = [samples[p["start"] : p["end"]] for p in get_speech_timestamps(samples, CUT)]
    texts: list[str] = []
    for start in range(0, len(pieces), BATCH):
        batch = [Hearing(piece) for piece in pieces[start : start + BATCH]]
        texts += [result.text for result in transcriber.transcribe(batch)]
    return " ".join(text for text in texts if text)


def _line(root: Path, clip: Clip, words: Callable[[FloatArray], str]) -> dict[str, str]:
    try:
        return {"id": clip.id, "text": words(read_clip(root, clip))}
    except DataError as error:
        return {"id": clip.id, "error": str(error)}
