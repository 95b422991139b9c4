"""The compact speech voter: how it was said, in under 5 MB and on one thread.

Networks that look at three things, their scores averaged: frames by the measure of what the stream
has heard (`measure.py`), through four convolutions over time and frequency, two over the pitch, two
over time and attentive statistics pooling (Okabe et al., 2018); the utterance's functionals by the
same measure (`manner.py`) through two layers; and how far these are from the voice's habits, which
counts as far as the habits are known. The networks are in `abhinaya.train.towers`.
"""

from __future__ import annotations

from collections.abc import Sequence

from abhinaya.models.base import Abstention, Ballot, Card, Utterance, ballot
from abhinaya.models.compact.listen import listen, speech_feeds
from abhinaya.models.compact.weights_file import load_weights


class CompactSpeech:
    """Votes by the sound alone. Takes `audio`."""

    def __init__(self, weights: str | None = None) -> None:
        """`weights`: path of another ONNX file of this model; its card lies beside it."""
        self._weights = load_weights("compact-speech", frozenset({"audio"}), weights)

    @property
    def card(self) -> Card:
        """What the model is."""
        return self._weights.card

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        """Give one answer for each utterance; too short, silent or broken audio abstains."""
        heard = [listen(utterance) for utterance in batch]
        audible = {b: h for b, h in enumerate(heard) if not isinstance(h, Abstention)}
        if not audible:
            return [h for h in heard if isinstance(h, Abstention)]
        rows = self._weights.probabilities(speech_feeds(list(audible.values())))
        ballots = dict(zip(audible, map(ballot, rows), strict=True))
        return [h if isinstance(h, Abstention) else ballots[b] for b, h in enumerate(heard)]
