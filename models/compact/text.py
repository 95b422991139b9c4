"""The compact text voter: what was said, in under 5 MB and on one thread.

Two layers of a transformer (Devlin et al., 2019) over word pieces, kept in 8 bits:
`abhinaya.train.text_tower.TextTower`. They began as the first of a pre-trained encoder, and learnt
the 28 labels of GoEmotions half from people and half from the whole encoder, which had learnt them
before. Their scores are brought together under our labels.
"""

from __future__ import annotations

from collections.abc import Sequence

from abhinaya.models.base import Abstention, Ballot, Card, Utterance, ballot
from abhinaya.models.tiny.tokens import normalise_text
from abhinaya.models.compact.weights_file import load_weights

NO_WORDS = Abstention("no words recognised")


class CompactText:
    """Votes by the words alone. Takes `transcript`; has no class for contempt."""

    def __init__(self, weights: str | None = None) -> None:
        """`weights`: path of another ONNX file of this model; its card lies beside it."""
        self._weights = load_weights("compact-text", frozenset({"transcript"}), weights)
        self._pieces = self._weights.word_pieces()

    @property
    def card(self) -> Card:
        """What the model is."""
        return self._weights.card

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        """Give one answer for each utterance; one without words abstains."""
        texts = [normalise_text(utterance.transcript) for utterance in batch]
        found = {b: text for b, text in enumerate(texts) if text}
        if not found:
            return [NO_WORDS] * len(texts)
        ids, mask = self._pieces.encode(list(found.values()))
        rows = self._weights.probabilities({"pieces": ids, "piece_mask": mask})
        ballots = dict(zip(found, map(ballot, rows), strict=True))
        return [ballots.get(b, NO_WORDS) for b in range(len(texts))]
