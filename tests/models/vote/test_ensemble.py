"""The vote: the published cases, all of them, and laws that any rule must keep."""

import hashlib
import itertools
import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import GOLDEN

from abhinaya.models.base import Ballot
from abhinaya.models.labels import HIGH, LABELS, LOW, UNKNOWN
from abhinaya.models.vote.ensemble import PRIORITY, Rule, decide, order, tempered

VOTING = GOLDEN / "voting.json"
LETTERS = dict(zip("ACDFHNSU", LABELS, strict=True))
POLICIES = ("tiebreaker_label", "tiebreaker_within_tied")


def hard(**votes: str) -> dict[str, Ballot]:
    """Ballots of voters that give just a label."""
    return {voter: Ballot(label) for voter, label in votes.items()}


def soft(label: str, probability: float) -> Ballot:
    """A ballot that gives `label` the probability and shares the rest among the others."""
    rest = (1 - probability) / (len(LABELS) - 1)
    return Ballot(label, tuple(probability if name == label else rest for name in LABELS))


@pytest.fixture(scope="module")
def golden():
    if not VOTING.exists():
        pytest.skip(f"{VOTING} is not on this machine")
    return json.loads(VOTING.read_text("utf-8"))


# --- the published rule ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_all_explicit_golden_cases(golden, policy):
    assert list(golden["class_order"]) == list(LETTERS)
    assert tuple(golden["explicit"][0]["priority"]) == PRIORITY
    assert len(golden["explicit"]) == 41
    for case in golden["explicit"]:
        votes = {v: LETTERS[c] for v, c in case["votes"].items() if c is not None}
        decision = decide(hard(**votes), Rule(tie_policy=policy, priority=tuple(case["priority"])))
        assert decision.label == LETTERS[case[policy]], case
        assert bool(decision.tie_breaker) == case["tie"], case
        assert (decision.margin == 0) == case["tie"], case


def test_all_exhaustive_golden_blocks(golden):
    """Every vote vector of every subset of the five voters, under both policies."""
    assert len(golden["exhaustive"]) == 31
    ballots = [Ballot(label) for label in LABELS]
    for block in golden["exhaustive"]:
        rules = [Rule(tie_policy=p, priority=tuple(block["priority"])) for p in POLICIES]
        outputs: list[bytearray] = [bytearray(), bytearray()]
        ties = among = differ = 0
        same = [dict.fromkeys(block["present"], 0), dict.fromkeys(block["present"], 0)]
        for vector in itertools.product(range(8), repeat=len(block["present"])):
            cast = dict(zip(block["present"], (ballots[c] for c in vector), strict=True))
            made = [decide(cast, rule) for rule in rules]
            winners = [LABELS.index(decision.label) for decision in made]
            for out, winner, counts in zip(outputs, winners, same, strict=True):
                out.append(winner)
                for voter, c in zip(cast, vector, strict=True):
                    counts[voter] += c == winner
            ties += bool(made[0].tie_breaker)
            among += bool(made[0].tie_breaker) and made[0].tie_breaker == made[1].tie_breaker
            differ += winners[0] != winners[1]
        assert len(outputs[0]) == block["vectors"]
        assert ties == block["ties"]
        assert len(outputs[0]) - ties == block["unique_winner"]
        assert among == block["tie_decider_label_among_tied"]
        assert ties - among == block["tie_decider_label_not_among_tied"]
        assert differ == block["policies_differ"]
        for policy, out, counts in zip(POLICIES, outputs, same, strict=True):
            assert hashlib.sha256(out).hexdigest() == block[policy]["sha256"], block["present"]
            assert counts == block[policy]["output_equals_system"]


def test_a_voter_outside_the_priority_comes_last_in_name_order():
    assert order(["zeta", "T1", "alpha", "S2"], PRIORITY) == ["S2", "T1", "alpha", "zeta"]
    decision = decide(hard(zeta="sad", alpha="happy"), Rule())
    assert (decision.label, decision.tie_breaker) == ("happy", "alpha")


# --- figures around the label ---------------------------------------------------------------------


