"""How good a model is on the clips it is judged by, and which of its figures decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from abhinaya.train.data.clips import ATTRIBUTES
from abhinaya.train.loop.losses import ccc
from abhinaya.train.loop.objective import Objective, bounded
from abhinaya.train.metrics import macro_f1, unweighted_recall


@dataclass(frozen=True, slots=True)
class Figures:
    """What one validation found."""

    score: float
    """The larger the better: macro-F1 of labels, else the mean concordance of attributes."""
    values: Mapping[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4f}" for name, value in self.values.items())


def judge(
    scores: Tensor, shares: Tensor, attributes: Tensor, objective: Objective, classes: int
) -> Figures:
    """Judge scores [N, K] of N clips by their labels [N, C] and attributes [N, 3].

    F1 is averaged over the classes that occur; clips whose attributes are unknown are left out.
    """
    values: dict[str, float] = {"loss": float(objective(scores, shares, attributes))}
    known = attributes.isfinite().all(dim=1)
    if scores.shape[1] > classes and int(known.sum()) > 1:
        given = bounded(scores[:, classes:])[known]
        for k, name in enumerate(ATTRIBUTES):
            values[f"ccc_{name}"] = float(ccc(given[:, k], attributes[known, k]))
    of_attributes = [value for name, value in values.items() if name.startswith("ccc_")]
    score = float(np.mean(of_attributes)) if of_attributes else 0.0
    if classes:
        truth, guess = shares.argmax(dim=1).numpy(), scores[:, :classes].argmax(dim=1).numpy()
        there = sorted(set(truth.tolist()))
        score = macro_f1(truth, guess, there)
        values |= {"macro_f1": score, "uar": unweighted_recall(truth, guess, there)}
    return Figures(score, values)
