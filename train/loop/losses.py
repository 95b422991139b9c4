"""Formulas of the losses. `losses` in `recipes/NAME.toml` chooses those of a voter, by kind.

    ce         weighted_cross_entropy  eq. 1 of arXiv 2505.18217
    focal      weighted_focal       eq. 2
    vs         vector_scaling       eq. 3 and 4
    kld        kl_divergence        of the distribution of votes (the loss of the SAIL systems)
    soft_f1    soft_f1_loss         1 - macro-F1 of the probabilities
    margin     margin_loss          neutral against the rest, a score each
    rank       rank_loss            neutral above the rest, each pair
    ccc        ccc_loss             1 - concordance, for arousal, valence, dominance
    mse        squared_error        on the scale 1 to 7
    gauss_mse  squared_error        weighed by how near the answer is to 4

B batch, C classes. Logits [B, C]; targets are class indices [B] or shares of votes [B, C] that sum
to 1; weights [C]. The published code differs from the paper, so there are three reductions:

    paper          (1/B) sum_i w_i loss_i, each weight on its own sample
    weighted_mean  sum_i w_i loss_i / sum_i w_i: a framework's weighted mean, the published VS loss
    broadcast      mean(loss) * mean(w): the published focal loss, which multiplies [B, 1] by [B],
                   so each weight acts on every sample; only to reproduce it, not to train with
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

import torch
from torch import Tensor

Reduction = Literal["paper", "weighted_mean", "broadcast"]

SPAN: Final = 6.0
"""Width of the scale of attributes, 1 to 7."""
CODE_WEIGHTS: Final = (1.25, 3.125, 6.25, 6.25, 0.5, 0.28, 1.38, 3.125)
"""Rounded class weights of the published code, in the order of LABELS."""


def class_weights(counts: Sequence[int], power: float = 1.0) -> Tensor:
    """Return the weights (N / (C N_c))^power [C], float64, of classes with `counts` [C] items.

    Raises ValueError: a class is empty, so its weight would be infinite.
    """
    n = _counted(counts)
    found: Tensor = (n.sum() / (len(counts) * n)) ** power
    return found


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, reduction: Reduction = "paper"
) -> Tensor:
    """Return the weighted cross-entropy (eq. 1): w_y (-log p_y), reduced to one value."""
    return _reduce(-torch.log_softmax(logits, dim=1), targets, weights, reduction)


def weighted_focal(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    gamma: float = 2.0,
    reduction: Reduction = "paper",
) -> Tensor:
    """Return the weighted focal loss (eq. 2): w_y (1 - p_y)^gamma (-log p_y), as one value.

    It and its gradients are finite for all finite logits and all gamma >= 0.
    """
    log_p = torch.log_softmax(logits, dim=1)
    # 1 - p without cancellation, and above 0: at 0 the slope of a power below 1 is infinite
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
    """Return the vector-scaling loss (eq. 3 and 4): weighted cross-entropy of scaled logits.

    z_c becomes (N_c / N_max)^gamma z_c + tau log(N_c / N), in training only: a model's label is the
    largest unscaled logit. `weights` are `class_weights(counts)` by default.

    Raises ValueError: a class is empty.
    """
    scale, bias = vector_scaling_terms(counts, gamma, tau)
    scaled = logits * scale.to(logits) + bias.to(logits)
    given = class_weights(counts) if weights is None else weights
    return weighted_cross_entropy(scaled, targets, given, reduction)


def vector_scaling_terms(counts: Sequence[int], gamma: float, tau: float) -> tuple[Tensor, Tensor]:
    """Return scale [C] and bias [C], float64, of the vector-scaling loss (eq. 3)."""
    n = _counted(counts)
    return (n / n.max()) ** gamma, tau * torch.log(n / n.sum())


def kl_divergence(logits: Tensor, votes: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean divergence KL(votes || model) in nats; `votes` [B, C] are shares.

    It equals the cross-entropy if all annotators agree. `weights` [C] weight each label's term.
    """
    log_p = torch.log_softmax(logits, dim=1)
    terms = torch.xlogy(votes, votes) - votes * log_p
    if weights is not None:
        terms = terms * weights.to(terms)
    return terms.sum(dim=1).mean()


def soft_f1_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - macro-F1 of a batch, with probabilities in the place of decisions.

    Classes without a target in the batch do not count.
    """
    p, shares = torch.softmax(logits, dim=1), _shares(targets, logits)
    f1 = 2.0 * (p * shares).sum(0) / (p.sum(0) + shares.sum(0))
    return 1.0 - f1[shares.sum(0) > 0].mean()


def margin_loss(scores: Tensor, neutral: Tensor) -> Tensor:
    """Return the mean soft margin log(1 + exp(-y z)) of scores z [B]; y is 1 if neutral, else -1.

    `neutral` [B] may also be a share of votes: then both sides count by their shares.
    """
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, neutral.to(scores))


def rank_loss(scores: Tensor, neutral: Tensor) -> Tensor:
    """Return the mean of log(1 + exp(z_r - z_n)) over pairs of a neutral clip n and another clip r.

    A clip is neutral if more than half of its votes are. Without a pair it is 0.
    """
    ours = neutral > 0.5
    pairs = scores[~ours][None, :] - scores[ours][:, None]
    return torch.nn.functional.softplus(pairs).mean() if pairs.numel() else scores.sum() * 0.0


def squared_error(given: Tensor, truth: Tensor, sigma: float | None = None) -> Tensor:
    """Return the mean squared error of attributes, both from 0 to 1, on the scale 1 to 7.

    With `sigma`, each is weighed by exp(-(y - 4)^2 / (2 sigma^2)) for the answer y: models like to
    answer the middle, so an error counts most there.
    """
    square = (SPAN * (given - truth)).square()
    if sigma is not None:
        square = square * torch.exp(-(SPAN * (given - 0.5)).square() / (2.0 * sigma**2))
    return square.mean()


def ccc(given: Tensor, truth: Tensor, eps: float = 1e-8) -> Tensor:
    """Return the concordance of `given` and `truth` [B] (Lin, 1989), population variances.

    2 cov / (var + var + (mean - mean)^2), with `eps` added to the divisor: 0 if both are constant.
    """
    a, b = given - given.mean(), truth - truth.mean()
    spread = a.square().mean() + b.square().mean() + (given.mean() - truth.mean()).square()
    return 2.0 * (a * b).mean() / (spread + eps)


def ccc_loss(given: Tensor, truth: Tensor) -> Tensor:
    """Return the mean of 1 - CCC over the columns of [B, K]: K attributes of one whole batch.

    Raises ValueError: fewer than two items, so the variance is undefined.
    """
    if given.shape != truth.shape or given.ndim != 2:
        raise ValueError(f"ccc_loss: {tuple(given.shape)} against {tuple(truth.shape)}, not [B, K]")
    if len(given) < 2:
        raise ValueError("ccc_loss: a batch of one has no variance; take at least 2, better 8")
    columns = zip(given.unbind(1), truth.unbind(1), strict=True)
    return torch.stack([1.0 - ccc(g, t) for g, t in columns]).mean()


def _reduce(losses: Tensor, targets: Tensor, weights: Tensor | None, reduction: str) -> Tensor:
    """Reduce the losses [B, C], of each sample if its class were c, to one value."""
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
    """Return shares [B, C] for targets that are indices [B] or shares."""
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
