from __future__ import annotations

import numpy as np
import pytest
import torch

from abhinaya.models.tiny.head import Head, combined_scores, softmax
from abhinaya.train.tiny.network import Network

FEATURES, WORDS, CLASSES = 12, 5, 7


def both(words: int, plain: bool) -> tuple[Network, Head]:
    torch.manual_seed(1)
    sizes = FEATURES, words, CLASSES
    network = (Network(*sizes) if plain else Network(*sizes, projected=9, hidden=6)).eval()
    return network, Head({name: value.numpy() for name, value in network.state_dict().items()})


@pytest.mark.parametrize("frames", [1, 2, 500])
@pytest.mark.parametrize("words", [0, WORDS])
@pytest.mark.parametrize("plain", [False, True])
def test_numpy_gives_what_torch_gives(frames: int, words: int, plain: bool) -> None:
    network, head = both(words, plain)
    assert head.attentive is not plain
    rng = np.random.default_rng(frames)
    heard = rng.normal(0.3, 2.0, (frames, FEATURES)).astype(np.float32)
    said = rng.normal(0.0, 1.0, words).astype(np.float32)
    with torch.no_grad():
        mask = torch.ones(1, frames, dtype=torch.bool)
        expected = network(torch.from_numpy(heard)[None], mask, torch.from_numpy(said)[None])[0]
    found = head.scores(heard, said if words else None)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("plain", [False, True])
def test_padding_never_reaches_a_result(plain: bool) -> None:
    network, _ = both(0, plain)
    heard = torch.randn(1, 40, FEATURES)
    longer = torch.cat([heard, 100.0 * torch.randn(1, 13, FEATURES)], dim=1)
    mask = torch.arange(53)[None] < 40
    none = torch.zeros(1, 0)
    with torch.no_grad():
        alone = network(heard, mask[:, :40], none)
        torch.testing.assert_close(network(longer, mask, none), alone, atol=1e-5, rtol=1e-5)


def test_a_plain_head_by_hand() -> None:
    frames = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    pooled = [2.0, 5.0, 0.5 * np.log(1.01), 0.5 * np.log(0.01)]
    head = Head({"out.weight": np.eye(4, dtype=np.float32), "out.bias": np.zeros(4, np.float32)})
    np.testing.assert_allclose(head.scores(frames), pooled, rtol=1e-4)
    found = softmax(np.array([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], atol=1e-6)


def test_the_attentive_and_the_plain_heads_count_alike() -> None:
    frames = np.random.default_rng(0).normal(0.0, 1.0, (30, FEATURES)).astype(np.float32)
    first, plain = both(0, plain=False)[1], both(0, plain=True)[1]
    second = Head({name: 2.0 * value for name, value in first.weights.items()})
    a, b, c = (head.scores(frames) for head in (first, second, plain))
    np.testing.assert_allclose(
        combined_scores([first, plain, second], frames, None),
        0.35 * (a + b) / 2 + 0.65 * c,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        combined_scores([first, second], frames, None), (a + b) / 2, rtol=1e-5
    )
