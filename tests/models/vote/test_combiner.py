"""The fitted combiner: what it computes, whom it accepts, and the file that it lies in."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.base import Ballot
from abhinaya.models.errors import DamagedFileError, LabelsError, MissingFileError, WriteError
from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.vote.combiner import Combiner, Member
from abhinaya.models.vote.combiner_file import read_combiner, write_combiner
from abhinaya.models.vote.ensemble import Rule, decide
from abhinaya.models.vote.fitted import FLOOR, Fitted, Layers, Trees, features

VOTERS = ("S1", "ST1", "T2")
KNOWN = tuple(label for label in LABELS if label != "contempt")


def soft(label: str, share: float) -> Ballot:
    rest = (1 - share) / (len(LABELS) - 1)
    return Ballot(label, tuple(share if name == label else rest for name in LABELS))


def tied(voters: tuple[str, ...], scales: dict[str, float]) -> Layers:
    """Scores are sums of the voters' log-probabilities times their scales."""
    weights = np.zeros((len(KNOWN), len(voters), len(LABELS)))
    for k, label in enumerate(KNOWN):
        for v, voter in enumerate(voters):
            weights[k, v, LABELS.index(label)] = scales[voter]
    return Layers((weights.reshape(len(KNOWN), -1),), (np.zeros(len(KNOWN)),))


def combiner(**changes) -> Combiner:
    scales = {"S1": 1.0, "ST1": 0.5, "T2": 0.25}
    sets = [s for n in (1, 2, 3) for s in itertools.combinations(VOTERS, n)]
    fitted = Fitted(KNOWN, {s: tied(s, scales) for s in sets})
    fields = {
        "method": "logistic",
        "members": {
            "S1": Member("tiny-speech", "2", 1.25),
            "ST1": Member("tiny-joint", "2"),
            "T2": Member("tiny-text", "1", 2.0, 0.5),
        },
        "min_confidence": 0.4,
        "fitted": fitted,
        "made_by": "abhinaya train ensemble x",
        "fitted_on": {"clips": 100},
        "metrics": {"macro_f1": 0.5},
    }
    return Combiner(**(fields | changes))


def rule(**changes) -> Rule:
    return Rule("logistic", fitted=combiner().fitted, **changes)


# --- what it computes -----------------------------------------------------------------------------


def test_a_weighted_product_of_probabilities_by_hand():
    votes = {"S1": soft("sad", 0.6), "T2": soft("happy", 0.9)}
    decision = decide(votes, rule())
    # rest of S1: .4/7, of T2: .1/7; both above the floor
    sad = 0.6 * (0.1 / 7) ** 0.25
    happy = (0.4 / 7) * 0.9**0.25
    other = (0.4 / 7) * (0.1 / 7) ** 0.25
    total = sad + happy + 5 * other  # seven labels: contempt was never met
    assert decision.label == "sad"
    assert decision.confidence == pytest.approx(min(sad / total, 0.6))
    assert decision.margin == pytest.approx((sad - happy) / total)


def test_features_are_floored_logs_and_a_bare_label_counts_as_certain():
    impossible = Ballot("sad", (0, 0, 0, 0, 0, 0, 1.0, 0))
    expected = np.log([FLOOR] * 6 + [1.0, FLOOR])
    np.testing.assert_allclose(features(impossible), expected)
    np.testing.assert_allclose(features(Ballot("sad")), expected)
    rated = Ballot("sad", attributes=(1.0, 4.0, 7.0))
    assert features(rated, logs=False, rated=True).tolist() == [0] * 6 + [1, 0, 0, 0.5, 1]


def test_a_label_that_nobody_was_fitted_on_is_never_given():
    everyone = {voter: soft("contempt", 0.99) for voter in VOTERS}
    assert decide(everyone, rule()).label != "contempt"


def test_without_a_fit_for_who_answered_the_mean_decides():
    few = Fitted(KNOWN, {VOTERS: combiner().fitted.models[VOTERS]})
    votes = {"S1": soft("sad", 0.6), "T2": soft("happy", 0.9)}
    assert decide(votes, Rule("logistic", fitted=few)) == decide(votes, Rule("mean"))
    assert decide(votes, replace(rule(), method="mean")) == decide(votes, Rule("mean"))


