"""Cut one stream into pieces of speech: a pure state machine, fed a frame and its probability.

    idle ----- p >= start_threshold -----> run: speech goes on while p >= end_threshold
      ^                                     |
      +-- silence for min_silence_s --------+---> a piece, if the run holds min_speech_s of speech

A run keeps `pad_s` of audio before and after its speech, but never audio that its neighbour has.
In the last `cut_search_s` before `max_segment_s` a silence of `brief_silence_s` ends it; if none
comes, it is cut at the deepest pause of those seconds, and both halves together hold every sample,
once. The brief silence is there for latency: what lies before a cut that is found by looking back
has waited for the limit to be reached.

The price of `min_silence_s` is latency: a piece is known to be over only when the silence has
lasted that long, counted in whole frames of 32 ms from the end of the last speech frame (0.4 s
waits for 13 frames, 0.416 s). Padding adds nothing to it: where `pad_s` is longer than the
silence that was waited for, the piece ends with the audio heard so far.
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
_PER_DECADE: Final = 0.1  # ten times the power weighs as much as 0.1 of speech probability


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A finished stretch of speech."""

    start: int
    """Its first sample in the stream."""
    end: int
    """One past its last sample."""
    samples: FloatArray
    """[end - start]"""
    cut: Cut
    """Why it ends: silence, the length limit, or the end of the stream."""
    speech_end: int
    """End of its last speech frame: from here people count the latency."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame as the segmenter remembers it."""

    start: int
    samples: FloatArray
    probability: float
    speech: bool

    @property
    def end(self) -> int:
        """One past its last sample in the stream."""
        return self.start + len(self.samples)


@dataclass(slots=True)
class Run:
    """Speech that is going on."""

    start: int
    """Where its piece will start: padding included, or where the piece before was cut."""
    speech_start: int
    """The same without padding."""
    speech_end: int
    speech: int = 0
    """How many samples its speech frames have."""
    cut: bool = False
    """Whether it has filled a piece already: then it is no short burst, nor is its rest."""


class Segmenter:
    """The pieces of one stream.

    It holds at most `max_segment_s` of audio and one frame.
    """

    def __init__(self, config: VadConfig) -> None:
        self._config = config
        self._max = to_samples(config.max_segment_s)
        self._search = to_samples(config.cut_search_s)
        # Padding must leave room for speech, or a piece could be nothing but padding.
        self._pad = min(to_samples(config.pad_s), self._max // 4)
        self._min_speech = to_samples(config.min_speech_s)
        self._min_silence = to_samples(config.min_silence_s)
        self._brief_silence = min(to_samples(config.brief_silence_s), self._min_silence)
        self._frames: deque[Frame] = deque()
        self._run: Run | None = None
        self._position = 0
        self._taken = 0  # end of what earlier pieces hold: no piece may start before it
        self._resumes_by = 0  # speech before this goes on with the run before

    @property
    def position(self) -> int:
        """How many samples of the stream have passed."""
        return self._position

    @property
    def run(self) -> Run | None:
        """The speech that is going on, once it is long enough to become a piece; to be looked at.

        From then on it does: what becomes of it begins where it does.
        """
        return self._run if self._run and self._is_piece(self._run) else None

    def so_far(self) -> list[Piece]:
        """Return what `flush` would, and go on as if nobody had asked."""
        run = self.run
        return self._piece(run.start, self._end(run), "end") if run else []

    def reset(self, position: int = 0) -> None:
        """Forget everything; the next frame starts at `position`."""
        self._frames.clear()
        self._run = None
        self._position = self._taken = self._resumes_by = position

    def push(self, samples: FloatArray, probability: float) -> list[Piece]:
        """Take the next frame [n] (only the last of a stream may be short).

        Returns the pieces that this frame completes; nearly always none.
        """
        goes_on = self._run is not None or self._position < self._resumes_by
        threshold = self._config.end_threshold if goes_on else self._config.start_threshold
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
        elif self._position - self._run.speech_end >= self._enough_silence(self._run):
            self._resumes_by = self._run.speech_end + self._min_silence
            return self._close(self._run, "pause")
        return self._limit(self._run)

    def flush(self) -> list[Piece]:
        """End the stream here: give the piece that is still open, if it holds enough speech."""
        return self._close(self._run, "end") if self._run else []

    def _enough_silence(self, run: Run) -> int:
        """Near its limit a run takes the first brief pause: to go on would mean to come back."""
        near = self._position - run.start > self._max - self._search
        return self._brief_silence if near and self._is_piece(run) else self._min_silence

    def _is_piece(self, run: Run) -> bool:
        return run.cut or run.speech >= self._min_speech

    def _end(self, run: Run) -> int:
        """Where the piece of a run ends if no more speech comes."""
        return min(run.speech_end + self._pad, self._position, run.start + self._max)

    def _limit(self, run: Run) -> list[Piece]:
        """Cut a run that has outgrown the limit; its rest goes on as the same run."""
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
        """Make [start, end) a piece, unless it is silence: the rest of a run that was cut."""
        speech_end = max((f.end for f in self._frames if f.speech and f.start < end), default=start)
        if speech_end <= start:
            return []
        first = self._frames[0].start
        samples = np.concatenate([frame.samples for frame in self._frames])
        piece = samples[start - first : end - first].copy()
        return [Piece(start, end, piece, cut, min(speech_end, end))]

    def _trim(self, position: int) -> None:
        """Forget the frames that end before `position` or that a piece has taken."""
        keep = max(position, self._taken)
        while self._frames and self._frames[0].end <= keep:
            self._frames.popleft()


def deepest_pause(frames: Iterable[Frame], first: int, last: int) -> int:
    """Find where to cut in [first, last]: amid its deepest pause, or at `last` if it has no frame.

    Depth counts over five frames (160 ms), so that a pause between words wins over the closure of
    a consonant, and by loudness as well as by probability, which in fluent speech hardly dips.
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
