"""Speech in progress: when it begins and ends, and when a partial is due.

Pure. It only observes the segmenter and never changes the segments. A partial is due after
`provisional_after_s` of speech, and then every `provisional_every_s`. It is also due when a silence
lasts `provisional_pause_s`, because the segment may be over. Each partial needs new speech.
"""

from __future__ import annotations

from dataclasses import dataclass

from abhinaya.stream.clock import to_samples
from abhinaya.stream.front.segmenter import Piece, Run, Segmenter
from abhinaya.stream.settings.config import VadConfig


@dataclass(frozen=True, slots=True)
class Change:
    """Beginning or end of speech."""

    position: int
    """Position of the change in samples of the stream."""
    speaking: bool


class Ongoing:
    """Observes one stream's segmenter. Call its methods after every frame or every few frames."""

    def __init__(self, config: VadConfig, segmenter: Segmenter) -> None:
        self._after = to_samples(config.provisional_after_s)
        self._every = to_samples(config.provisional_every_s)
        self._pause = to_samples(config.provisional_pause_s)
        self._segmenter = segmenter
        self._start: int | None = None
        """Start of the run that the next two fields describe."""
        self._due = 0
        """Position at which the next partial is due."""
        self._reached = 0
        """End of the speech in the previous partial."""
        self._speaking = False
        self._speech_end = 0

    def change(self) -> Change | None:
        """Return the change between speech and silence since the last call, if any."""
        run = self._segmenter.run
        if run is not None:
            self._speech_end = run.speech_end
        if (run is not None) == self._speaking:
            return None
        self._speaking = run is not None
        return Change(run.speech_start if run else self._speech_end, self._speaking)

    def partial(self) -> Piece | None:
        """Return the unfinished piece up to now, if a partial is due."""
        run = self._segmenter.run
        if run is None or not self._every:
            return None
        if run.start != self._start:
            self._start, self._due, self._reached = run.start, run.speech_start + self._after, 0
        if not self._is_due(run):
            return None
        for piece in self._segmenter.so_far():
            self._due, self._reached = self._segmenter.position + self._every, run.speech_end
            return piece
        return None

    def _is_due(self, run: Run) -> bool:
        position = self._segmenter.position
        pauses = 0 < self._pause <= position - run.speech_end
        return run.speech_end > self._reached and (position >= self._due or pauses)