def test_bare_labels_give_a_label_and_no_confidence():
    decision = decide({"S1": Ballot("sad"), "T2": Ballot("happy")}, rule())
    assert (decision.label, decision.confidence) == ("sad", None)


@st.composite
def any_ballot(draw):
    if draw(st.booleans()):
        return Ballot(draw(st.sampled_from(LABELS)))
    values = draw(st.lists(st.floats(0.0, 1), min_size=8, max_size=8).filter(any))
    shares = tuple(v / sum(values) for v in values)
    return Ballot(LABELS[shares.index(max(shares))], shares)


VOTES = st.dictionaries(st.sampled_from(VOTERS), any_ballot(), min_size=1)


@given(VOTES, st.sampled_from([0.0, 0.3, 0.7]))
def test_it_never_claims_more_than_its_voters_and_its_shares_are_shares(votes, least):
    shares = combiner().fitted.probabilities(votes)
    assert sum(shares) == pytest.approx(1)
    decision = decide(votes, rule(min_confidence=least))
    assert decision.leading in KNOWN
    claims = [
        b.probabilities[LABELS.index(decision.leading)] for b in votes.values() if b.probabilities
    ]
    if claims:
        assert decision.confidence <= max(claims)
    enough = not least or (decision.confidence or 0.0) >= least
    assert decision.label == (decision.leading if enough else UNKNOWN)


@given(VOTES, st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(votes, shuffler):
    items = list(votes.items())
    shuffler.shuffle(items)
    assert decide(dict(items), rule()) == decide(votes, rule())


# --- whom it accepts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voter", "model", "version", "words"),
    [
        ("S1", "tiny-speech", "2", ""),
        ("S1", "tiny-speech", "", ""),  # before the node has said which
        ("S2", "salmonn-13b", "1", "it was fitted on S1, ST1, T2, not on S2"),
        ("S1", "wavlm", "1", "it was fitted on S1 as tiny-speech, which is now wavlm"),
        ("S1", "tiny-speech", "3", "it was fitted on tiny-speech 2 as S1, not 3"),
    ],
)
def test_it_knows_its_voters_their_models_and_versions(voter, model, version, words):
    assert combiner().fault(voter, model, version) == words
    assert combiner(members={"S1": Member()}).fault("S1", "wavlm", "7") == "", "names no model"


# --- its file -------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path: Path):
    path, before = tmp_path / "c.json", combiner()
    write_combiner(path, before)
    after = read_combiner(path)
    assert replace(after, fitted=None) == replace(before, fitted=None)
    votes = {"S1": soft("sad", 0.6), "T2": soft("happy", 0.9)}
    for cast in (votes, votes | {"ST1": soft("fear", 0.8)}, {"T2": votes["T2"]}):
        np.testing.assert_allclose(
            after.fitted.probabilities(cast), before.fitted.probabilities(cast), atol=1e-8
        )
    assert list(tmp_path.iterdir()) == [path]
    assert max(map(len, path.read_text("utf-8").splitlines())) < 200, "people can read it"


def test_a_rule_without_regressions_has_a_file_as_well(tmp_path: Path):
    path = tmp_path / "c.json"
    write_combiner(path, combiner(method="weighted", fitted=None))
    after = read_combiner(path)
    assert (after.method, after.fitted) == ("weighted", None)
    assert after.weights == {"S1": 1.0, "ST1": 1.0, "T2": 0.5}
    assert after.temperatures == {"S1": 1.25, "ST1": 1.0, "T2": 2.0}


def test_missing_unwritable_and_other_files_are_named(tmp_path: Path):
    path = tmp_path / "c.json"
    for content in (b"", b"\xff\xfe", b"[1, 2]", b"{" * 100_000):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match="is not a combiner"):
            read_combiner(path)
    with pytest.raises(MissingFileError, match="no such file"):
        read_combiner(tmp_path / "none.json")
    with pytest.raises(MissingFileError, match="cannot be read"):
        read_combiner(tmp_path)
    with pytest.raises(WriteError, match="cannot be written"):
        write_combiner(tmp_path / "no" / "c.json", combiner())


