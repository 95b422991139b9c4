"""The compact joint voter: how and what was said, weighed against each other.

Towers like those of `compact-speech` and `compact-text`, but smaller, the speech one of another
seed. Joined late: what the words say counts as the log of a mixture, in which they are neutral in
half of the cases whatever the voice, and both are scaled on held-out speakers paired with held-out
sentences by label (`abhinaya.train.export.Fusion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import Abstention, Ballot, Card, Utterance, ballot
from abhinaya.models.compact.listen import Listened, listen, speech_feeds
from abhinaya.models.tiny.tokens import normalise_text
from abhinaya.models.compact.weights_file import load_weights


class CompactJoint:
    """Votes by sound and words together; by the sound alone where no words were recognised."""

    def __init__(self, weights: str | None = None) -> None:
        """`weights`: path of another ONNX file of this model; its card lies beside it."""
        self._weights = load_weights("compact-joint", frozenset({"audio", "transcript"}), weights)
        self._pieces = self._weights.word_pieces()

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
        rows = self._weights.probabilities(
            self._feeds(list(audible.values()), [batch[b].transcript for b in audible])
        )
        ballots = dict(zip(audible, map(ballot, rows), strict=True))
        return [h if isinstance(h, Abstention) else ballots[b] for b, h in enumerate(heard)]

    def _feeds(
        self, heard: Sequence[Listened], transcripts: Sequence[str]
    ) -> dict[str, npt.NDArray[Any]]:
        texts = [normalise_text(transcript) for transcript in transcripts]
        ids, piece_mask = self._pieces.encode(texts)
        return {
            **speech_feeds(heard),
            "pieces": ids,
            "piece_mask": piece_mask,
            "worded": np.array([float(bool(text)) for text in texts], np.float32),
        }
