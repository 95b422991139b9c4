"""How sure a figure is: resampling what it was measured on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from abhinaya.train.metrics import Indices

RESAMPLES = 1_000


def macro_f1_interval(
    truth: Indices, guess: Indices, classes: Sequence[int], seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of macro-F1 over items, each class keeping its size.

    It tells how the figure would vary over other clips of the same speakers. With two speakers in
    a set, nothing can tell how it varies over speakers: that is more.
    """
    rng = np.random.default_rng(seed)
    width = max(*classes, int(truth.max()), int(guess.max())) + 2  # -1, an abstention, is 0
    members = [np.flatnonzero(truth == c) for c in sorted(set(truth.tolist()))]
    codes = (truth + 1) * width + guess + 1
    found = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([codes[rng.choice(of, len(of))] for of in members])
        table = np.bincount(drawn, minlength=width**2).reshape(width, width)
        both = table.sum(axis=0) + table.sum(axis=1)
        f1 = 2.0 * np.diag(table) / np.maximum(both, 1)
        found.append(float(np.mean([f1[c + 1] for c in classes])))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
