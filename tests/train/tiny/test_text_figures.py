from __future__ import annotations

from collections.abc import Sequence

import pytest

from abhinaya.models.base import Abstention, Ballot, Card, Utterance
from abhinaya.models.labels import LABELS
from abhinaya.train.data.clips import Clip
from abhinaya.train.eval.tables import scored
from abhinaya.train.tiny.text_figures import ERROR_DRAWS, ask, with_word_errors


class Whole:
    """Knows every sentence that is whole, and says neutral to any other."""

    card = Card("whole", "1", frozenset({"transcript"}), LABELS, "Apache-2.0")

    def __init__(self, sentences: Sequence[Clip]) -> None:
        self._known = {clip.transcript: str(clip.label) for clip in sentences}
        self.asked = 0

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        self.asked += len(batch)
        return [
            Ballot(self._known.get(utterance.transcript or "", "neutral")) for utterance in batch
        ]


def test_what_word_errors_cost_is_a_mean_over_draws() -> None:
    # of ten words each, so that .8 ** 10 = .107 of the sentences stay whole
    texts = [" ".join([f"w{n}"] * 10) for n in range(400)]
    sentences = [
        Clip(f"{n}", "made up", votes={"happy" if n % 2 else "neutral": 1.0}, transcript=text)
        for n, text in enumerate(texts)
    ]
    voter = Whole(sentences)
    on = scored(sentences)
    found = with_word_errors(voter, on, ask(voter, on, texts), ["other"])
    assert voter.asked == len(sentences) * (1 + ERROR_DRAWS)
    assert found["n"] == len(sentences)
    kept = 0.8**10  # recall of happy; neutral is always found, and precise in 1 / (2 - kept)
    happy, neutral = 2 * kept / (1 + kept), 2 / (3 - kept)
    assert found["macro_f1"] == pytest.approx((happy + neutral) / 2, abs=0.03)
    assert found["lost"] == pytest.approx(1.0 - found["macro_f1"], abs=0.002)
    low, high = found["lost_interval"]
    assert low < found["lost"] < high
    assert found["accuracy"] == pytest.approx((1 + kept) / 2, abs=0.02)
