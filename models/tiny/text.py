"""T2 of the embedded profile: votes on the words, in under 5 MB and on one thread.

The network has two transformer layers (Devlin et al., 2019) over word pieces, with 8-bit weights.
They were initialised from a pre-trained encoder and trained on the 28 labels of GoEmotions, with
targets from people and from the full encoder. A label of ours sums some of the 28; ST1 reads all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import onnxruntime

from abhinaya.models.base import Abstention, Ballot, Card, FloatArray, Utterance, ballot
from abhinaya.models.errors import DamagedFileError
from abhinaya.models.tiny import metadata
from abhinaya.models.tiny.head import softmax
from abhinaya.models.tiny.tokens import WordPieces, normalise_text

NAME: Final = "tiny-text"
NO_WORDS: Final = Abstention("no words recognised")
LANGUAGE: Final = "en"


class TextTower:
    """The network, from texts to scores of labels.

    Raises:
        MissingFileError: the file does not exist.
        DamagedFileError: the file is not an ONNX file of this model.

    """

    def __init__(self, weights: str | None = None) -> None:
        path = metadata.find(NAME, ".onnx", weights)
        remedy = metadata.REMEDY.format(name=NAME)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base class
            raise DamagedFileError(path, f"onnxruntime cannot load it: {error}", remedy) from error
        self.metadata = metadata.read(path, NAME, self._session.get_modelmeta().custom_metadata_map)
        try:
            self._pieces = WordPieces(self.metadata.settings["vocabulary"])
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(path, f"has no word pieces: {error!r}", remedy) from error

    def read(self, texts: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Return scores [B, C'] of our labels and [B, 28] of GoEmotions'; no text may be empty."""
        pieces, mask = self._pieces.encode([normalise_text(text) for text in texts])
        labels, fine = self._session.run(["logits", "fine"], {"pieces": pieces, "piece_mask": mask})
        return labels, fine


@cache
def shared() -> TextTower:
    """Return the packaged network; all callers in this process share it."""
    return TextTower()


def unreadable(utterance: Utterance) -> Abstention | None:
    """Return the abstention for an utterance without English words; None if there are any."""
    if not normalise_text(utterance.transcript):
        return NO_WORDS
    if utterance.language not in ("", LANGUAGE):
        return Abstention(
            f"reads English, not {utterance.language}: set asr.options.task=translate"
        )
    return None


class TinyText:
    """Votes on the `transcript` alone. It cannot vote for contempt.

    Args:
        weights: path of another ONNX file of this model; its card must be next to it.

    """

    def __init__(self, weights: str | None = None) -> None:
        self._tower = shared() if weights is None else TextTower(weights)

    @property
    def card(self) -> Card:
        """What the model is."""
        return self._tower.metadata.card(frozenset({"transcript"}))

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        """Return one answer for each utterance; an abstention if it has no English words."""
        answers: list[Ballot | Abstention | None] = [unreadable(utterance) for utterance in batch]
        readable = [i for i, answer in enumerate(answers) if answer is None]
        if readable:
            scores, _ = self._tower.read([batch[i].transcript for i in readable])
            rows = self._tower.metadata.spread(softmax(scores))
            for i, row in zip(readable, rows, strict=True):
                answers[i] = ballot(row)
        return [answer for answer in answers if answer is not None]
