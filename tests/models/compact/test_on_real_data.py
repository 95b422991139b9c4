"""The bundled voters on people and sentences that they never met. Needs ../shared/data."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from abhinaya.models.base import Ballot, Utterance
from abhinaya.models.compact.heard import Measured
from abhinaya.models.compact.running import SpeechStatistics
from abhinaya.models.registry import load
from abhinaya.train.data.readers import read_readers

DATA = Path(__file__).parents[4] / "shared" / "data"

pytestmark = pytest.mark.skipif(
    not (DATA / "speech.csv").is_file(), reason=f"the development data is not at {DATA}"
)


def read(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=16_000)
        pieces = [
            piece.to_ndarray()[0]
            for frame in container.decode(audio=0)
            for piece in resampler.resample(frame)
        ]
    return np.concatenate(pieces)


def heard_in_turn(rows: list[dict[str, str]]) -> list[Utterance]:
    """Clips of one speaker as one stream."""
    statistics, utterances = SpeechStatistics(), []
    for row in rows:
        samples = read(DATA / row["path"])
        statistics.update(samples)
        utterances.append(Measured(samples, heard=statistics.heard()))
    return utterances


@pytest.mark.parametrize("name", ["compact-speech", "compact-joint"])
def test_unseen_actors_are_heard_clearly_above_chance(name: str) -> None:
    with (DATA / "speech.csv").open(newline="") as lines:
        dev = [
            row
            for row in csv.DictReader(lines)
            if row["corpus"] == "ravdess" and row["suggested_split"] == "dev"
        ]
    right = []
    for speaker in ("ravdess_17", "ravdess_18"):
        rows = [row for row in dev if row["speaker"] == speaker]
        np.random.default_rng(0).shuffle(rows)  # type: ignore[arg-type]
        answers = load(name).vote(heard_in_turn(rows))
        right += [
            isinstance(answer, Ballot) and answer.label == row["label8"]
            for answer, row in zip(answers, rows, strict=True)
        ]
    assert np.mean(right) > 0.4  # chance is 0.14, always neutral is 0.2


def test_strangers_who_read_are_called_neutral() -> None:
    """Of the readers that nothing was learnt from, 15 % may be called otherwise."""
    voter = load("compact-speech")
    labels = []
    for clip in read_readers(DATA, "dev")[::2]:
        (answer,) = voter.vote([Utterance(read(Path(clip.path)))])
        labels.append(answer.label if isinstance(answer, Ballot) else "")
    assert len(labels) > 50
    assert np.mean([label != "neutral" for label in labels]) <= 0.15


def test_unseen_comments_are_read_clearly_above_chance() -> None:
    names = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    folder = DATA / "text" / "goemotions"
    lines = [line.split("\t") for line in (folder / "ekman_dev.tsv").read_text().splitlines()]
    clear = [(text, names[int(label)]) for text, label, _ in lines if "," not in label]
    recalls = []
    voter = load("compact-text")
    for name in names:
        texts = [text for text, label in clear if label == name][:60]
        answers = voter.vote([Utterance(np.zeros(0, np.float32), None, t) for t in texts])
        recalls.append(np.mean([isinstance(a, Ballot) and a.label == name for a in answers]))
    assert np.mean(recalls) > 0.4  # chance is 0.14
