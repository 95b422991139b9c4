from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
from places import GOLDEN
from safetensors.torch import load_file
from torch import Tensor, nn


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Path]:
    """Path of a golden file; skips where the files are not there."""

    def find(name: str) -> Path:
        path = GOLDEN / name
        if not path.exists():
            pytest.skip(f"golden values are not at {GOLDEN}")
        return path

    return find


@pytest.fixture(scope="session")
def golden_tensors(golden: Callable[[str], Path]) -> Callable[[str], dict[str, Tensor]]:
    return lambda name: load_file(golden(name))


@pytest.fixture(scope="session")
def close() -> Callable[[Tensor, Tensor, float], None]:
    """Assert that the largest absolute difference is within a bound, and say how large it is."""

    def check(found: Tensor, expected: Tensor, bound: float) -> None:
        assert found.shape == expected.shape
        worst = (found.detach().double() - expected.double()).abs().max().item()
        assert worst <= bound, f"largest difference {worst:.3g}, bound {bound:.3g}"

    return check


@pytest.fixture(scope="session")
def shaken() -> Callable[[nn.Module, int], nn.Module]:
    return tiny_checkpoints.shaken


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory) -> Callable[..., Path]:
    """Save a causal language model of random weights, each time in a folder of its own."""
    return lambda **more: tiny_checkpoints.save_llm(tmp_path_factory.mktemp("llm"), **more)


@pytest.fixture
def speech() -> Callable[..., np.ndarray]:
    """Something like a voice: harmonics under a moving envelope, with noise."""

    def make(samples: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        t = np.arange(samples) / 16_000
        pitch = 2 * np.pi * (120 + 40 * seed) * t + np.sin(2 * np.pi * 5 * t)
        wave = sum(np.sin(k * pitch) / k for k in range(1, 6)) * (1 + np.sin(9 * t)) * 0.1
        wave = (wave + 0.01 * rng.standard_normal(samples)).astype(np.float32)
        wave.flags.writeable = False  # as it comes off a socket
        return wave

    return make
