"""Fits a combiner of voters, on predictions about speakers that no voter was trained on.

    temperatures   one per voter, which maximises the likelihood of its probabilities
    weighted       weights of a mean of probabilities, by expectation maximisation
    logistic       one regression per subset of voters; form and L2 chosen by folds of speakers

A regression on log-probabilities has one of two forms:

    full   each label's score depends on all probabilities of all voters, as in EMOJUDGE
    tied   score of label c = bias of c + sum over voters of scale of v x log-probability of c by v

The full form has C times as many weights: it can learn that one voter's fear means sad, but with
few speakers it overfits to them. The tied form is a weighted product of the probabilities.

Each fold of speakers is measured with a fit on the other folds, by the monitor's own decision code.
N clips, V voters, C labels, K labels that occur.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product
from typing import Final, Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from abhinaya.models.base import Ballot, FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.combiner import Logistic, Method, Numbers, Regression, features
from abhinaya.models.vote.ensemble import Decision, Rule, decide
from abhinaya.train.errors import DataError
from abhinaya.train.metrics import Indices, fit_temperature

Form = Literal["tied", "full"]
Parts = tuple[tuple[int, ...], Numbers, Numbers]
"""Label indices [K], weights [K, V * C], bias [K]."""
GRID: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of C, the inverse strength of L2, to try."""
FORMS: Final[tuple[Form, ...]] = ("tied", "full")
NEVER: Final = -50.0
"""Bias of a label that no clip of a fit has."""
MOST_VOTERS: Final = 6
"""With more voters, fitting all subsets would take too long."""
LEAST_CLIPS: Final = 50
"""Fewest clips that all voters of a subset answered; with fewer, the mean is used instead."""
FOLDS: Final = 5
NEUTRAL: Final = LABELS.index("neutral")
Rows = Indices
Votes = dict[str, Ballot]
Fitted = tuple[tuple[int, ...], Regression]
"""Label indices [K], and a regression over them."""


@dataclass(frozen=True)
class Hyperparameters:
    """Settings of one regression, chosen by cross-validation over speakers."""

    form: Form
    strength: float
    """C, the inverse strength of L2."""
    temperature: float = 1.0


@dataclass(frozen=True)
class Answers:
    """Answers of V voters about N clips."""

    votes: tuple[Votes, ...]
    """[N] vote by voter; a voter without an answer is absent."""
    truth: Indices
    """[N] indices in LABELS."""
    speakers: tuple[Hashable, ...]
    """[N] speaker of each clip."""
    voters: tuple[str, ...]

    @cached_property
    def logs(self) -> Numbers:
        """[N, V, C] log-probabilities, the inputs of regressions; NaN without an answer."""
        found = np.full((len(self.votes), len(self.voters), len(LABELS)), np.nan)
        for i, votes in enumerate(self.votes):
            for v, voter in enumerate(self.voters):
                if voter in votes:
                    found[i, v] = features([votes[voter]])
        return found

    def of(self, voters: Sequence[str]) -> Rows:
        """Return the rows of clips that all of `voters` answered."""
        columns = [self.voters.index(voter) for voter in voters]
        return np.flatnonzero(~np.isnan(self.logs[:, columns, 0]).any(axis=1))

    def inputs(self, rows: Rows, voters: Sequence[str]) -> Numbers:
        """Return the inputs [len(rows), V * C] of a regression of these voters."""
        columns = [self.voters.index(voter) for voter in voters]
        return self.logs[rows][:, columns].reshape(len(rows), -1)


@dataclass(frozen=True)
class Fit:
    """A fitted combiner, and its decisions on held-out speakers."""

    temperatures: Mapping[str, float]
    weights: Mapping[str, float]
    logistic: Logistic | None
    plans: Mapping[str, str] = field(default_factory=dict)
    """Chosen form and C of each subset."""
    held_out: tuple[Decision, ...] = ()
    """[N] decisions, each by a fit on other speakers."""


