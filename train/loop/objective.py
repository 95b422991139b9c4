"""Computes the loss of a stage, the weighted sum of the recipe's `losses`, and validation figures.

N clips, B batch, C classes, K outputs of all heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.train.errors import TrainingError
from abhinaya.train.learners.base import Outputs
from abhinaya.train.loop import losses
from abhinaya.train.loop.losses import CODE_WEIGHTS, Reduction, ccc, class_weights
from abhinaya.train.metrics import macro_f1, unweighted_recall
from abhinaya.train.recipes.tables import LossTerm

_FEWEST: Final = 2
"""Fewest clips with known attributes for which the concordance is defined."""


class Objective:
    """The loss of one stage.

    `terms` are its `losses`, `counts` [C] the training clips of each class, empty if no term is on
    labels.
    """

    def __init__(self, terms: Sequence[LossTerm], counts: Sequence[int], outputs: Outputs) -> None:
        self._terms, self._counts, self.outputs = terms, tuple(counts), outputs

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of scores [B, K] for targets [B, K] of the trainer's examples."""
        scores, targets = scores.float(), targets.to(scores.device)
        total = scores.new_zeros(())
        for term in self._terms:
            if term.on is not None:
                total = total + term.weight * self._term(term, scores, targets)
        return total

    def penalty(self, module: nn.Module) -> Tensor | float:
        """Return the sum of the l2 terms: the squares of the weights that they are about.

        Raises TrainingError: no trained weight has such a name.
        """
        total: Tensor | float = 0.0
        for term in self._terms:
            if term.kind == "l2":
                weights = weights_of(module, term.part, "losses").values()
                total = total + term.weight * torch.stack([p.square().sum() for p in weights]).sum()
        return total

    def _term(self, term: LossTerm, scores: Tensor, targets: Tensor) -> Tensor:
        assert term.on is not None
        labels = self.outputs.columns("primary")
        if term.on == "neutral":  # its truth is that of the labels
            where = labels.start + self.outputs.classes.index("neutral")
            truth = targets[:, where : where + 1]
            known = targets[:, labels].sum(1) > 0
        else:
            truth = targets[:, self.outputs.columns(term.on)]
            known = torch.isfinite(truth).all(dim=1)
        given = scores[:, self.outputs.columns(term.on)][known]
        truth = truth[known]
        if len(given) < (_FEWEST if term.kind == "ccc" else 1):
            return scores.sum() * 0.0
        match term.kind:
            case "ccc":
                return losses.ccc_loss(bounded(given), truth)
            case "mse" | "gauss_mse":
                sigma = term.sigma if term.kind == "gauss_mse" else None
                return losses.squared_error(bounded(given), truth, sigma)
            case "margin":
                return losses.margin_loss(given[:, 0], truth[:, 0])
            case "rank":
                return losses.rank_loss(given[:, 0], truth[:, 0])
            case "soft_f1":
                return losses.soft_f1_loss(given, truth)
            case _:
                return self._of_shares(term, given, truth)

    def _of_shares(self, term: LossTerm, logits: Tensor, shares: Tensor) -> Tensor:
        weights, reduction = self._weights(term), cast("Reduction", term.reduction)
        own = {} if term.gamma is None else {"gamma": term.gamma}  # else that of the formula
        match term.kind:
            case "ce":
                return losses.weighted_cross_entropy(logits, shares, weights, reduction)
            case "focal":
                return losses.weighted_focal(logits, shares, weights, reduction=reduction, **own)
            case "vs":
                more = {"tau": term.tau, **own}
                return losses.vector_scaling(
                    logits, shares, self._counts, weights, reduction=reduction, **more
                )
            case _:
                return losses.kl_divergence(logits, shares, weights)

    def _weights(self, term: LossTerm) -> Tensor | None:
        if term.on == "primary" and term.class_weights == "published":
            return torch.tensor(CODE_WEIGHTS)
        if term.on == "primary" and term.class_weights == "training":
            return class_weights(self._counts, term.power)
        return None if term.kind != "vs" else torch.ones(len(self._counts))


def weights_of(module: nn.Module, part: str, setting: str) -> dict[str, nn.Parameter]:
    """Return the trained weights whose names begin with `part`. Raises TrainingError: none does."""
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if found := {name: p for name, p in named.items() if name.startswith(part)}:
        return found
    known = ", ".join(dict.fromkeys(name.split(".")[0] for name in named))
    raise TrainingError(f"{setting}: no trained weight is called {part}...; known parts: {known}")


def bounded(scores: Tensor) -> Tensor:
    """Return attributes [B, 3] from 0 to 1 for their scores."""
    return scores.float().sigmoid()


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one validation."""

    score: float
    """Macro-F1 of labels, else mean concordance of attributes. Higher is better."""
    values: Mapping[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4f}" for name, value in self.values.items())


def judge(
    scores: Tensor, targets: Tensor, objective: Objective, by: str, missed: Sequence[str] = ()
) -> Figures:
    """Measure scores [N, K] against targets [N, K]; `by` is the head that the score is of.

    F1 is of the eight labels, averaged over those that occur; clips without one do not count.
    `missed` are the labels of clips without an answer, which count as wrong. Concordance is over
    clips with known attributes.
    """
    values: dict[str, float] = {"loss": float(objective(scores, targets))}
    outputs, score = objective.outputs, 0.0
    columns = outputs.columns("attributes")
    known = targets[:, columns].isfinite().all(dim=1)
    if "attributes" in outputs.heads and int(known.sum()) >= _FEWEST:
        given, truth = bounded(scores[:, columns])[known], targets[:, columns][known]
        found = [float(ccc(given[:, k], truth[:, k])) for k in range(len(ATTRIBUTES))]
        values |= {f"ccc_{name}": value for name, value in zip(ATTRIBUTES, found, strict=True)}
        score = float(np.mean(found)) if by == "attributes" else score
    if outputs.classes:
        eight = [i for i, name in enumerate(outputs.classes) if name in LABELS]
        shares = targets[:, eight]
        rows = shares.sum(1) > 0
        right, guess = (t[rows].argmax(dim=1).numpy() for t in (shares, scores[:, eight]))
        own = [outputs.classes[i] for i in eight]
        lost = [own.index(name) for name in missed if name in own]
        right = np.concatenate([right, lost]).astype(np.int64)
        guess = np.concatenate([guess, np.full(len(lost), -1)]).astype(np.int64)
        there = sorted(set(right.tolist()))
        f1 = macro_f1(right, guess, there)
        score = f1 if by == "primary" else score
        values |= {"macro_f1": f1, "uar": unweighted_recall(right, guess, there)}
    return Figures(score, values)
