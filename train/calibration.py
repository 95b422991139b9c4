"""Temperature and neutral bias: what turns scores into probabilities people may act on.

Fitted on speakers held out of the training split (`train.splits`), never on dev.
"""

from __future__ import annotations

import numpy as np
import torch

from abhinaya.models.base import FloatArray
from abhinaya.train.metrics import Indices


def fit_temperature(logits: FloatArray, truth: Indices) -> float:
    """Temperature that minimises the negative log-likelihood (Guo et al., 2017). Divide by it."""
    scores, labels = torch.as_tensor(logits), torch.as_tensor(truth)
    grid = np.exp(np.linspace(np.log(0.3), np.log(6.0), 121))
    losses = [float(torch.nn.functional.cross_entropy(scores / float(t), labels)) for t in grid]
    return float(grid[int(np.argmin(losses))])


def fit_neutral_bias(
    logits: FloatArray, truth: Indices, neutral: int, false_alarms: float
) -> float:
    """Smallest addition to the neutral logit that brings false alarms down to the wanted share.

    False alarms: items that are neutral and are labelled otherwise.
    """
    ours = logits[truth == neutral]
    others = np.delete(ours, neutral, axis=1).max(axis=1)
    margins = np.sort(others - ours[:, neutral])  # bias needed to make each item neutral
    allowed = int(np.floor(false_alarms * len(margins)))
    return max(0.0, float(margins[len(margins) - 1 - allowed]) + 1e-3)
