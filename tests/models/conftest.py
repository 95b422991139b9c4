from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"

torch.set_num_threads(1)


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
