"""The compact speech voter: how it was said, in under 5 MB and on one thread.

Log-mel energies, normalised by what the stream has heard; four convolutions over time and
frequency and two over time; attentive statistics pooling (Okabe et al., 2018). The network is
`abhinaya.train.towers.SpeechTower`.
"""

from __future__ import annotations

from collections.abc import Sequence

from abhinaya.models.base import Abstention, Ballot, Card, Utterance, ballot
from abhinaya.models.compact.listen import listen, pad
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
        features = {b: h for b, h in enumerate(heard) if not isinstance(h, Abstention)}
        if not features:
            return [h for h in heard if isinstance(h, Abstention)]
        padded, mask = pad(list(features.values()))
        rows = self._weights.probabilities({"features": padded, "mask": mask})
        ballots = dict(zip(features, map(ballot, rows), strict=True))
        return [h if isinstance(h, Abstention) else ballots[b] for b, h in enumerate(heard)]
