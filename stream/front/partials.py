"""Speech that is still going on: when somebody begins or ceases, and when a partial is due.

Pure, and an onlooker: whether it looks, and how often, changes nothing in what the segmenter
gives. A partial is due when someone has spoken for `provisional_after_s`, then every
`provisional_every_s`, but not before there is new speech in it; and at once when new speech is
followed by a silence of `provisional_pause_s`, which may turn out to be the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from abhinaya.stream.clock import to_samples
from abhinaya.stream.front.segmenter import Piece, Run, Segmenter
from abhinaya.stream.settings.config import VadConfig


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody begins or ceases to speak."""

    position: int
    """Where, in samples of the stream."""
    speaking: bool


class Ongoing:
    """Looks at one stream's segmenter; best after every frame, or after every few."""

    def __init__(self, config: VadConfig, segmenter: Segmenter) -> None:
        self._after = to_samples(config.provisional_after_s)
        self._every = to_samples(config.provisional_every_s)
        self._pause = to_samples(config.provisional_pause_s)
        self._segmenter = segmenter
        self._start: int | None = None
        """Of the run that the next two are about."""
        self._due = 0
        self._reached = 0
        """End of the speech in the partial before."""
        self._speaking = False
        self._speech_end = 0

    def change(self) -> Change | None:
        """Return whether somebody speaks, if that has changed."""
        run = self._segmenter.run
        if run is not None:
            self._speech_end = run.speech_end
        if (run is not None) == self._speaking:
            return None
        self._speaking = run is not None
        return Change(run.speech_start if run else self._speech_end, self._speaking)

    def partial(self) -> Piece | None:
        """Return the piece that is open, as far as it has come, if a partial is due."""
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
