"""Parity with the published models, from what a fresh clone has (`tests/golden/README.md`).

The stages of each model are compared with the large golden set in `tests/models/published`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoints
import torch
from places import ROOT
from sounds import buzz, glide

from abhinaya.models.base import Ballot, Utterance
from abhinaya.models.labels import LABELS
from abhinaya.models.published.heads import AttentiveMean, AttentiveStatistics
from abhinaya.models.registry import load
from abhinaya.models.served.prompting import PUBLISHED_SAMPLING, published_messages
from abhinaya.models.vote.ensemble import Rule, decide
from abhinaya.train.loop.losses import (
    class_weights,
    vector_scaling,
    weighted_cross_entropy,
    weighted_focal,
)

GOLDEN = ROOT / "tests" / "golden"
PUBLISHED = json.loads((GOLDEN / "published.json").read_text("utf-8"))
VOTERS = GOLDEN / "voters.json"
LETTERS = dict(zip("ACDFHNSU", LABELS, strict=True))
CPU = {"device": "cpu", "dtype": "float32"}


@pytest.mark.parametrize("case", PUBLISHED["losses"], ids=lambda case: case["name"])
def test_losses_are_the_published_ones(case: dict[str, Any]) -> None:
    z = torch.tensor(case["logits"], dtype=torch.float64)
    y = torch.tensor(case["targets"])
    weights = class_weights(case["class_counts"])
    for reduction in ("paper", "weighted_mean", "broadcast"):
        found = {
            "wce": weighted_cross_entropy(z, y, weights, reduction),
            "wfl": weighted_focal(z, y, weights, case["focal_gamma"], reduction),
            "vs": vector_scaling(
                z, y, case["class_counts"], weights, case["vs_gamma"], case["vs_tau"], reduction
            ),
        }
        for kind, wanted in case[reduction].items():
            assert found[kind].item() == pytest.approx(wanted, rel=1e-12), (reduction, kind)


def test_votes_are_decided_as_published() -> None:
    assert len(PUBLISHED["voting"]) == 41
    for case in PUBLISHED["voting"]:
        ballots = {
            voter: Ballot(LETTERS[letter], None)
            for voter, letter in case["votes"].items()
            if letter is not None
        }
        for policy in ("tiebreaker_label", "tiebreaker_within_tied"):
            rule = Rule(tie_policy=policy, priority=tuple(case["priority"]))
            decision = decide(ballots, rule)
            assert decision.label == LETTERS[case[policy]], case
            assert bool(decision.tie_breaker) == case["tie"], case


@pytest.mark.parametrize("suffix", ["masked", "unmasked"])
def test_pooling_is_the_published_one(suffix: str) -> None:
    g = {key: torch.tensor(value) for key, value in PUBLISHED["pooling"].items()}
    mask = g["mask"].bool() if suffix == "masked" else None
    statistics, mean = AttentiveStatistics(g["x"].shape[-1]), AttentiveMean(g["x"].shape[-1])
    statistics.load_state_dict(
        {key: g[key] for key in ("attention", "sap_linear.weight", "sap_linear.bias")}
    )
    mean.load_state_dict({key: g[f"attn_mean.{key}"] for key in ("W.weight", "W.bias")})
    for module, name in ((statistics, "asp"), (mean, "attn_mean")):
        torch.testing.assert_close(module(g["x"], mask), g[f"{name}_{suffix}"], atol=2e-5, rtol=0)


def test_t1_asks_as_published() -> None:
    golden = PUBLISHED["t1"]
    transcript, user = golden["user"]
    system, asked = published_messages(Utterance(buzz(180, 1.0), transcript=transcript))
    assert system["content"].endswith(golden["system_ends"])
    assert asked == {"role": "user", "content": user}
    assert golden["sampling"] == PUBLISHED_SAMPLING


def answers(folder: Path) -> dict[str, list[list[float]]]:
    """Return what each voter of the paper but T1 says of three segments, with weights by seed."""
    llm = tiny_checkpoints.save_llm(folder / "llama")
    checkpoint, _ = tiny_checkpoints.save_llama_lora(llm, folder)
    salmonn = tiny_checkpoints.save_salmonn(folder)
    voters = {
        "S1": ("wavlm", {"checkpoint": str(tiny_checkpoints.save_wavlm(folder / "s1"))}),
        "S2": ("salmonn-13b", salmonn.options("13b")),
        "T2": ("llama-lora", {"llm": str(llm), "checkpoint": str(checkpoint)}),
        "ST1": ("salmonn-7b", salmonn.options("7b")),
    }
    sounds = (buzz(180, 1.0), glide(110, 240, 0.7), buzz(90, 1.9))
    words = ("I won!", "no", "This is the worst of all things that could have happened.")
    segments = [Utterance(s, transcript=w) for s, w in zip(sounds, words, strict=True)]
    found = {}
    for name, (model, options) in voters.items():
        ballots = load(model, {**options, **CPU}).vote(segments)
        assert all(isinstance(ballot, Ballot) for ballot in ballots)
        found[name] = [[round(p, 7) for p in ballot.probabilities] for ballot in ballots]
    return found


def test_voters_answer_as_they_did_where_they_equalled_the_published_ones(tmp_path: Path) -> None:
    found = answers(tmp_path)
    if os.environ.get("WRITE_GOLDEN"):
        rows = (f'"{name}": {json.dumps(rows)}' for name, rows in found.items())
        VOTERS.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")
    expected = json.loads(VOTERS.read_text("utf-8"))
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        np.testing.assert_allclose(found[name], rows, atol=2e-5, err_msg=name)
        assert np.ptp(rows, axis=0).max() > 0.01, f"{name} tells the segments apart"
