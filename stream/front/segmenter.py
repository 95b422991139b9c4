"""Cut one stream into pieces of speech: a pure state machine, fed a frame and its probability.

    idle ----- p >= start_threshold -----> run: speech continues while p >= end_threshold
      ^                                     |
      +-- silence for min_silence_s --------+---> a piece, if the run has min_speech_s of speech

A run has `pad_s` of audio before and after its speech, but no audio of a neighbouring piece.
In the last `cut_search_s` before `max_segment_s`, a silence of `brief_silence_s` ends the run. If
there is none, the run is cut at the deepest pause of those seconds; each sample is then in exactly
one of the two pieces. The brief silence lowers latency: a cut found by looking back comes only
when the limit is reached.

`min_silence_s` costs latency: a piece ends only after that much silence, in whole frames of 32 ms
from the end of the last speech frame (0.4 s takes 13 frames, 0.416 s). Padding adds no latency: if
`pad_s` is longer than that silence, the piece ends with the audio received so far.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import to_samples
from abhinaya.stream.settings.config import VadConfig

FloatArray = npt.NDArray[np.float32]
Cut = Literal["pause", "limit", "end"]

_FLOOR_POWER: Final = 1e-10
_PAUSE_FRAMES: Final = 5
_PER_DECADE: Final = 0.1  # a tenfold power counts as much as 0.1 of speech probability


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A finished piece of speech."""

    start: int
    """Position of the first sample in the stream."""
    end: int
    """Position after the last sample."""
    samples: FloatArray
    """[end - start]"""
    cut: Cut
    """Reason of the end: silence, the length limit, or the end of the stream."""
    speech_end: int
    """End of the last speech frame; latency counts from here."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame that the segmenter has stored."""

    start: int
    samples: FloatArray
    probability: float
    speech: bool

    @property
    def end(self) -> int:
        """Position after the last sample in the stream."""
        return self.start + len(self.samples)


@dataclass(slots=True)
class Run:
    """Speech in progress."""

    start: int
    """Start of its piece: includes padding, or is the end of the previous cut piece."""
    speech_start: int
    """Start of the speech, without padding."""
    speech_end: int
    speech: int = 0
    """Number of samples in the speech frames."""
    cut: bool = False
    """Whether it continues a piece before it: then `min_speech_s` does not apply."""


