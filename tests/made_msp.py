"""A made-up MSP-Podcast in its real layout: tones for voices, three words for transcripts.

As in the challenge of 2025, the clips of the hidden test have audio, but no row in the labels.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from trainer_fakes import write_wav

from abhinaya.models.labels import LABELS
from abhinaya.train.data.clips import ATTRIBUTES
from abhinaya.train.data.read_msp import ATTRIBUTES as COLUMNS
from abhinaya.train.data.read_msp import CONSENSUS

LETTERS: Final = {label: letter for letter, label in CONSENSUS.items()}
PARTITIONS: Final = ("Train", "Development", "Test1", "Test2")
RATE: Final = 16_000


def make_msp(
    folder: Path,
    clips_of_a_class: int | Mapping[str, int] = 2,
    labels: Sequence[str] = LABELS,
    hidden: int = 8,
    torn: int = 1,
    silent: int = 0,
    seconds: tuple[float, float] = (0.45, 0.8),
    seed: int = 0,
) -> Path:
    """Write the corpus into `folder` and return it.

    `clips_of_a_class` of each label in each of PARTITIONS, or by partition; `hidden` clips of test3
    without labels; `torn` clips a partition without agreement (X) and as many `other` (O); the
    first `silent` clips of each label and partition have an empty transcript.
    """
    rng = np.random.default_rng(seed)
    number = itertools.count(1)
    consensus: list[list[object]] = []
    detailed: list[list[object]] = []
    for place, split in enumerate(PARTITIONS):
        of = clips_of_a_class
        takes = of if isinstance(of, int) else of.get(split, 0)
        wanted = [(label, take) for take in range(takes) for label in labels]
        wanted += [(label, -1) for _ in range(torn) for label in ("X", "other")]
        for label, take in wanted:
            name = f"MSP-PODCAST_{next(number):04}_0001.wav"
            c = LABELS.index(label) if label in LABELS else 0
            _audio(folder, name, c, seconds, rng)
            words = "" if 0 <= take < silent else f"it is {label} now"
            _text(folder, name, words)
            values = [1 + 6 * c / 7, 7 - 6 * c / 7, 1 + 3 * (c % 3)]
            speaker, gender = 10 * place + max(take, 0) % 5, ("Male", "Female")[max(take, 0) % 2]
            code = LETTERS.get(label, label)
            consensus.append([name, code, *values, speaker, gender, split])
            for worker, vote in enumerate(_votes(label, c)):
                second = f"{vote},Concerned" if vote in ("Sad", "Fear") else vote
                detailed.append([name, f"W{worker}", vote, second, *values])
    for k in range(hidden):
        name = f"MSP-PODCAST_test3_{k + 1:04}.wav"
        _audio(folder, name, k % len(LABELS), seconds, rng)
        _text(folder, name, f"it is {LABELS[k % len(LABELS)]} now")
    codes = [COLUMNS[name] for name in ATTRIBUTES]
    people = ["SpkrID", "Gender", "Split_Set"]
    _table(
        folder / "Labels/labels_consensus.csv", ["FileName", "EmoClass", *codes, *people], consensus
    )
    votes = ["FileName", "Worker", "EmoClass_Major", "EmoClass_Second", *codes]
    _table(folder / "Labels/labels_detailed.csv", votes, detailed)
    return folder


def _votes(label: str, c: int) -> list[str]:
    """Return what five workers said."""
    if label == "X":
        return ["Happy", "Happy", "Sad", "Sad", "Neutral"]
    if label == "other":
        return ["Other-annoyed"] * 4 + ["Neutral"]
    return [label.capitalize()] * 4 + [LABELS[(c + 1) % len(LABELS)].capitalize()]


def _audio(
    folder: Path, name: str, c: int, seconds: tuple[float, float], rng: np.random.Generator
) -> None:
    t = np.arange(int(RATE * rng.uniform(*seconds))) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 150 * (c + 1) * t)
    write_wav(folder / "Audios" / name, tone + 0.01 * rng.standard_normal(len(t)), RATE)


def _text(folder: Path, name: str, words: str) -> None:
    path = folder / "Transcripts" / f"{Path(name).stem}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{words}\n", "utf-8")


def _table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerows([columns, *rows])