def test_confidence_is_the_mean_over_those_who_give_probabilities():
    votes = {"S1": soft("sad", 0.9), "T2": soft("happy", 0.86), "T1": Ballot("sad")}
    decision = decide(votes, Rule())
    assert decision.label == "sad"
    assert decision.confidence == pytest.approx((0.9 + 0.02) / 2)
    assert decision.agreement == pytest.approx(2 / 3)
    assert decision.margin == pytest.approx(1 / 3)


# --- attributes -----------------------------------------------------------------------------------

rated = st.none() | st.tuples(*[st.floats(LOW, HIGH)] * 3)


@given(
    st.dictionaries(st.sampled_from("ABCDE"), rated),
    st.dictionaries(st.sampled_from("VWXYZ"), st.tuples(st.sampled_from(LABELS), rated)),
)
def test_attributes_are_the_mean_of_those_who_gave_them_and_change_no_label(alone, both):
    only = {voter: Ballot(attributes=given) for voter, given in alone.items() if given}
    votes = {voter: Ballot(label, attributes=given) for voter, (label, given) in both.items()}
    decision, without = decide(only | votes, Rule()), decide(votes, Rule())
    found = [b.attributes for b in (only | votes).values() if b.attributes]
    if not found:
        assert decision.attributes is None
    else:
        mean = [math.fsum(values) / len(found) for values in zip(*found, strict=True)]
        assert decision.attributes == pytest.approx(mean)
        assert all(LOW <= value <= HIGH for value in decision.attributes)
    if votes or not only:
        assert replace(decision, attributes=None) == replace(without, attributes=None)
    else:
        assert (decision.label, decision.leading) == (UNKNOWN, "")
        assert "give only attributes" in decision.reason


def test_a_ballot_with_neither_label_nor_attributes_is_refused():
    for ballot in (Ballot(), Ballot(probabilities=(0.125,) * 8, attributes=(1, 2, 3))):
        with pytest.raises(ValueError, match="A voted for ''"):
            decide({"A": ballot}, Rule())


# --- quorum ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["majority", "mean", "weighted"])
def test_below_the_quorum_the_label_is_unknown_and_says_why(method):
    rule = Rule(method=method, quorum=3)
    decision = decide({"S1": soft("sad", 0.9), "T2": soft("sad", 0.9)}, rule)
    assert (decision.label, decision.reason) == (UNKNOWN, "2 votes of at least 3")
    assert (decision.confidence, decision.agreement) == (None, 0.0)
    enough = {name: soft("sad", 0.9) for name in ("S1", "T2", "ST1")}
    assert decide(enough, rule).label == "sad"
    assert decide({}, replace(rule, quorum=1)).reason == "0 votes of at least 1"


# --- withholding ----------------------------------------------------------------------------------


def test_below_the_least_confidence_the_label_is_unknown_and_shows_what_it_would_have_been():
    reason = decide({"S1": soft("sad", 0.49999)}, Rule(min_confidence=0.5)).reason
    assert reason == "the confidence of sad is 0.499, below 0.5", "never as if it were enough"
    votes = {"S1": soft("sad", 0.5), "T2": soft("happy", 0.48), "ST1": soft("sad", 0.4)}
    decision = decide(votes, Rule(min_confidence=0.4))
    mean = (0.5 + 0.52 / 7 + 0.4) / 3
    assert (decision.label, decision.leading) == (UNKNOWN, "sad")
    assert decision.reason == "the confidence of sad is 0.324, below 0.4"
    assert decision.confidence == pytest.approx(mean)
    assert (decision.agreement, decision.margin) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert decide(votes, Rule(min_confidence=mean - 1e-9)).label == "sad"


def test_voters_without_probabilities_reach_no_threshold():
    decision = decide(hard(S1="sad", T1="sad"), Rule(min_confidence=0.1))
    assert (decision.label, decision.leading, decision.confidence) == (UNKNOWN, "sad", None)
    reason = "no voter gives probabilities: sad has no confidence, and 0.1 is required"
    assert decision.reason == reason