class Segmenter:
    """Cuts one stream into pieces. It stores at most `max_segment_s` of audio and one frame."""

    def __init__(self, config: VadConfig) -> None:
        self._config = config
        self._max = to_samples(config.max_segment_s)
        self._search = to_samples(config.cut_search_s)
        # Padding must leave room for speech, else a piece could be padding only.
        self._pad = min(to_samples(config.pad_s), self._max // 4)
        self._min_speech = to_samples(config.min_speech_s)
        self._min_silence = to_samples(config.min_silence_s)
        self._brief_silence = min(to_samples(config.brief_silence_s), self._min_silence)
        self._frames: deque[Frame] = deque()
        self._run: Run | None = None
        self._position = 0
        self._taken = 0  # end of the previous piece: the next piece may not start before it
        self._resumes_by = 0  # speech that starts before this continues the previous run

    @property
    def position(self) -> int:
        """Samples of the stream so far."""
        return self._position

    @property
    def run(self) -> Run | None:
        """The speech in progress, once it is long enough to become a piece. Do not change it.

        The piece will start at the run's `start`.
        """
        return self._run if self._run and self._is_piece(self._run) else None

    def so_far(self) -> list[Piece]:
        """Return the result of a `flush` at this moment, without a change of state."""
        run = self.run
        return self._piece(run.start, self._end(run), "end") if run else []

    def reset(self, position: int = 0) -> None:
        """Drop all frames; the next frame starts at `position`."""
        self._frames.clear()
        self._run = None
        self._position = self._taken = self._resumes_by = position

    def push(self, samples: FloatArray, probability: float) -> list[Piece]:
        """Add the next frame [n] (only the last of a stream may be short).

        Returns the pieces that this frame completes.
        """
        continues = self._run is not None or self._position < self._resumes_by
        threshold = self._config.end_threshold if continues else self._config.start_threshold
        frame = Frame(self._position, samples.copy(), probability, probability >= threshold)
        self._frames.append(frame)
        self._position = frame.end
        if self._run is None:
            if not frame.speech:
                self._trim(self._position - self._pad)
                return []
            start = max(self._taken, frame.start - self._pad)
            resumed = frame.start < self._resumes_by
            self._run = Run(start, frame.start, frame.end, cut=resumed)
        if frame.speech:
            self._run.speech += len(samples)
            self._run.speech_end = frame.end
        elif self._position - self._run.speech_end >= self._needed_silence(self._run):
            self._resumes_by = self._run.speech_end + self._min_silence
            return self._close(self._run, "pause")
        return self._limit(self._run)

    def flush(self) -> list[Piece]:
        """End the stream here: return the unfinished piece, if it has enough speech."""
        return self._close(self._run, "end") if self._run else []

    def _needed_silence(self, run: Run) -> int:
        """Return the silence that ends a run, in samples: shorter near the length limit."""
        near = self._position - run.start > self._max - self._search
        return self._brief_silence if near and self._is_piece(run) else self._min_silence

    def _is_piece(self, run: Run) -> bool:
        return run.cut or run.speech >= self._min_speech

    def _end(self, run: Run) -> int:
        """Return where the piece of a run ends if no more speech follows."""
        return min(run.speech_end + self._pad, self._position, run.start + self._max)

    def _limit(self, run: Run) -> list[Piece]:
        """Cut a run that exceeds the limit; the rest stays the same run."""
        pieces: list[Piece] = []
        while self._position - run.start > self._max:
            last = run.start + self._max
            cut = deepest_pause(self._frames, last - self._search, last)
            pieces += self._piece(run.start, cut, "limit")
            run.start = run.speech_start = self._taken = cut
            run.cut = True
            self._trim(cut)
        return pieces

    def _close(self, run: Run, cut: Cut) -> list[Piece]:
        pieces: list[Piece] = []
        if self._is_piece(run):
            end = self._end(run)
            pieces = self._piece(run.start, end, cut)
            self._taken = end if pieces else self._taken
        self._run = None
        self._trim(self._position - self._pad)
        return pieces

    def _piece(self, start: int, end: int, cut: Cut) -> list[Piece]:
        """Return [start, end) as a piece; none if it is silent, as the rest of a cut run may be."""
        speech_end = max((f.end for f in self._frames if f.speech and f.start < end), default=start)
        if speech_end <= start:
            return []
        first = self._frames[0].start
        samples = np.concatenate([frame.samples for frame in self._frames])
        piece = samples[start - first : end - first].copy()
        return [Piece(start, end, piece, cut, min(speech_end, end))]

    def _trim(self, position: int) -> None:
        """Drop the frames that end before `position` or are part of a piece."""
        keep = max(position, self._taken)
        while self._frames and self._frames[0].end <= keep:
            self._frames.popleft()


def deepest_pause(frames: Iterable[Frame], first: int, last: int) -> int:
    """Return where to cut in [first, last]: its deepest pause, or `last` if no frame lies in it.

    Depth is a mean over five frames (160 ms), so that a pause between words is deeper than the
    closure of a consonant. It uses loudness too, because the probability hardly falls in fluent
    speech.
    """
    near = list(frames)
    if not any(f.start >= first and f.end <= last for f in near):
        return last
    half = _PAUSE_FRAMES // 2
    depth = np.array([f.probability + _PER_DECADE * np.log10(power(f.samples)) for f in near])
    kernel = np.full(_PAUSE_FRAMES, 1 / _PAUSE_FRAMES)
    smooth = np.convolve(np.pad(depth, half, mode="edge"), kernel, mode="valid")
    inside = (i for i, f in enumerate(near) if f.start >= first and f.end <= last)
    deepest = near[min(inside, key=lambda i: float(smooth[i]))]
    return deepest.start + len(deepest.samples) // 2


def power(samples: FloatArray) -> float:
    """Return the mean square of samples [n]."""
    return float(np.mean(np.square(samples))) + _FLOOR_POWER