def importance(truth: Indices, neutral: float) -> FloatArray:
    """Return clip weights [N], 1 on average: neutral has the share `neutral`, other labels equal.

    The prior is given, not fitted: label frequencies of a corpus are not those of real speech.
    """
    present = sorted({int(c) for c in truth})
    others = max(1, len(present) - (NEUTRAL in present))
    share = {c: neutral if c == NEUTRAL else (1.0 - neutral) / others for c in present}
    if len(present) == 1 or NEUTRAL not in present:
        share = dict.fromkeys(present, 1.0 / len(present))
    counts = {c: int(np.sum(truth == c)) for c in present}
    return np.array([share[int(c)] / counts[int(c)] * len(truth) for c in truth], np.float32)


def fit_ensemble(answers: Answers, method: Method, neutral: float = 0.5, seed: int = 0) -> Fit:
    """Fit the parameters of `method`.

    Raises DataError: too many voters, fewer than two speakers or labels, or a clip has no speaker.
    """
    _check(answers)
    weights = importance(answers.truth, neutral)
    temperatures = {v: _temperature(answers, v, weights) for v in answers.voters}
    if method == "logistic":
        return _fit_logistic(answers, temperatures, weights, seed)
    mixture = dict.fromkeys(answers.voters, 1.0)
    if method == "weighted":
        mixture = _mixture(answers, weights)
    rule = Rule(method, weights=mixture, temperatures=temperatures)
    decided = tuple(decide(votes, rule) for votes in answers.votes)
    return Fit(temperatures, mixture, None, held_out=decided)


def _check(answers: Answers) -> None:
    if not answers.voters or len(answers.voters) > MOST_VOTERS:
        raise DataError(f"{len(answers.voters)} voters: give 1 to {MOST_VOTERS} with --voters")
    if not all(answers.speakers):
        raise DataError("some clips have no speaker, so folds cannot be made; leave them out")
    if len(set(answers.speakers)) < 2:
        raise DataError("clips of one speaker: a fit on them could not be measured on another")
    if len(set(answers.truth.tolist())) < 2:
        raise DataError(f"all clips are {LABELS[int(answers.truth[0])]}: there is nothing to fit")


def _temperature(answers: Answers, voter: str, weights: FloatArray) -> float:
    """Return the temperature of a voter's probabilities; 1 if it gives none."""
    given = [(i, b.probabilities) for i in answers.of([voter]) if (b := answers.votes[i][voter])]
    known = [(i, p) for i, p in given if p is not None]
    if not known:
        return 1.0
    rows = np.array([i for i, _ in known])
    logs = np.log(np.maximum(np.array([p for _, p in known], np.float32), 1e-6))
    return fit_temperature(logs, answers.truth[rows], weights[rows])


def _mixture(answers: Answers, weights: FloatArray, rounds: int = 200) -> dict[str, float]:
    """Return the voters' weights in a mixture of probabilities, fitted on clips that all answered.

    Raises DataError: too few clips.
    """
    rows = answers.of(answers.voters)
    if len(rows) < LEAST_CLIPS:
        raise DataError(f"{len(rows)} clips are answered by all voters; {LEAST_CLIPS} are needed")
    logs = answers.inputs(rows, answers.voters).reshape(len(rows), len(answers.voters), len(LABELS))
    right = np.exp(logs[np.arange(len(rows)), :, answers.truth[rows]])  # [N, V]
    shares = np.full(len(answers.voters), 1.0 / len(answers.voters))
    for _ in range(rounds):
        posterior = right * shares
        posterior /= posterior.sum(axis=1, keepdims=True)
        shares = np.average(posterior, axis=0, weights=weights[rows])
    return dict(zip(answers.voters, (shares * len(shares)).tolist(), strict=True))


# --- logistic -------------------------------------------------------------------------------------


