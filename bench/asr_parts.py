"""What it brings to follow segments while they go on, and what it costs.

The clips of each corpus are joined to one live stream, which the monitor's own listener cuts. The
transcriber hears the parts and then the final segments, one at a time and in the order in which
they become known; only it takes real time, the stream's clock is simulated. So a final segment
waits for the part that is still being heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from abhinaya.bench.asr_clips import Clip, distance, read, words_of
from abhinaya.bench.statistics import percentiles
from abhinaya.stream.asr import Audio, Hearing, Transcriber, Transcription
from abhinaya.stream.asr.agreement import bare
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.config import VadConfig
from abhinaya.stream.listener import Listener
from abhinaya.stream.segmenter import Piece
from abhinaya.stream.vad import FRAME_SAMPLES, SileroVad

LONG_S: Final = 8.0
"""Of segments that are at least this long the delay is told."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Finished:
    """A segment, transcribed."""

    seconds: float
    final_s: float
    """What the transcriber took for the final pass."""
    delay_s: float
    """From the end of its speech to its text: silence, waiting and the final pass."""


@dataclass(slots=True)
class Run:
    """All streams, transcribed in one way."""

    audio_s: float = 0.0
    busy_s: float = 0.0
    """What the transcriber took for everything."""
    words: int = 0
    errors: int = 0
    settled: int = 0
    """Words that the last part of a segment called stable."""
    withdrawn: int = 0
    """Of those, the ones that are others at the beginning of the final text."""
    finished: list[Finished] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Give what JSON says of it."""
        long = [done for done in self.finished if done.seconds >= LONG_S]
        final = percentiles([1000 * done.final_s for done in long])
        delay = percentiles([1000 * done.delay_s for done in long])
        return {
            "audio_s": round(self.audio_s, 1),
            "segments": len(self.finished),
            "long_segments": len(long),
            "words": self.words,
            "word_error_rate": round(self.errors / max(1, self.words), 4),
            "real_time_factor": round(self.busy_s / max(1e-9, self.audio_s), 4),
            "final_p50_ms": round(final["p50"], 1),
            "final_p95_ms": round(final["p95"], 1),
            "delay_p50_ms": round(delay["p50"], 1),
            "delay_p95_ms": round(delay["p95"], 1),
            "settled_words": self.settled,
            "withdrawn": round(self.withdrawn / max(1, self.settled), 4),
        }


class Desk:
    """A transcriber that does one thing after the other, at the stream's time.

    Args:
        transcriber: at work.
        clock: of what it takes.
        run: is added to.

    """

    def __init__(self, transcriber: Transcriber, clock: Clock, run: Run) -> None:
        self._transcriber = transcriber
        self._clock = clock
        self._run = run
        self._free_s = 0.0
        self._part = Transcription("")

    def part(self, now_s: float, heard: Hearing) -> None:
        """Hear a part; while another is being heard only one that costs just what is new."""
        if self._free_s <= now_s or self._transcriber.incremental:
            self._part, _ = self._hear(now_s, heard)

    def final(self, now_s: float, speech_end_s: float, heard: Hearing) -> str:
        """Hear the whole segment; give its text."""
        said, took = self._hear(now_s, heard)
        settled = self._part.text.split()[: self._part.stable]
        self._run.settled += len(settled)
        self._run.withdrawn += changed(settled, said.text.split())
        self._part = Transcription("")
        seconds = to_seconds(len(heard.samples))
        self._run.finished.append(Finished(seconds, took, self._free_s - speech_end_s))
        return said.text

    def _hear(self, now_s: float, heard: Hearing) -> tuple[Transcription, float]:
        begun = self._clock()
        (said,) = self._transcriber.transcribe([heard])
        took = self._clock() - begun
        self._free_s = max(self._free_s, now_s) + took
        self._run.busy_s += took
        return said, took


def changed(settled: Sequence[str], final: Sequence[str]) -> int:
    """Count the words to change before a text begins with what was settled."""
    before, after = [bare(word) for word in settled], [bare(word) for word in final]
    return min(distance(before, after[:length]) for length in range(len(after) + 1))


def measure(
    transcriber: Transcriber,
    clips: Sequence[Clip],
    parts: bool,
    clock: Clock = time.perf_counter,
    vad: VadConfig | None = None,
) -> Run:
    """Transcribe each corpus as one stream, with parts or without."""
    run = Run()
    for corpus in dict.fromkeys(clip.corpus for clip in clips):
        own = [clip for clip in clips if clip.corpus == corpus]
        audio = np.concatenate([read(clip.path) for clip in own])
        desk = Desk(transcriber, clock, run)
        text = " ".join(_stream(desk, corpus, audio, parts, vad or VadConfig()))
        reference = [word for clip in own for word in words_of(clip.text)]
        run.audio_s += to_seconds(len(audio))
        run.words += len(reference)
        run.errors += distance(reference, words_of(text))
    return run


def _stream(desk: Desk, stream: str, audio: Audio, parts: bool, config: VadConfig) -> Iterator[str]:
    """Let a stream pass, and yield the texts of its segments."""
    listener, sequence = Listener(config, 1, SileroVad()), 0
    for start in range(0, len(audio) + FRAME_SAMPLES, FRAME_SAMPLES):
        ended = start >= len(audio)
        chunk = audio[start : start + FRAME_SAMPLES, None]
        pieces: list[tuple[int, Piece]] = listener.finish() if ended else listener.feed(chunk)
        now_s = to_seconds(min(start + FRAME_SAMPLES, len(audio)))
        for _, piece in pieces:
            heard = Hearing(piece.samples, stream, sequence)
            yield desk.final(now_s, to_seconds(piece.speech_end), heard)
            sequence += 1
        if parts and not ended:
            for _, piece in listener.parts():
                desk.part(now_s, Hearing(piece.samples, stream, sequence, final=False))