def test_a_temperature_changes_the_confidence_and_not_the_vote():
    votes = {"S1": soft("sad", 0.9), "T2": soft("happy", 0.6), "ST1": soft("happy", 0.6)}
    plain, flat = decide(votes, Rule("mean")), decide(votes, Rule("mean", temperatures={"S1": 3}))
    assert (plain.label, plain.margin) == (flat.label, flat.margin) == ("happy", plain.margin)
    # 0.9 ^ (1/3) against seven times (0.1 / 7) ^ (1/3)
    rest = (0.1 / 7) ** (1 / 3) / (0.9 ** (1 / 3) + 7 * (0.1 / 7) ** (1 / 3))
    assert flat.confidence == pytest.approx((rest + 0.6 + 0.6) / 3)
    votes = {"S1": soft("sad", 0.6), "T2": soft("sad", 0.4)}
    sharp = decide(votes, Rule(temperatures={"S1": 0.1, "T2": 0.1}))
    assert sharp.confidence == 0.6, "no further than the surest voter as cast"


@given(st.lists(st.floats(0.0, 1), min_size=8, max_size=8).filter(any), st.floats(0.05, 20))
def test_tempering_keeps_the_order_and_the_sum(values, temperature):
    before = normalised(values)
    after = tempered(before, temperature)
    assert math.fsum(after) == pytest.approx(1)
    for i, j in itertools.combinations(range(8), 2):
        assert not (before[i] < before[j] and after[i] > after[j])


# --- means ----------------------------------------------------------------------------------------


def test_one_sure_voter_outweighs_two_unsure_ones_in_the_mean_only():
    votes = {"S1": soft("angry", 0.98), "T2": soft("sad", 0.3), "ST1": soft("sad", 0.3)}
    assert decide(votes, Rule(method="majority")).label == "sad"
    decision = decide(votes, Rule(method="mean"))
    assert decision.label == "angry"
    assert decision.agreement == pytest.approx(1 / 3)
    assert decision.confidence == pytest.approx((0.98 + 0.1 + 0.1) / 3)
    # a label alone counts as certain in the mean, but not in the confidence
    decision = decide({"T1": Ballot("happy"), "S1": soft("sad", 0.65)}, Rule(method="mean"))
    assert (decision.label, decision.confidence) == ("happy", pytest.approx(0.05))


def test_weights_move_the_mean_and_default_to_one_and_without_one_a_voter_is_not_heard():
    votes = {"S1": soft("angry", 0.9), "T2": soft("sad", 0.8)}
    assert decide(votes, Rule(method="weighted")).label == "angry"
    assert decide(votes, Rule(method="weighted", weights={"T2": 2.0})).label == "sad"
    assert decide(votes, Rule(method="weighted", weights={"S1": 0.0})).label == "sad"
    assert decide(votes, Rule(method="mean", weights={"T2": 2.0})).label == "angry"
    nobody = decide({"S1": votes["S1"]}, Rule(method="weighted", weights={"S1": 0.0}))
    assert (nobody.label, nobody.reason) == (UNKNOWN, "every voter that answered has weight 0")


def test_uncertainty_weighs_each_voter_by_how_sure_it_is_in_this_case():
    flat = Ballot("happy", (0.12, 0.12, 0.12, 0.12, 0.16, 0.12, 0.12, 0.12))
    votes = {"S1": flat, "S2": flat, "T2": soft("sad", 0.45)}
    assert decide(votes, Rule("uncertainty")).label == "sad"
    assert decide(votes | {"S1": soft("happy", 0.9)}, Rule("uncertainty")).label == "happy"
    two = {"S1": soft("happy", 0.6), "T2": soft("sad", 0.55)}
    assert decide(two, Rule("uncertainty")).label == "happy"
    assert decide(two, Rule("uncertainty", temperatures={"S1": 3.0})).label == "sad"
    even = Ballot("angry", (0.125,) * 8)
    assert decide({"S1": even, "S2": even}, Rule("uncertainty")).label == "angry"
    # a bare label is as sure as the others are on average: here, twice the mean of two
    assert decide({"T1": Ballot("fear"), **two}, Rule("uncertainty")).label == "fear"


def test_equal_means_are_decided_within_the_tied_labels_by_priority():
    votes = {"S1": soft("sad", 0.6), "S2": soft("angry", 0.6)}
    for policy in POLICIES:
        decision = decide(votes, Rule(method="mean", tie_policy=policy))
        assert (decision.label, decision.tie_breaker, decision.margin) == ("angry", "S2", 0)


