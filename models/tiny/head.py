"""The trained part of S1 and ST1, in NumPy: attentive statistics pooling over the encoder's levels.

The paper's S1 uses attentive statistics pooling (Okabe et al., Interspeech 2018). A second, plain
linear head uses means and spreads of all frames. It is worse on voices like those in training and
better on other voices; the mean of both heads is better than either (train/LOG.md).
`abhinaya.train.tiny.network` has the same networks in torch; a test compares the two.

Shapes: T frames, X = L * D features of a frame, P projected features, H hidden, W word
features, C' classes of the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray

SMALL_VARIANCE: Final = 1e-3
"""Added to the variance of projected features before the square root."""
SMALL_SPREAD: Final = 1e-2
"""Added to the variance of the levels before the logarithm."""
PLAIN_SHARE: Final = 0.65
"""Weight of the plain heads. A higher weight helps with voices unlike those in training."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """One network, attentive or plain. Weights are [out, in], as in torch."""

    weights: Mapping[str, FloatArray]

    @property
    def attentive(self) -> bool:
        """Whether frames are weighted by attention; a plain head weights all frames equally."""
        return "attention.weight" in self.weights

    def scores(self, frames: FloatArray, words: FloatArray | None = None) -> FloatArray:
        """Return logits [C'] of normalised frames [T, X] and, for ST1, word features [W]."""
        pooled = self._attended(frames) if self.attentive else _plain(frames)
        given = pooled if words is None else np.concatenate([pooled, words])
        if self.attentive:
            given = _gelu(self._linear("hidden", given))
        scores: FloatArray = self._linear("out", given)
        return scores

    def _attended(self, frames: FloatArray) -> FloatArray:
        """Return attention-weighted means and spreads [2 P + 2 X]."""
        projected = np.tanh(self._linear("frame", frames))
        scores = self._linear("attention", projected)[:, 0]
        share = np.exp(scores - scores.max())
        share /= share.sum()
        mean, spread = _statistics(share, projected)
        parts = [mean, np.sqrt(spread + SMALL_VARIANCE), *_of_levels(share, frames)]
        return np.concatenate(parts).astype(np.float32)

    def _linear(self, name: str, x: FloatArray) -> FloatArray:
        out: FloatArray = x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return out


def combined_scores(
    heads: Sequence[Head], frames: FloatArray, words: FloatArray | None
) -> FloatArray:
    """Return the mean logits [C'] of each kind of head, weighted with PLAIN_SHARE."""
    found = np.zeros(1, np.float32)
    shares = {True: 1.0 - PLAIN_SHARE, False: PLAIN_SHARE}
    kinds = {kind: [head for head in heads if head.attentive is kind] for kind in shares}
    total = sum(shares[kind] for kind in shares if kinds[kind])
    for kind, those in kinds.items():
        for head in those:
            found = found + shares[kind] / total / len(those) * head.scores(frames, words)
    return found.astype(np.float32)


def _plain(frames: FloatArray) -> FloatArray:
    share = np.full(len(frames), 1.0 / len(frames), np.float32)
    return np.concatenate(_of_levels(share, frames)).astype(np.float32)


def _of_levels(share: FloatArray, frames: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean, spread = _statistics(share, frames)
    return mean, 0.5 * np.log(spread + SMALL_SPREAD)


def _statistics(share: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean = share @ x
    return mean, np.maximum(share @ (x * x) - mean * mean, 0.0)


_erf: Final = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(x: FloatArray) -> FloatArray:
    out: FloatArray = (0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))).astype(np.float32)
    return out


def softmax(scores: npt.NDArray[np.floating]) -> FloatArray:
    """Return probabilities along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out: FloatArray = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return out
