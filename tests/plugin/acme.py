"""What another package may add: voters, a transcriber, a source and an output format."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from abhinaya.models.asr.base import Hearing, Transcription
from abhinaya.models.base import Abstention, Ballot, Card, ballot
from abhinaya.models.labels import LABELS
from abhinaya.stream.sources.base import AudioChunk, InputConfig, Opened

RATE = 16_000


def card(model, labels=LABELS):
    return Card(model=model, version="1", needs=frozenset({"audio"}), labels=labels, licence="MIT")


class Loudness:
    """Says angry of what is louder than `limit`, else neutral."""

    def __init__(self, limit: float = 0.1):
        self.limit = limit
        self.card = card("loudness")

    def vote(self, batch) -> list[Ballot | Abstention]:
        loud = [float(np.abs(each.samples).max()) > self.limit for each in batch]
        sure = {True: LABELS.index("angry"), False: LABELS.index("neutral")}
        return [ballot(np.eye(len(LABELS))[sure[each]] * 0.9 + 0.0125) for each in loud]


class Moods(Loudness):
    """Says what Loudness says, and how strongly: arousal by loudness, the rest in the middle."""

    def __init__(self):
        super().__init__()
        self.card = replace(card("moods"), attributes=True)

    def vote(self, batch) -> list[Ballot | Abstention]:
        loud = [1 + 6 * float(np.abs(each.samples).max()) for each in batch]
        pairs = zip(super().vote(batch), loud, strict=True)
        return [replace(said, attributes=(arousal, 4.0, 4.0)) for said, arousal in pairs]


class Rates:
    """Gives only attributes: no label."""

    def __init__(self):
        self.card = replace(card("rates", ()), attributes=True)

    def vote(self, batch) -> list[Ballot | Abstention]:
        return [Ballot(attributes=(1.0, 4.0, 7.0)) for _ in batch]


class Wild(Rates):
    """Returns invalid values, except in its trial, which takes a second."""

    def vote(self, batch) -> list[Ballot | Abstention]:
        odd = (float("nan"), 8.0, -1.0)
        sane = [len(each.samples) <= RATE for each in batch]
        return [Ballot(attributes=(1.0, 2.0, 3.0) if each else odd) for each in sane]


class Turns:
    """Says neutral, and angry as long as a file exists: a model that goes wrong while it runs."""

    def __init__(self, file: str):
        self.file = Path(file)
        self.card = card("turns")

    def vote(self, batch) -> list[Ballot | Abstention]:
        label = "angry" if self.file.exists() else "neutral"
        return [ballot(np.eye(len(LABELS))[LABELS.index(label)]) for _ in batch]


class Lost(Loudness):
    """Raises at every segment."""

    def vote(self, batch):
        raise RuntimeError("acme's server is away")


class Strange(Loudness):
    """Announces a label that is not one of the eight."""

    def __init__(self):
        super().__init__()
        self.card = card("strange", ("angry", "bored"))


class Lengths:
    """Writes how long each segment is."""

    model, version, licence, noncommercial = "lengths", "1", "MIT", False
    context_turns, stateful, incremental = 0, False, False

    def transcribe(self, batch: list[Hearing]) -> list[Transcription]:
        return [Transcription(text=f"{len(each.samples) / RATE:.1f} seconds") for each in batch]

    def forget(self, stream: str, sequence: int) -> None:
        pass


def open_tone(config: InputConfig, warn) -> Opened:
    """Open tone://NAME: speech of the package `acme`, here the demo's first words."""
    from abhinaya.bench.demo import CALL
    from abhinaya.stream.sources.opening import open_source

    warn(f"{config.what}: plays four seconds")
    source = open_source(InputConfig(str(CALL)))
    samples = np.concatenate([chunk.samples for chunk in source.chunks()])[: 4 * RATE]
    return Opened(
        channels=1,
        live=False,
        description="tone",
        start_unix_s=time.time(),
        audio=iter([AudioChunk(samples, time.time())]),
    )


class Tally:
    """Counts the labels of a run: one line a label."""

    def __init__(self, path: Path):
        self.path, self.counts = path, Counter()

    def put(self, values, now_unix_s):
        if values["type"] == "verdict" and values["final"]:
            self.counts[values["label"]] += 1

    def close(self):
        lines = [f"{label} {count}\n" for label, count in self.counts.items()]
        self.path.write_text("".join(lines))