def test_equal_means_on_labels_nobody_chose_follow_the_order_of_labels():
    first = Ballot("angry", (0.4, 0.0, 0.0, 0.3, 0.0, 0.3, 0.0, 0.0))
    second = Ballot("sad", (0.0, 0.0, 0.0, 0.3, 0.0, 0.3, 0.4, 0.0))
    decision = decide({"S1": first, "T2": second}, Rule(method="mean"))
    assert (decision.label, decision.agreement, decision.tie_breaker) == ("fear", 0.0, "")


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(({"temperatures": {"S1": x}}, "temperature of S1") for x in (0.0, -1.0, math.nan)),
        *(({"weights": {"S1": x}}, "weight of S1") for x in (-1.0, math.nan, math.inf)),
        *(({"min_confidence": x}, "min_confidence") for x in (-0.1, 1.1, math.nan)),
        ({"temperatures": {"S1": math.inf}}, "temperature of S1"),
        ({"quorum": 0}, "quorum"),
        ({"refine_top": 1}, "at least 2"),
        ({"method": "logistic"}, "needs its fitted file"),
    ],
)
def test_an_impossible_rule_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        Rule(**changes)


@pytest.mark.parametrize(
    ("ballot", "words"),
    [
        *((Ballot(label), "S1 voted") for label in ("unknown", "joy", "")),
        (Ballot("sad", (0.5, 0.5)), "2 probabilities for 8"),
    ],
)
def test_an_impossible_vote_is_refused(ballot, words):
    with pytest.raises(ValueError, match=words):
        decide({"S1": ballot}, Rule())


# --- laws -----------------------------------------------------------------------------------------


def normalised(values: list[float]) -> tuple[float, ...]:
    total = sum(values)
    return tuple(v / total for v in values)


@st.composite
def ballot_of_any_kind(draw):
    if draw(st.booleans()):
        return Ballot(draw(st.sampled_from(LABELS)))
    probabilities = normalised(draw(st.lists(st.floats(0.01, 1), min_size=8, max_size=8)))
    return Ballot(LABELS[probabilities.index(max(probabilities))], probabilities)


NAMES = st.sampled_from(["S1", "S2", "T1", "T2", "ST1", "a", "b"])
VOTES = st.dictionaries(NAMES, ballot_of_any_kind(), min_size=1)
RULES = st.builds(
    Rule,
    method=st.sampled_from(["majority", "mean", "weighted"]),
    tie_policy=st.sampled_from(POLICIES),
    priority=st.permutations(PRIORITY).map(tuple),
    weights=st.dictionaries(NAMES, st.floats(0.1, 5)),
    min_confidence=st.sampled_from([0.0, 0.0, 0.2, 0.5, 1.0]),
    temperatures=st.dictionaries(NAMES, st.floats(0.1, 10)),
)


