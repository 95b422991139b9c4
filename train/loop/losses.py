"""Losses for classes of very different size, for votes, and for attributes.

    weighted_cross_entropy   eq. 1 of arXiv 2505.18217
    weighted_focal           eq. 2
    vector_scaling           eq. 3 and 4
    kl_divergence            of the distribution of votes (the loss of the SAIL systems)
    ccc_loss                 1 - concordance, for arousal, valence, dominance

B batch, C classes. Logits [B, C]; targets are class indices [B] or shares of votes [B, C] that sum
to 1; weights [C]. Where the published code departs from the paper, its way has a name:

    paper          (1/B) sum_i w_i loss_i, each weight on its own sample
    weighted_mean  sum_i w_i loss_i / sum_i w_i: a framework's weighted mean, the published VS loss
    broadcast      mean(loss) * mean(w): the published focal loss, whose [B, 1] times [B] lets each
                   weight act on every sample; kept to reproduce, never to train with
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

import torch
from torch import Tensor

Reduction = Literal["paper", "weighted_mean", "broadcast"]

CODE_WEIGHTS: Final = (1.25, 3.125, 6.25, 6.25, 0.5, 0.28, 1.38, 3.125)
"""Class weights as the published code rounds them, in the order of LABELS."""


def class_weights(counts: Sequence[int]) -> Tensor:
    """Weights N / (C N_c) [C], float64, of classes with `counts` [C] items.

    Raises ValueError: a class is empty, so its weight would be infinite.
    """
    n = _counted(counts)
    return n.sum() / (len(counts) * n)


def weighted_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    reduction: Reduction = "paper",
) -> Tensor:
    """Weighted cross-entropy (eq. 1): w_y (-log p_y), reduced to one value."""
    return _reduce(-torch.log_softmax(logits, dim=1), targets, weights, reduction)


def weighted_focal(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    gamma: float = 2.0,
    reduction: Reduction = "paper",
) -> Tensor:
    """Weighted focal loss (eq. 2): w_y (1 - p_y)^gamma (-log p_y), reduced to one value.

    Finite, with finite gradients, for any finite logits and any gamma >= 0.
    """
    log_p = torch.log_softmax(logits, dim=1)
    # 1 - p without cancellation, and never 0, where a power below 1 has no slope
    rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return _reduce(-log_p * rest**gamma, targets, weights, reduction)


def vector_scaling(
    logits: Tensor,
    targets: Tensor,
    counts: Sequence[int],
    weights: Tensor | None = None,
    gamma: float = 0.3,
    tau: float = 1.0,
    reduction: Reduction = "paper",
) -> Tensor:
    """Vector-scaling loss (eq. 3 and 4): weighted cross-entropy of scaled logits.

    z_c becomes (N_c / N_max)^gamma z_c + tau log(N_c / N). Only training scales: the answer of a
    model is the largest unscaled logit. `weights` are `class_weights(counts)` unless given.

    Raises ValueError: a class is empty.
    """
    scale, bias = vector_scaling_terms(counts, gamma, tau)
    scaled = logits * scale.to(logits) + bias.to(logits)
    given = class_weights(counts) if weights is None else weights
    return weighted_cross_entropy(scaled, targets, given, reduction)


def vector_scaling_terms(counts: Sequence[int], gamma: float, tau: float) -> tuple[Tensor, Tensor]:
    """Scale [C] and bias [C], float64, of the vector-scaling loss (eq. 3)."""
    n = _counted(counts)
    return (n / n.max()) ** gamma, tau * torch.log(n / n.sum())


def kl_divergence(logits: Tensor, votes: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean divergence KL(votes || model) in nats; `votes` [B, C] are shares that sum to 1.

    Of a vote that all agree on it is the cross-entropy. `weights` [C] weigh each label's term.
    """
    log_p = torch.log_softmax(logits, dim=1)
    terms = torch.xlogy(votes, votes) - votes * log_p
    if weights is not None:
        terms = terms * weights.to(terms)
    return terms.sum(dim=1).mean()


def ccc(given: Tensor, truth: Tensor, eps: float = 1e-8) -> Tensor:
    """Concordance of `given` and `truth` [B] (Lin, 1989), with population variances.

    2 cov / (var + var + (mean - mean)^2). Both constant and equal gives 0: `eps` decides.
    """
    a, b = given - given.mean(), truth - truth.mean()
    spread = a.square().mean() + b.square().mean() + (given.mean() - truth.mean()).square()
    return 2.0 * (a * b).mean() / (spread + eps)


def ccc_loss(given: Tensor, truth: Tensor) -> Tensor:
    """Mean of 1 - CCC over the columns of [B, K]: K attributes over one (whole) batch.

    Raises ValueError: fewer than two items, of which nothing can be said.
    """
    if given.shape != truth.shape or given.ndim != 2:
        raise ValueError(f"ccc_loss: {tuple(given.shape)} against {tuple(truth.shape)}, not [B, K]")
    if len(given) < 2:
        raise ValueError("ccc_loss: a batch of one has no variance; take at least 2, better 8")
    columns = zip(given.unbind(1), truth.unbind(1), strict=True)
    return torch.stack([1.0 - ccc(g, t) for g, t in columns]).mean()


def _reduce(losses: Tensor, targets: Tensor, weights: Tensor | None, reduction: str) -> Tensor:
    """Reduce the loss [B, C] that each class would cost to one value."""
    shares = _shares(targets, losses)
    weighted = shares if weights is None else shares * weights.to(losses)
    terms, of_sample = (weighted * losses).sum(dim=1), weighted.sum(dim=1)
    if reduction == "paper":
        return terms.mean()
    if reduction == "weighted_mean":
        return terms.sum() / of_sample.sum()
    if reduction == "broadcast":
        return (shares * losses).sum(dim=1).mean() * of_sample.mean()
    raise ValueError(f"reduction {reduction!r}: not one of {', '.join(get_args(Reduction))}")


def _shares(targets: Tensor, like: Tensor) -> Tensor:
    """Shares [B, C] of targets given as indices [B] or as shares."""
    if targets.ndim == 1:
        return torch.nn.functional.one_hot(targets, like.shape[1]).to(like)
    return targets.to(like)


def _counted(counts: Sequence[int]) -> Tensor:
    n = torch.as_tensor(counts, dtype=torch.float64)
    if empty := [c for c, count in enumerate(counts) if count <= 0]:
        raise ValueError(
            f"class counts {tuple(counts)}: classes {empty} are empty, so their weight would be "
            "infinite; leave them out of the labels, or add clips of them"
        )
    return n
