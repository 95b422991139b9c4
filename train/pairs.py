"""Made-up utterances: clips of held-out speakers with words that somebody else wrote.

No corpus here has freely worded speech with labels. A clip is paired with a sentence of its own
label or, as often, with a neutral one: people rarely say what they feel. What a combiner gains on
such pairs bounds what it gains on real talk, and says little more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from abhinaya.models.base import Utterance, Voter
from abhinaya.models.compact.heard import Measured, heard_of
from abhinaya.train.compact_recordings import Recordings
from abhinaya.train.compact_text import divide
from abhinaya.train.data.clips import Clip, DataError, read_clips
from abhinaya.train.data.manifest import Manifest, write_manifest
from abhinaya.train.data.texts import Sentence, read_emorynlp, read_goemotions
from abhinaya.train.data.word_errors import with_errors
from abhinaya.train.predict import Answer, write_predictions
from abhinaya.train.splits import select
from abhinaya.train.text_batches import common_words

Part = Literal["tune", "dev"]
CORPORA: Final = ("ravdess", "nemo")
HEARD_S: Final = 20
"""Of the speaker before each clip."""
WORD_ERRORS: Final = 0.2
NEUTRAL_WORDS: Final = 0.5
"""Share of clips that get neutral words whatever their label."""
SPLIT: Final[Mapping[str, str]] = {"tune": "test", "dev": "dev"}
"""What the manifest calls a part: no voter was trained on the speakers of either."""


@dataclass(frozen=True)
class Pair:
    """A clip with its words."""

    clip: Clip
    utterance: Utterance


def make_pairs(data: Path, part: Part, seed: int = 0) -> list[Pair]:
    """Pair every clip of one part of RAVDESS and nEMO with a sentence of the same part.

    Raises:
        DataError: a corpus is missing, or has no sentence of some label.

    """
    clips = select(read_clips(data, list(CORPORA)), part)
    rng = np.random.default_rng(seed)
    fitted, by_label = _sentences(data, part)
    words = common_words(fitted)
    pairs = []
    for clip, heard in zip(clips, Recordings(clips).after(HEARD_S, seed), strict=True):
        said = "neutral" if rng.random() < NEUTRAL_WORDS else str(clip.label)
        if not by_label.get(said):
            raise DataError(f"no sentence of {part} is {said!r}: the text corpora are too small")
        text = by_label[said][int(rng.integers(len(by_label[said])))]
        text = with_errors(text, WORD_ERRORS, words, rng)
        told = replace(clip, split=SPLIT[part], transcript=text, transcript_source="")
        pairs.append(Pair(told, Measured(heard.samples, heard=heard_of(heard), transcript=text)))
    return pairs


def _sentences(data: Path, part: Part) -> tuple[list[Sentence], dict[str, list[str]]]:
    """Sentences that text voters learnt from, and texts of `part` with one label, by label."""
    both = read_goemotions(data, "train") + read_emorynlp(data, "train")
    fitted, tuning = divide(both)
    chosen = tuning if part == "tune" else read_goemotions(data, "dev")
    by_label: dict[str, list[str]] = {}
    for sentence in chosen:
        if len(sentence.labels) == 1:
            by_label.setdefault(sentence.labels[0], []).append(sentence.text)
    return fitted, by_label


def write_pairs(
    folder: Path,
    pairs: Sequence[Pair],
    voters: Mapping[str, Voter],
    say: Callable[[str], None] = print,
) -> None:
    """Write `folder`/manifest.jsonl and what each voter says of the pairs, `folder`/VOTER.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder / "manifest.jsonl", Manifest(Path("/"), tuple(p.clip for p in pairs)))
    for name, voter in voters.items():
        answers = (Answer(p.clip, voter.vote([p.utterance])[0]) for p in pairs)
        gone = write_predictions(folder / f"{name}.csv", voter.card, answers)
        say(f"{folder / name}.csv: {len(pairs) - gone.total()} answers to {len(pairs)} pairs")