def _fit_logistic(
    answers: Answers, temperatures: Mapping[str, float], weights: FloatArray, seed: int
) -> Fit:
    everyone = np.arange(len(answers.truth))
    folds = list(_folds(answers, seed))
    fitter = _Fitter(answers, weights)
    plans = {
        voters: fitter.choose(voters, folds)
        for voters in subsets(answers.voters)
        if len(answers.of(voters)) >= LEAST_CLIPS
    }
    held_out: list[Decision | None] = [None] * len(everyone)
    for learnt, left in folds:
        rule = Rule("logistic", logistic=fitter.all(learnt, plans))
        for i in left:
            held_out[i] = decide(answers.votes[i], rule)
    return Fit(
        temperatures,
        dict.fromkeys(answers.voters, 1.0),
        fitter.all(everyone, plans),
        {"+".join(voters): f"{plan.form}, C {plan.strength:g}" for voters, plan in plans.items()},
        tuple(decision for decision in held_out if decision is not None),
    )


def subsets(voters: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield every non-empty subset of the voters, the largest first, each sorted by name."""
    for size in range(len(voters), 0, -1):
        yield from combinations(sorted(voters), size)


def _folds(answers: Answers, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield (rows to fit on, rows held out) of each fold; no speaker is in both."""
    names = sorted({str(s) for s in answers.speakers})
    groups = np.array([names.index(str(s)) for s in answers.speakers])
    cut = StratifiedGroupKFold(min(FOLDS, len(names)), shuffle=True, random_state=seed)
    yield from cut.split(groups, answers.truth, groups)


@dataclass(frozen=True)
class _Fitter:
    """Fits regressions on subsets of the answers."""

    answers: Answers
    weights: FloatArray

    def choose(
        self, voters: tuple[str, ...], folds: Sequence[tuple[Rows, Rows]]
    ) -> Hyperparameters:
        """Return the settings with the lowest loss on held-out speakers, with their temperature."""
        answered = self.answers.of(voters)
        truth, weights = self.answers.truth[answered], self.weights[answered]
        best, loss = Hyperparameters("tied", GRID[0]), np.inf
        for form, strength in product(FORMS, GRID):
            plan = Hyperparameters(form, strength)
            logs = np.zeros((len(answered), len(LABELS)), np.float32)
            for learnt, left in folds:
                fitted = self.one(voters, np.intersect1d(learnt, answered), plan)
                here = np.isin(answered, left)
                logs[here] = _log_shares(fitted, self.answers.inputs(answered[here], voters))
            plan = replace(plan, temperature=fit_temperature(logs, truth, weights))
            scaled = logs / plan.temperature
            scaled -= np.log(np.exp(scaled).sum(axis=1, keepdims=True))
            mean = float(np.average(-scaled[np.arange(len(truth)), truth], weights=weights))
            if mean < loss:
                best, loss = plan, mean
        return best

    def all(self, rows: Rows, plans: Mapping[tuple[str, ...], Hyperparameters]) -> Logistic:
        """Fit every subset on `rows`, with the temperatures of `plans`."""
        labels = sorted({int(c) for c in self.answers.truth})
        fits = {}
        for voters, plan in plans.items():
            chosen = np.intersect1d(rows, self.answers.of(voters))
            labelled, regression = self.one(voters, chosen, plan)
            weights = np.zeros((len(labels), regression.weights.shape[1]))
            bias = np.full(len(labels), NEVER)
            places = [labels.index(label) for label in labelled]
            weights[places], bias[places] = regression.weights, regression.bias
            fits[frozenset(voters)] = Regression(voters, weights, bias)
        return Logistic(tuple(LABELS[c] for c in labels), fits)

    def one(self, voters: tuple[str, ...], rows: Rows, plan: Hyperparameters) -> Fitted:
        """Fit one subset on `rows`; return the labels [K] that occur, and the regression."""
        inputs, truth = self.answers.inputs(rows, voters), self.answers.truth[rows]
        fit = fit_full if plan.form == "full" else fit_tied
        labels, weights, bias = fit(inputs, truth, self.weights[rows], plan.strength)
        scale = plan.temperature
        return labels, Regression(voters, weights / scale, bias / scale)


def _log_shares(fitted: Fitted, inputs: Numbers) -> FloatArray:
    """Return log-probabilities [N, C]; labels that no fitted clip has get the floor 1e-6."""
    labels, regression = fitted
    scores = inputs @ regression.weights.T + regression.bias
    found = np.full((len(inputs), len(LABELS)), 1e-6, np.float32)
    found[:, list(labels)] = np.maximum(softmax(scores.astype(np.float32), axis=1), 1e-6)
    logs: FloatArray = np.log(found)
    return logs


def fit_full(inputs: Numbers, truth: Indices, importance: FloatArray, strength: float) -> Parts:
    """Fit the full form.

    Inputs [N, V * C] are log-probabilities, `truth` [N] indices in LABELS, of which at least two
    occur, `importance` [N] weights of the clips, `strength` the inverse of the L2 penalty.
    """
    solver = LogisticRegression(C=strength, solver="newton-cholesky")
    solver.fit(inputs, truth, sample_weight=importance)
    weights, bias = np.asarray(solver.coef_), np.asarray(solver.intercept_)
    if len(weights) == 1:  # for two labels scikit-learn has one row: second minus first
        weights, bias = np.vstack([-weights, weights]) / 2, np.append(-bias, bias) / 2
    return tuple(int(c) for c in solver.classes_), weights, bias


def fit_tied(inputs: Numbers, truth: Indices, importance: FloatArray, strength: float) -> Parts:
    """Fit the tied form, with scales of at least 0; arguments as for `fit_full`."""
    voters = inputs.shape[1] // len(LABELS)
    labels = sorted({int(c) for c in truth})
    logs = inputs.reshape(len(inputs), voters, len(LABELS))[:, :, labels]  # [N, V, K]
    target = np.array([labels.index(int(c)) for c in truth])
    right = np.eye(len(labels))[target]

    def loss(theta: Numbers) -> tuple[float, Numbers]:
        scores = np.tensordot(logs, theta[:voters], axes=(1, 0)) + theta[voters:]
        scores -= scores.max(axis=1, keepdims=True)
        powers = np.exp(scores)
        shares = powers / powers.sum(axis=1, keepdims=True)
        wrong = (shares - right) * importance[:, None]
        likely = np.log(shares[np.arange(len(target)), target])
        slope = np.append(np.einsum("nvk,nk->v", logs, wrong), wrong.sum(axis=0))
        value = -float(importance @ likely) + float(theta @ theta) / (2.0 * strength)
        return value, slope + theta / strength

    start = np.append(np.full(voters, 1.0 / voters), np.zeros(len(labels)))
    bounds = [(0.0, None)] * voters + [(None, None)] * len(labels)
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = np.zeros((len(labels), voters, len(LABELS)))
    for k, label in enumerate(labels):
        weights[k, :, label] = theta[:voters]
    return tuple(labels), weights.reshape(len(labels), -1), theta[voters:]


def least_confidence(decisions: Sequence[Decision], truth: Indices, most_alarms: float) -> float:
    """Return the lowest threshold with at most this share of false alarms on neutral clips.

    Raises DataError: no clip is neutral.
    """
    neutral = [d for d, c in zip(decisions, truth, strict=True) if c == NEUTRAL]
    if not neutral:
        raise DataError("no clip is neutral, so false alarms cannot be counted; leave out --alarms")
    alarms = sorted(
        (d.confidence or 0.0 for d in neutral if d.leading not in ("", "neutral")), reverse=True
    )
    allowed = int(most_alarms * len(neutral) + 1e-9)
    if len(alarms) <= allowed:
        return 0.0
    # just above the most confident alarm that exceeds the allowed number
    return min(1.0, float(np.ceil(alarms[allowed] * 1e4 + 1e-6) / 1e4))
