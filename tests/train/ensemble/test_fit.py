"""Fitting how votes are combined: planted voters, planted faults, and the command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier

from abhinaya.models.base import Ballot, ballot
from abhinaya.models.labels import LABELS
from abhinaya.models.vote import convert
from abhinaya.models.vote.combiner import Combiner, Member, Method
from abhinaya.models.vote.combiner_file import read_combiner, write_combiner
from abhinaya.models.vote.ensemble import Decision, Rule, decide
from abhinaya.models.vote.fitted import Fitted, Layers
from abhinaya.train.cli import main as train
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, write_manifest
from abhinaya.train.ensemble import fit as fit_of
from abhinaya.train.ensemble import logistic, meta
from abhinaya.train.ensemble.answers import NEUTRAL, Answers, importance
from abhinaya.train.ensemble.cli import measure
from abhinaya.train.ensemble.fit import Fit, fit_ensemble, least_confidence
from abhinaya.train.ensemble.logistic import fit_tied
from abhinaya.train.errors import DataError
from abhinaya.train.eval.cli import main as evaluate
from abhinaya.train.metrics import macro_f1

SPEAKERS = 6
KNOWN = [LABELS.index(x) for x in ("angry", "happy", "neutral", "sad")]
SKILL = {"A": 2.5, "B": 1.2, "C": 0.0}
"""How many nats each voter leans to the truth; C knows nothing, and is sure of it."""


def planted(n: int = 360, seed: int = 0, missing: float = 0.2) -> Answers:
    rng = np.random.default_rng(seed)
    truth = rng.choice(KNOWN, n)
    votes: list[dict[str, Ballot]] = []
    for c in truth:
        cast = {}
        for voter, skill in SKILL.items():
            logits = np.full(len(LABELS), -20.0)
            logits[KNOWN] = rng.standard_normal(len(KNOWN)) * (3.0 if voter == "C" else 1.0)
            logits[c] += skill
            if rng.random() >= missing or (not cast and voter == "C"):
                cast[voter] = ballot(softmax(logits.astype(np.float32)))
        votes.append(cast)
    speakers = tuple(f"s{i}" for i in rng.integers(SPEAKERS, size=n))
    truth = truth.astype(np.int64)
    return Answers(tuple(votes), truth, speakers, tuple(SKILL))


@pytest.fixture(scope="module")
def answers() -> Answers:
    return planted()


@pytest.fixture(scope="module")
def fitted(answers: Answers) -> Fit:
    return fit_ensemble(answers, "logistic")


# --- what is fitted -------------------------------------------------------------------------------


def test_the_sure_and_ignorant_voter_is_given_no_weight(fitted: Fit) -> None:
    (weights,) = fitted.rule.fitted.models[tuple(SKILL)].weights
    block = {v: weights[:, i * 8 : i * 8 + 8] for i, v in enumerate(SKILL)}
    # how far each voter's say for a label moves the score of that label
    say = {v: np.mean([w[k, c] for k, c in enumerate(sorted(KNOWN))]) for v, w in block.items()}
    assert say["A"] > say["B"] > 3 * abs(say["C"])
    assert fitted.rule.temperatures["C"] > 2 * fitted.rule.temperatures["A"]


def test_on_left_out_speakers_it_beats_the_majority(fitted: Fit, answers: Answers) -> None:
    # whose priority is the published order, and not made for these voters
    figures = measure(answers, fitted.held_out, Rule(priority=("C", "B", "A")), 0.0, 0)
    low, p = figures["gain_over_majority"][1], figures["gain_over_majority_p"]
    assert low > 0
    assert p < 0.05
    assert len(fitted.held_out) == len(answers.truth)


def test_the_weights_of_the_mixture_follow_skill(answers: Answers) -> None:
    fit = fit_ensemble(answers, "weighted")
    assert fit.rule.fitted is None
    weights = fit.rule.weights
    assert weights["A"] > weights["B"] > weights["C"]
    assert sum(weights.values()) == pytest.approx(len(SKILL))


def test_the_tied_form_finds_planted_scales() -> None:
    rng = np.random.default_rng(1)
    logs = np.log(softmax(rng.standard_normal((4_000, 2, 8)).astype(np.float32), axis=-1))
    scores = 1.5 * logs[:, 0] + 0.5 * logs[:, 1]
    truth = np.argmax(scores + rng.gumbel(size=scores.shape), axis=1)
    ones = np.ones(len(truth), np.float32)
    weights, bias = fit_tied(logs.reshape(len(truth), -1), truth, ones, 1e3)
    blocks = weights.reshape(8, 2, 8)
    np.testing.assert_allclose(blocks[:, 0], 1.5 * np.eye(8), atol=0.15)
    np.testing.assert_allclose(blocks[:, 1], 0.5 * np.eye(8), atol=0.15)
    np.testing.assert_allclose(bias - bias.mean(), 0, atol=0.2)


def test_labels_count_alike_and_neutral_as_its_prior_says() -> None:
    truth = np.array([0, 0, 0, NEUTRAL, 4, 4], np.int64)
    weights = importance(truth, 0.5)
    assert weights.mean() == pytest.approx(1)
    assert weights[truth == NEUTRAL].sum() == pytest.approx(3)
    assert weights[truth == 0].sum() == pytest.approx(weights[truth == 4].sum()) == 1.5
    assert importance(np.array([0, 4, 4], np.int64), 0.5).tolist() == [1.5, 0.75, 0.75]
    balanced = importance(truth, "balanced")
    assert [balanced[truth == c].sum() for c in (0, NEUTRAL, 4)] == pytest.approx([2, 2, 2])
    assert importance(truth, "corpus").tolist() == [1.0] * 6


# --- meta-classifiers -----------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TREES", 8), ("EPOCHS", (4, 12)), ("HIDDEN", (0, 4))):
        monkeypatch.setattr(meta, name, value)


@pytest.mark.parametrize("labels", [2, 8])
def test_what_scikit_learn_fitted_gives_its_probabilities_from_the_file_too(
    tmp_path: Path, labels: int
) -> None:
    rng = np.random.default_rng(labels)
    truth = np.arange(240) % labels
    shares = softmax(rng.normal(size=(240, 3, 8)) + 2 * np.eye(8)[truth][:, None], axis=-1)
    rated = dict.fromkeys("ABC") | {"B": (1.0, 3.0, 7.0)}
    votes = [
        {v: replace(ballot(s), attributes=rated[v]) for v, s in zip("ABC", of, strict=True)}
        for of in shares
    ]
    rows = np.arange(240)
    answers = Answers(tuple(votes), truth, ("x",) * 240, ("A", "B", "C"))
    inputs, logs = answers.inputs(rows, "ABC", rated=True), answers.inputs(rows, "ABC")
    network = MLPClassifier((5,), tol=1.0, random_state=0).fit(inputs, truth)
    forests = [RandomForestClassifier(9, random_state=s).fit(logs, truth) for s in (1, 2)]
    for method, model, expected in (
        ("mlp", convert.layers_of(network), network.predict_proba(inputs)),
        ("forest", convert.trees_of(forests), np.mean([f.predict_proba(logs) for f in forests], 0)),
    ):
        networks = method == "mlp"
        known = frozenset("B" if networks else "")
        fitted = Fitted(LABELS[:labels], {("A", "B", "C"): model}, not networks, known)
        path = tmp_path / f"{method}.json"
        write_combiner(path, Combiner(method, dict.fromkeys("ABC", Member()), fitted=fitted))
        found = read_combiner(path).fitted
        given = np.array([found.probabilities(cast) for cast in votes])[:, :labels]
        np.testing.assert_allclose(given, expected, atol=1e-6)
        unrated = votes[0] | {"B": replace(votes[0]["B"], attributes=None)}
        assert (found.probabilities(unrated) is None) == networks


def test_a_soup_is_the_mean_of_the_weights_of_its_runs() -> None:
    rng = np.random.default_rng(0)
    runs = [Layers((rng.normal(size=(2, 3)),), (rng.normal(size=2),)) for _ in range(3)]
    inputs = rng.normal(size=3)
    scores = np.mean([run.weights[0] @ inputs + run.biases[0] for run in runs], axis=0)
    np.testing.assert_allclose(convert.soup_of(runs)(inputs), softmax(scores))


def test_forests_learn_from_equally_many_clips_of_each_label(answers: Answers) -> None:
    rows = np.flatnonzero((answers.truth != KNOWN[0]) | (np.arange(len(answers.truth)) < 99))
    forests = meta.Forests(answers, importance(answers.truth, 0.5), 0)
    inputs, truth, weights = forests.balanced(rows)
    assert len(set(np.unique(truth, return_counts=True)[1].tolist())) == 1
    assert inputs.shape == (len(truth), len(SKILL) * 8)
    assert weights[truth == NEUTRAL].mean() > 2 * weights[truth != NEUTRAL].mean()
    with pytest.raises(DataError, match=r"angry: [0-4] clips are answered by all voters; forests"):
        forests.balanced(rows[-60:][answers.truth[rows[-60:]] != KNOWN[0]])


@pytest.mark.parametrize("method", ["logistic", "mlp", "forest"])
def test_fourteen_members_are_fitted_together_and_fewer_by_the_mean(
    quick: None, monkeypatch: pytest.MonkeyPatch, method: Method
) -> None:
    monkeypatch.setattr(fit_of, "REGRESSIONS", logistic.REGRESSIONS[2:3])
    names = [f"m{i:02}" for i in range(14)]
    monkeypatch.setitem(globals(), "SKILL", dict.fromkeys(names, 1.5))
    answers = planted(160, missing=0.01)
    fit = fit_ensemble(answers, method, soup=2)
    assert list(fit.plans) == ["+".join(names)]
    everyone = next(votes for votes in answers.votes if len(votes) == 14)
    assert decide(everyone, fit.rule).leading
    guess = np.array([LABELS.index(d.leading) for d in fit.held_out])
    assert macro_f1(answers.truth, guess, sorted(KNOWN)) > 0.8
    few = {name: everyone[name] for name in names[:13]}
    mean = decide(few, Rule("mean", temperatures=fit.rule.temperatures))
    assert decide(few, fit.rule) == mean


# --- threshold ------------------------------------------------------------------------------------


def decided(label: str, confidence: float | None) -> Decision:
    return Decision(label, label, confidence, 1.0, 1.0)


def test_the_threshold_is_the_lowest_that_holds_the_alarms() -> None:
    truth = np.array([NEUTRAL] * 10, np.int64)
    decisions = [decided("angry", share) for share in (0.9, 0.7, 0.5)]
    decisions += [decided("neutral", 0.99)] * 7
    assert least_confidence(decisions, truth, 0.3) == 0.0
    one, two = least_confidence(decisions, truth, 0.2), least_confidence(decisions, truth, 0.15)
    assert 0.5 < one < 0.5002
    assert 0.7 < two < 0.7002
    for least, allowed in ((one, 2), (two, 1)):
        assert sum(d.leading == "angry" and d.confidence >= least for d in decisions) == allowed
    assert least_confidence([decided("angry", None)] * 10, truth, 0.1) > 0


# --- what cannot be fitted ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: Answers(a.votes, a.truth, ("x",) * len(a.truth), a.voters), "one speaker"),
        (lambda a: Answers(a.votes, a.truth, ("",) * len(a.truth), a.voters), "have no speaker"),
        (lambda a: Answers(a.votes, a.truth * 0, a.speakers, a.voters), "all clips are angry"),
        (lambda a: Answers(a.votes[:30], a.truth[:30], a.speakers[:30], a.voters),
         r"clips are answered by all 3 voters; logistic needs 50 \(the fewest"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused(answers: Answers, change, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit_ensemble(change(answers), "logistic")


# --- the commands ---------------------------------------------------------------------------------


def write_case(folder: Path, answers: Answers, within: str = "dev", **columns: str) -> list[str]:
    clips = tuple(
        Clip(f"c{i}", "made", str(s), {LABELS[c]: 1.0}, split=within)
        for i, (c, s) in enumerate(zip(answers.truth, answers.speakers, strict=True))
    )
    write_manifest(folder / "truth.jsonl", Manifest(folder, clips))
    for voter in answers.voters:
        said = {"model": f"model-{voter}", "version": "3"} | columns
        with (folder / f"{voter}.csv").open("w", newline="") as out:
            rows = csv.writer(out)
            rows.writerow(["id", "label", *LABELS, *said])
            for i, votes in enumerate(answers.votes):
                if voter in votes:
                    b = votes[voter]
                    rows.writerow([f"c{i}", b.label, *b.probabilities, *said.values()])
    return [str(folder / "truth.jsonl"), *(str(folder / f"{v}.csv") for v in answers.voters)]


def test_the_command_fits_writes_and_the_tables_use_it(
    tmp_path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    files, out = write_case(tmp_path, answers), str(tmp_path / "c.json")
    assert train(["ensemble", *files, "--out", out, "--alarms", "0.02"]) == 0
    told = capsys.readouterr().out
    assert "gain_over_majority" in told
    assert "A: model-A 3, temperature" in told
    combiner = read_combiner(Path(out))
    assert combiner.fitted_on["clips"] == len(answers.truth)
    assert combiner.fitted_on["speakers"] == SPEAKERS
    assert combiner.made_by.startswith("abhinaya train ensemble ")
    assert combiner.metrics["neutral_otherwise_at_min_confidence"] <= 0.02
    assert combiner.metrics["neutral_otherwise"] > 0.02
    assert 0 < combiner.min_confidence < 1
    report = tmp_path / "r.json"
    assert evaluate([*files, "--combiner", out, "--resamples", "50", "--json", str(report)]) == 0
    assert "Table 5. All voters, by rule" in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert [row["rule"] for row in found["rules"]] == ["majority", "mean", "logistic, fitted"]
    assert found["rule"]["method"] == "logistic"
    assert len(found["combinations"]) == 4
    # the whole table by the rule itself
    rule = Rule("logistic", fitted=combiner.fitted)
    guess = np.array([LABELS.index(decide(v, rule).leading) for v in answers.votes])
    expected = macro_f1(answers.truth, guess, sorted(KNOWN))
    assert found["rules"][2]["macro_f1"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("split", "columns", "more", "words"),
    [
        ("train", {}, [], "has clips of the split 'train'"),
        ("dev", {"split": "train"}, [], "are of clips that it was trained on"),
        ("dev", {}, ["--split", "test"], "no clip is in it"),
        ("dev", {}, ["--voters", "A,Z"], "no predictions of Z"),
        ("dev", {}, ["--prior", "1.5"], "--prior 1.5: give balanced, corpus, or the share of"),
        ("dev", {}, ["--alarms", "0"], "--alarms 0"),
        ("dev", {}, ["--out", "/nowhere/c.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    answers: Answers,
    capsys: pytest.CaptureFixture[str],
    split: str,
    columns: dict[str, str],
    more: list[str],
    words: str,
) -> None:
    files = write_case(tmp_path, answers, split, **columns)
    arguments = ["--method", "mean", "--out", str(tmp_path / "c.json"), *more]
    assert train(["ensemble", *files, *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "c.json").exists()


def test_tables_refuse_a_combiner_of_other_voters_or_versions(
    tmp_path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    files, out = write_case(tmp_path, answers), str(tmp_path / "c.json")
    assert train(["ensemble", *files, "--method", "mean", "--out", out]) == 0
    renamed = [files[0], f"Q={files[1]}", *files[2:]]
    assert evaluate([*renamed, "--combiner", out]) == 1
    assert "not on Q" in capsys.readouterr().err
    write_case(tmp_path, answers, version="4")
    assert evaluate([*files, "--combiner", out]) == 1
    assert "it was fitted on model-A 3 as A, not 4" in capsys.readouterr().err
