from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from abhinaya.models.base import Abstention, Ballot, Utterance
from abhinaya.models.errors import LabelsError, RunError
from abhinaya.models.inference import weigh
from abhinaya.models.labels import CANONICAL_MAP, LABELS, label_map
from abhinaya.models.published.voting_batch import answers, serve, to_ballot, unfit_audio


def segments(count: int) -> list[Utterance]:
    return [Utterance(np.full(1600, i, np.float32)) for i in range(count)]


def one_hot(batch: list[Utterance]) -> torch.Tensor:
    return torch.eye(8)[[int(u.samples[0]) % 8 for u in batch]]


def fit(utterance: Utterance) -> str | None:
    return unfit_audio(utterance, 400)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 100])
def test_a_batch_that_does_not_fit_is_halved_and_keeps_its_order(room: int) -> None:
    sizes: list[int] = []

    def run(batch: list[Utterance]) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return one_hot(batch)

    answers = serve(segments(13), fit, run, CANONICAL_MAP)
    assert [a.label for a in answers] == [LABELS[i % 8] for i in range(13)]
    assert max(s for s in sizes if s <= room) <= room


def test_one_segment_that_does_not_fit_is_an_error_with_a_remedy() -> None:
    def run(batch: list[Utterance]) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match=r"segment of 0\.1 s.*even alone.*quantize"):
        serve(segments(4), fit, run, CANONICAL_MAP)
    assert serve([], fit, run, CANONICAL_MAP) == []
    answers = serve([Utterance(np.zeros(3, np.float32))], fit, run, CANONICAL_MAP)
    assert isinstance(answers[0], Abstention), "nothing runs when nothing is fit"


def test_scores_that_are_not_finite_abstain_alone() -> None:
    def run(batch: list[Utterance]) -> torch.Tensor:
        scores = one_hot(batch)
        scores[1] = float("nan")
        return scores

    answers = serve(segments(3), fit, run, CANONICAL_MAP)
    assert isinstance(answers[1], Abstention)
    assert [answers[0].label, answers[2].label] == [LABELS[0], LABELS[2]]


def test_mapped_probabilities_sum_to_one() -> None:
    labels = label_map(("other", "joy", "sad", "excited"), "m")
    answer = to_ballot(torch.tensor([0.3, 0.2, 0.4, 0.1]), labels)
    assert answer.label == "sad"
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.probabilities[LABELS.index("happy")] == pytest.approx(0.3 / 0.7)


def test_attributes_are_found_by_name_beside_classes_and_alone() -> None:
    mixed = label_map(("sad", "Dominance", "joy", "arousal", "other", "Valence"), "m")
    assert (mixed.names, mixed.labels) == (("sad", "joy", "other"), ("happy", "sad"))
    scores = torch.tensor([[1.0, 0.0, 3.0, 100.0, 0.0, -100.0]])
    (row,) = answers(scores, mixed)
    answer = to_ballot(row, mixed)
    assert answer.label == "happy"
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.attributes == pytest.approx((7.0, 1.0, 4.0))
    other = to_ballot(answers(scores + torch.tensor([0.0, 0, 0, 0, 9, 0]), mixed)[0], mixed)
    assert other == Ballot(attributes=answer.attributes), "no label of the eight, but attributes"

    alone = label_map(("arousal", "dominance", "valence"), "m")
    assert (alone.labels, alone.attributes) == ((), (0, 2, 1))
    linear = answers(torch.tensor([[0.25, 1.5, -0.5]]), alone, linear=True)[0]
    assert to_ballot(linear, alone) == Ballot(attributes=(2.5, 1.0, 7.0))
    gone = to_ballot(torch.tensor([0.1, float("nan"), 0.2]), alone)
    assert isinstance(gone, Abstention)
    with pytest.raises(LabelsError, match="gives attributes, but not dominance"):
        label_map(("sad", "joy", "arousal", "valence"), "m")


def test_weights_that_two_modules_share_count_once() -> None:
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2).to(torch.bfloat16)
    other.register_buffer("seen", torch.zeros(5, dtype=torch.int64))
    size = weigh(one, torch.nn.Sequential(one, other))
    assert (size.tensors, size.parameters) == (4, 16)
    assert size.memory_mb == pytest.approx((8 * 4 + 8 * 2 + 5 * 8) / 1e6)


def test_weights_of_four_bits_count_as_what_they_stand_for() -> None:
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    module.weight.quant_state = SimpleNamespace(shape=torch.Size([4, 4]))
    size = weigh(module)
    assert (size.parameters, size.memory_mb) == (16, pytest.approx(8 / 1e6))