@given(VOTES, RULES, st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(votes, rule, shuffler: random.Random):
    items = list(votes.items())
    shuffler.shuffle(items)
    assert decide(dict(items), rule) == decide(votes, rule)


@given(VOTES, RULES)
def test_figures_stay_within_what_the_voters_say(votes, rule):
    """A verdict never claims more than its voters do, whatever the temperatures."""
    decision = decide(votes, rule)
    leading = decision.leading
    assert leading in LABELS
    assert 0 <= decision.margin <= 1 + 1e-9
    assert decision.agreement == sum(b.label == leading for b in votes.values()) / len(votes)
    column = LABELS.index(leading)
    claims = [b.probabilities[column] for b in votes.values() if b.probabilities is not None]
    if not claims:
        assert decision.confidence is None
        return
    assert 0 <= decision.confidence <= max(claims)
    if not rule.temperatures:
        assert decision.confidence >= min(claims) - 1e-12


@given(VOTES, RULES)
def test_a_threshold_withholds_the_label_and_changes_nothing_else(votes, rule):
    decision, free = decide(votes, rule), decide(votes, replace(rule, min_confidence=0.0))
    assert (free.label, free.reason) == (free.leading, "")
    assert replace(decision, label="", reason="") == replace(free, label="", reason="")
    least = rule.min_confidence
    enough = least == 0 or (decision.confidence is not None and decision.confidence >= least)
    assert decision.label == (free.label if enough else UNKNOWN)
    assert bool(decision.reason) == (not enough)


@given(st.sampled_from(LABELS), st.sets(NAMES, min_size=1), RULES)
def test_the_unanimous_have_their_way(label, names, rule):
    decision = decide({name: Ballot(label) for name in names}, rule)
    assert (decision.leading, decision.agreement) == (label, 1.0)


@given(VOTES, RULES, st.permutations(LABELS))
def test_majority_does_not_care_what_the_labels_are_called(votes, rule, renamed):
    rule = replace(rule, method="majority")
    names = dict(zip(LABELS, renamed, strict=True))
    ballots = {voter: Ballot(b.label) for voter, b in votes.items()}
    other = {voter: Ballot(names[b.label]) for voter, b in ballots.items()}
    assert decide(other, rule).leading == names[decide(ballots, rule).leading]


# --- a second opinion -----------------------------------------------------------------------------


def test_a_close_call_names_the_labels_in_front():
    votes = {"S1": soft("sad", 0.5), "T2": soft("happy", 0.48), "ST1": soft("fear", 0.3)}
    rule = Rule("mean", refine_margin=0.2, refine_top=2)
    decision = decide(votes, rule)
    assert decision.ranking[:3] == ("sad", "happy", "fear")
    assert len(decision.ranking) == 8
    assert decision.contested(rule) == ("sad", "happy")
    assert decision.contested(replace(rule, refine_top=3)) == ("sad", "happy", "fear")
    assert decision.contested(replace(rule, refine_margin=0.001)) == ()
    assert decision.contested(Rule("mean")) == ()


def test_who_breaks_a_tie_leads_also_with_a_label_that_is_not_among_the_tied():
    votes = hard(S1="sad", T1="sad", T2="happy", ST1="happy", S2="fear")
    rule = Rule(refine_margin=0.2, refine_top=3)
    decision = decide(votes, rule)
    assert (decision.label, decision.agreement, decision.margin) == ("fear", 0.2, 0)
    assert decision.contested(rule) == ("fear", "happy", "sad")


def test_the_unanimous_and_the_withheld_are_not_contested():
    rule = Rule(refine_margin=1.0, min_confidence=0.9)
    assert decide(hard(S1="sad", T1="sad"), replace(rule, min_confidence=0)).contested(rule) == ()
    assert decide({"S1": soft("sad", 0.5), "T2": soft("fear", 0.5)}, rule).contested(rule) == ()


def test_an_opinion_moves_a_close_call_and_claims_no_more_than_the_voters():
    votes = {"S1": soft("sad", 0.5), "T2": soft("happy", 0.48), "ST1": soft("fear", 0.3)}
    rule = Rule("mean", refine_margin=0.2)
    moved = decide(votes, rule, "happy")
    assert (moved.label, moved.margin, moved.agreement) == ("happy", 0.0, pytest.approx(1 / 3))
    assert moved.confidence == pytest.approx((0.5 / 7 + 0.48 + 0.1) / 3)
    assert decide(votes, rule, "fear") == decide(votes, rule), "not among the first two"
    assert decide(votes, rule, "sad") == decide(votes, rule), "what led anyway"
    clear = replace(rule, refine_margin=0.001)
    assert decide(votes, clear, "happy") == decide(votes, clear)


@given(VOTES, RULES, st.sampled_from(LABELS), st.floats(0, 1), st.integers(2, 8))
def test_an_opinion_never_goes_beyond_what_was_in_question(votes, rule, opinion, margin, top):
    rule = replace(rule, refine_margin=margin, refine_top=top)
    before, after = decide(votes, rule), decide(votes, rule, opinion)
    allowed = before.margin < margin and opinion in before.ranking[:top]
    assert after.leading == (opinion if allowed else before.leading)
    column = LABELS.index(after.leading)
    claims = [b.probabilities[column] for b in votes.values() if b.probabilities is not None]
    assert (after.confidence or 0.0) <= max(claims, default=0.0)