STUMP = {
    "roots": np.array([0, 3]),
    "inputs": np.array([6, -1, -1, -1]),
    "thresholds": np.array([np.log(0.5), 0, 0, 0]),
    "others": np.array([2, 0, 1, 2]),
    "shares": np.array([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]),
}
"""Two trees over S1: one asks whether its share of sad is above one half, the other says happy."""


def forest(**changes) -> Combiner:
    fitted = Fitted(("happy", "sad"), {("S1",): Trees(**(STUMP | changes))})
    return Combiner("forest", {"S1": Member()}, fitted=fitted)


def test_trees_are_read_again_and_vote_by_their_leaves(tmp_path: Path):
    write_combiner(tmp_path / "c.json", forest())
    fitted = read_combiner(tmp_path / "c.json").fitted
    for share, sad in ((0.4, 0.25), (0.6, 0.5)):
        found = fitted.probabilities({"S1": soft("sad", share)})
        assert found[LABELS.index("sad")] == pytest.approx(sad)
        assert sum(found) == pytest.approx(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"roots": np.array([0, 4])},
        {"roots": np.array([], int)},
        {"inputs": np.array([8, -1, -1, -1])},
        {"others": np.array([1, 0, 1, 2])},
        {"others": np.array([0, 0, 1, 2])},
        {"others": np.array([4, 0, 1, 2])},
        {"others": np.array([2, 0, 1, 3])},
        {"others": np.array([2, 0, 1])},
        {"thresholds": np.array([0.0])},
        {"shares": np.ones((3, 2))},
        {"shares": np.ones((3, 1))},
    ],
)
def test_damaged_trees_are_refused(tmp_path: Path, changes):
    write_combiner(tmp_path / "c.json", forest(**changes))
    with pytest.raises(DamagedFileError, match="trees do not fit its voters and labels"):
        read_combiner(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda f: f.update(schema="abhinaya.combiner/1"), DamagedFileError, "combiner/1"),
        (lambda f: f.update(surprise=1), DamagedFileError, "unknown field"),
        (lambda f: f.pop("voters"), DamagedFileError, "voters"),
        (lambda f: f.update(voters={}), DamagedFileError, "names no voter"),
        (lambda f: f.update(method="guess"), DamagedFileError, "guess"),
        (lambda f: f.update(min_confidence=2), DamagedFileError, "min_confidence 2"),
        (lambda f: f["voters"]["S1"].update(temperature=0), DamagedFileError, "temperature of S1"),
        (lambda f: f["voters"]["S1"].update(weight=-1), DamagedFileError, "weight of S1"),
        (lambda f: f["inputs"].reverse(), LabelsError, "was fitted on the labels"),
        (lambda f: f.update(labels=["bored"]), LabelsError, "bored"),
        (lambda f: f.update(labels=["sad", "sad"]), LabelsError, "sad"),
        (lambda f: f["layers"].pop("S1+ST1+T2"), DamagedFileError, "all of its voters"),
        (lambda f: f["voters"].pop("S1"), DamagedFileError, "all of its voters"),
        (lambda f: f["layers"].update({"S1+X": f["layers"].pop("S1")}), DamagedFileError, "16 inp"),
        (lambda f: f["layers"].update({"ST1+S1": f["layers"].pop("S1+ST1")}),
         DamagedFileError, "ST1.S1 does not have its voters in order"),
        (lambda f: f["layers"].update(S1=[]), DamagedFileError, "S1 does not have 8 inputs and 7"),
        (lambda f: f["layers"]["S1"][0]["bias"].pop(), DamagedFileError, "model of S1 does not"),
        (lambda f: f["layers"]["S1"][0]["weights"][0].pop(), DamagedFileError, "different lengths"),
        (lambda f: [row.pop() for row in f["layers"]["S1"][0]["weights"]],
         DamagedFileError, "S1 does not have 8 inputs and 7 outputs"),
        (lambda f: f["layers"]["S1"][0]["bias"].append(1e999), DamagedFileError, "c.json"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_what_is_wrong(tmp_path: Path, change, kind, words):
    path = tmp_path / "c.json"
    write_combiner(path, combiner())
    values = json.loads(path.read_text("utf-8"))
    change(values)
    path.write_text(json.dumps(values), "utf-8")
    with pytest.raises(kind, match=words):
        read_combiner(path)
