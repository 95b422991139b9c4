"""Temperature: what turns scores into probabilities people may act on.

It is fitted on speakers held out of the training split (`train.splits`), never on dev.
"""

from __future__ import annotations

import numpy as np
import torch

from abhinaya.models.base import FloatArray
from abhinaya.train.metrics import Indices


def fit_temperature(logits: FloatArray, truth: Indices, weights: FloatArray | None = None) -> float:
    """Temperature that minimises the negative log-likelihood (Guo et al., 2017). Divide by it.

    `weights` [N], all 1 unless given, say how much each item counts.
    """
    scores, labels = torch.as_tensor(logits), torch.as_tensor(truth)
    counts = torch.ones(len(truth)) if weights is None else torch.as_tensor(weights)
    grid = np.exp(np.linspace(np.log(0.3), np.log(6.0), 121))
    losses = [
        float(
            (
                torch.nn.functional.cross_entropy(scores / float(t), labels, reduction="none")
                * counts
            ).sum()
        )
        for t in grid
    ]
    return float(grid[int(np.argmin(losses))])
