"""Transcripts of many clips: several in one call of a transcriber.

By default a clip is transcribed as a whole and every text is kept, as for the paper. As in the
monitor, Silero VAD may cut it at pauses instead, and doubtful texts are dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from faster_whisper.vad import VadOptions, get_speech_timestamps

from abhinaya.models.asr.base import Hearing, Transcriber
from abhinaya.models.base import SAMPLE_RATE, FloatArray

BATCH: Final = 16
"""Clips in one call; more have no effect on a CPU."""
WHOLE: Final = {"word_times": False, "guards": {"reject": False}, "threads": 1}
"""Options of Whisper for whole clips; more threads take less time, and more CPU time."""
LONGEST: Final = 30 * SAMPLE_RATE
"""Samples of Whisper's window; a longer clip is cut at pauses."""
CUT: Final = VadOptions(
    threshold=0.5,
    neg_threshold=0.35,
    min_speech_duration_ms=250,
    min_silence_duration_ms=400,
    speech_pad_ms=150,
    max_speech_duration_s=9.7,  # 10 s with the padding
)


def words_of(
    transcriber: Transcriber, cut: bool, clips: Sequence[FloatArray], batch: int = BATCH
) -> list[str]:
    """Return the transcript of each clip [n]; with `cut`, of its speech between pauses."""
    pieces = [(i, piece) for i, samples in enumerate(clips) for piece in _pieces(samples, cut)]
    texts: list[list[str]] = [[] for _ in clips]
    for start in range(0, len(pieces), batch):
        few = pieces[start : start + batch]
        with _one_thread():
            found = transcriber.transcribe([Hearing(piece) for _, piece in few])
        for (i, _), result in zip(few, found, strict=True):
            texts[i] += [result.text] if result.text else []
    return [" ".join(of) for of in texts]


def _pieces(samples: FloatArray, cut: bool) -> list[FloatArray]:
    if not cut and len(samples) <= LONGEST:
        return [samples]
    return [samples[p["start"] : p["end"]] for p in get_speech_timestamps(samples, CUT)]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Run numpy's BLAS on one thread, for spectra: idle others take half of the CPU time."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            from threadpoolctl import threadpool_limits  # from the extra `train`

            stack.enter_context(threadpool_limits(1, "blas"))
        yield
