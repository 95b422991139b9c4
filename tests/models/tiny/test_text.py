from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from abhinaya.models.base import Abstention, Ballot, Utterance
from abhinaya.models.errors import DamagedFileError, MissingFileError
from abhinaya.models.labels import LABELS
from abhinaya.models.registry import load
from abhinaya.models.tiny.text import NO_WORDS, TextTower, TinyText


def said(transcript: str, language: str = "") -> Utterance:
    return Utterance(np.zeros(0, np.float32), transcript=transcript, language=language)


@pytest.fixture(scope="module")
def voter() -> TinyText:
    return TinyText()


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("I am so happy, this is wonderful!", "happy"),
        ("I'm so sad, I miss her.", "sad"),
        ("This is disgusting.", "disgust"),
        ("The meeting is at three o'clock.", "neutral"),
    ],
)
def test_plain_words_are_understood(voter: TinyText, sentence: str, label: str) -> None:
    (answer,) = voter.vote([said(sentence)])
    assert isinstance(answer, Ballot)
    assert answer.label == label
    assert answer.probabilities is not None
    assert sum(answer.probabilities) == pytest.approx(1.0, abs=1e-5)
    assert answer.probabilities[LABELS.index("contempt")] == 0.0


@pytest.mark.parametrize("transcript", ["", "  ", "...", "?!"])
def test_without_words_it_abstains(voter: TinyText, transcript: str) -> None:
    assert voter.vote([said(transcript)]) == [NO_WORDS]


def test_words_of_another_language_are_not_guessed_at(voter: TinyText) -> None:
    german, english = voter.vote([said("ich freue mich", "de"), said("i am glad", "en")])
    assert isinstance(german, Abstention)
    assert german.reason == "reads English, not de: set asr.options.task=translate"
    assert isinstance(english, Ballot)


def test_what_else_is_in_the_batch_changes_nothing(voter: TinyText) -> None:
    texts = ["oh no", "", "what a lovely long day this was, and so on and so on", "go away"]
    together = voter.vote([said(text) for text in texts])
    assert len(together) == len(texts)
    for text, answer in zip(texts, together, strict=True):
        (alone,) = voter.vote([said(text)])
        assert type(answer) is type(alone)
        if isinstance(answer, Ballot) and isinstance(alone, Ballot):
            assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_the_card_says_what_it_is(voter: TinyText) -> None:
    assert voter.card.model == "tiny-text"
    assert voter.card.needs == {"transcript"}
    assert set(voter.card.labels) == set(LABELS) - {"contempt"}
    assert voter.card.licence == "Apache-2.0"
    assert not voter.card.noncommercial
    assert not voter.card.stateful


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"none\.onnx.*abhinaya train tiny-text"):
        load("tiny-text", {"weights": str(tmp_path / "none.onnx")})
    path = tmp_path / "text.onnx"
    path.write_bytes(b"not onnx")
    with pytest.raises(DamagedFileError, match="onnxruntime cannot load it"):
        TextTower(str(path))
