"""What a model is taught, derived from the votes, and in which order it sees the clips.

N clips, C classes. Every function is pure; those that draw take the generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.train.data.clips import ATTRIBUTES, Clip, DataError
from abhinaya.train.metrics import Indices


def attributes(clips: Sequence[Clip]) -> FloatArray:
    """Arousal, valence, dominance [N, 3] in 0 to 1; NaN where the corpus gives none."""
    missing = float("nan")
    rows = [[clip.attributes.get(name, missing) for name in ATTRIBUTES] for clip in clips]
    return np.array(rows, np.float32).reshape(len(clips), len(ATTRIBUTES))


def drop_votes(
    votes: Mapping[str, float], share: float, rng: np.random.Generator
) -> dict[str, float]:
    """Forget each vote for the leading label with probability `share`; one vote always stays.

    SAIL's regularisation: what one annotator less would have said is as true. Labels that share
    the lead are all thinned; a fraction of a vote is never dropped.
    """
    most = max(votes.values(), default=0.0)
    kept = {
        label: count - rng.binomial(int(count), share) if count == most else count
        for label, count in votes.items()
    }
    if most > 0 and sum(kept.values()) <= 0:
        leader = next(label for label, count in votes.items() if count == most)
        kept[leader] = 1.0
    return {label: float(count) for label, count in kept.items() if count > 0}


def class_counts(labels: Indices, classes: Sequence[str] = LABELS) -> tuple[int, ...]:
    """Clips of each class, for the weights of a loss.

    Raises DataError: a class has no clip; it is named.
    """
    counts = tuple(int(np.sum(labels == c)) for c in range(len(classes)))
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise DataError(
            f"classes without a clip to train on: {', '.join(empty)}; add a corpus that has them, "
            "or leave them out of the labels"
        )
    return counts


def undersample(labels: Indices, cap: int, rng: np.random.Generator) -> Indices:
    """Rows of an epoch [<= N], shuffled: at most `cap` of each class, drawn anew each time.

    Rows without a label (-1) are left out.
    """
    chosen = [
        rng.permutation(np.flatnonzero(labels == c))[:cap] for c in np.unique(labels[labels >= 0])
    ]
    return rng.permutation(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def balanced_draw(labels: Indices, size: int, rng: np.random.Generator) -> Indices:
    """Rows [size], with replacement, every class that occurs as likely as another.

    Raises DataError: no row has a label.
    """
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise DataError("balanced sampling: no clip has a label; is this a hidden test set?")
    _, where, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    chance = 1.0 / counts[where]
    return rng.choice(known, size, p=chance / chance.sum())
