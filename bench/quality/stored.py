"""Writes the votes of a run as `abhinaya eval` and `abhinaya bench cascade` read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from abhinaya.bench.quality.offline import Answer
from abhinaya.models.base import Card
from abhinaya.stream.errors import SinkError
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, write_manifest
from abhinaya.train.eval.predict import Answer as Written
from abhinaya.train.eval.predict import write_predictions

MANIFEST = "clips.jsonl"


def write(
    folder: Path, by_material: Mapping[str, Sequence[Answer]], cards: Mapping[str, Card]
) -> str:
    """Write `clips.jsonl` and a CSV a voter; return their costs, as flags of `bench cascade`.

    Segments without a truth are left out. Raises SinkError: the folder cannot be written.
    """
    labelled = {
        f"{material}/{i}": answer
        for material, answers in by_material.items()
        for i, answer in enumerate(answers)
        if answer.truth
    }
    clips = tuple(
        Clip(key, answer.material, answer.speaker, {answer.truth: 1.0}, transcript=answer.text)
        for key, answer in labelled.items()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_manifest(folder / MANIFEST, Manifest(folder, clips))
        for name, card in cards.items():
            written = {key: _written(key, answer, name) for key, answer in labelled.items()}
            write_predictions(folder / f"{name}.csv", card, clips, written)
    except OSError as error:
        raise SinkError(
            f"--write {folder}", str(error.strerror), "choose another folder"
        ) from error
    times = {name: [a.cpu_s[name] for a in labelled.values() if name in a.cpu_s] for name in cards}
    return " ".join(f"--cost {name}={1000 * mean(of):.1f}" for name, of in times.items() if of)


def _written(key: str, answer: Answer, voter: str) -> Written:
    ballot = answer.ballots.get(voter)
    if ballot is None:
        return Written(key, reason="no vote")
    return Written(key, ballot.label, ballot.probabilities)
